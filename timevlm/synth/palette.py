"""The closed lists the world is made of: colours, shapes, sizes, motions and their words.

Every other module of the world reads its names from here, so that a picture, a question and the
tokenizer can never disagree about what exists.
"""

from dataclasses import dataclass

# Chosen far apart in hue or lightness: at 96x96 with noise, pink/red/orange/purple must stay
# distinct.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 28, 34),
    "green": (36, 178, 64),
    "blue": (42, 84, 240),
    "yellow": (250, 226, 40),
    "purple": (140, 44, 204),
    "orange": (255, 134, 12),
    "white": (248, 248, 248),
    "pink": (255, 138, 200),
}

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "diamond",
    "ring",
    "heart",
)

# Half the height of an object as a share of the frame's shorter side: (lowest, highest).
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.100, 0.118),
    "medium": (0.145, 0.165),
    "large": (0.190, 0.212),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionWords:
    """How a motion is said: "the star moves left" (`does`), "does the star move left" (`do`)."""

    does: str
    do: str


MOTIONS: dict[str, MotionWords] = {
    "left": MotionWords(does="moves left", do="move left"),
    "right": MotionWords(does="moves right", do="move right"),
    "up": MotionWords(does="moves up", do="move up"),
    "down": MotionWords(does="moves down", do="move down"),
    "circle": MotionWords(does="moves in a circle", do="move in a circle"),
    "grow": MotionWords(does="grows", do="grow"),
    "shrink": MotionWords(does="shrinks", do="shrink"),
    "still": MotionWords(does="stays still", do="stay still"),
    "blink": MotionWords(does="blinks", do="blink"),
}

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}

NUMBERS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six")
ORDINALS: tuple[str, ...] = ("first", "second", "third", "fourth", "fifth", "sixth")

MAX_OBJECTS = 3
BLINK_PERIOD_SECONDS = 3.0
BLINK_ON_SECONDS = 2.0
