"""Training of the embedded model on the procedural world."""
