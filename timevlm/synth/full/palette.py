"""The closed lists of level "full"; the names of level "basic" keep their places at the front."""

import functools
import hashlib
from dataclasses import dataclass

from timevlm.synth.palette import COLOURS as BASIC_COLOURS
from timevlm.synth.palette import MOTIONS as BASIC_MOTIONS
from timevlm.synth.palette import SHAPES

COLOURS: dict[str, tuple[int, int, int]] = {
    **BASIC_COLOURS,
    "cyan": (40, 214, 222),
    "brown": (124, 68, 26),
    "black": (14, 14, 16),
}

PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
# Patterns are painted in this dark grey: a second hue would make the object's colour ambiguous.
PATTERN_RGB = (26.0, 26.0, 30.0)
UNPATTERNED_COLOURS = frozenset({"black"})


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionWords:
    """A motion in words: "the star spins" (`does`), "does it spin" (`do`), "is spinning"."""

    does: str
    do: str
    doing: str


_DOING = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "circle": "moving in a circle",
    "grow": "growing",
    "shrink": "shrinking",
    "still": "staying still",
    "blink": "blinking",
}

MOTIONS: dict[str, MotionWords] = {
    **{
        name: MotionWords(does=words.does, do=words.do, doing=_DOING[name])
        for name, words in BASIC_MOTIONS.items()
    },
    "diagonal": MotionWords(
        does="moves diagonally", do="move diagonally", doing="moving diagonally"
    ),
    "bounce": MotionWords(does="bounces", do="bounce", doing="bouncing"),
    "spin": MotionWords(does="spins", do="spin", doing="spinning"),
}

STRAIGHT: tuple[str, ...] = ("left", "right", "up", "down", "diagonal")
TRAVELLING = frozenset({*STRAIGHT, "circle", "bounce"})
# Turning them changes nothing that can be seen.
ROUND_SHAPES = frozenset({"circle", "ring"})

# What the camera does; the key is how a caption says it after "the camera".
CAMERA_MOVES: dict[str, MotionWords] = {
    "pan left": MotionWords(does="pans left", do="pan left", doing="panning left"),
    "pan right": MotionWords(does="pans right", do="pan right", doing="panning right"),
    "tilt up": MotionWords(does="tilts up", do="tilt up", doing="tilting up"),
    "tilt down": MotionWords(does="tilts down", do="tilt down", doing="tilting down"),
    "zoom in": MotionWords(does="zooms in", do="zoom in", doing="zooming in"),
    "zoom out": MotionWords(does="zooms out", do="zoom out", doing="zooming out"),
    "shake": MotionWords(does="shakes", do="shake", doing="shaking"),
}
CAMERA_STILL = MotionWords(does="stays still", do="stay still", doing="staying still")

# How a scene gives way to the next, as a noun: "a fade".
TRANSITIONS: dict[str, str] = {
    "cut": "hard cut",
    "fade": "fade",
    "dissolve": "dissolve",
    "flash": "white flash",
    "freeze": "freeze",
    "black": "black screen",
}
# In these the pictures before and after blend, so that nothing is sharp in time inside them.
SOFT_TRANSITIONS = frozenset({"fade", "dissolve", "flash"})

LIGHT_CHANGES: dict[str, str] = {
    "brighter": "gets brighter",
    "darker": "gets darker",
    "flicker": "flickers",
}
LIGHT_STEADY = "stays the same"
FLICKER_PERIOD_SECONDS = 2.0

BACKGROUNDS: dict[str, str] = {
    "flat": "a flat background",
    "gradient": "a gradient background",
    "noise": "a cloudy background",
    "fractal": "a rough background",
    "polygons": "a background of blurred shapes",
}
TEXTURED = ("noise", "fractal", "polygons")

OVERLAY_WORDS: tuple[str, ...] = (
    "bird",
    "book",
    "cake",
    "door",
    "fish",
    "frog",
    "gold",
    "king",
    "lamp",
    "milk",
    "moon",
    "rain",
    "ship",
    "snow",
    "sun",
    "tree",
    "wolf",
    "zoo",
)

NUMBERS: tuple[str, ...] = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

MAX_OBJECTS = 5
MAX_SCENES = 6
BLINK_PERIOD_SECONDS = 3.0
BLINK_ON_SECONDS = 2.0

# One look and motion in so many is kept out of training, for the split "compositional".
_HELD_OUT_ONE_IN = 8


@functools.cache
def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether train, val and test never show this colour, shape and motion together.

    Decided by a hash of the three words alone, so that it can never drift with the sampler.
    """
    digest = hashlib.sha256(f"{colour}|{shape}|{motion}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % _HELD_OUT_ONE_IN == 0


def held_out_triples() -> list[tuple[str, str, str]]:
    """All held-out (colour, shape, motion), in the order of the lists."""
    return [
        (colour, shape, motion)
        for colour in COLOURS
        for shape in SHAPES
        for motion in MOTIONS
        if is_held_out(colour, shape, motion)
    ]
