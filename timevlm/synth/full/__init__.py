"""Level "full" of the world: more of everything, on the same clock and the same rules."""
