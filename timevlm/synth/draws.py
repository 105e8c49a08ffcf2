"""Draws that both levels of the world share."""

import random
from collections.abc import Sequence

from timevlm.synth.spec import RGB


def sample_time(rng: random.Random, low: int, high: int) -> int:
    """A time in tenths within [low, high], mostly a whole or half second: 1-2 fps can be exact."""
    step = rng.choices((10, 5, 2), weights=(65, 27, 8))[0]
    for candidate in (step, 5, 1):
        first, last = -(-low // candidate), high // candidate
        if first <= last:
            return candidate * rng.randint(first, last)
    raise ValueError(f"no time between {low} and {high} tenths")


def jittered(rng: random.Random, colour: Sequence[int]) -> RGB:
    """A colour near the palette's, so that no exact value gives it away."""
    r, g, b = (min(255.0, max(0.0, c + rng.uniform(-8.0, 8.0))) for c in colour)
    return (round(r, 1), round(g, 1), round(b, 1))
