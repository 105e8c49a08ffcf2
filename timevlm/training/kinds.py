"""What there is to tell apart at each level of the world, in the order in which labels count.

Objectives have one output a name here, so the lists also fix the shapes of their parameters: at
level "basic" these are what its checkpoints hold.
"""

import re
from dataclasses import dataclass
from typing import Literal

from timevlm.errors import InputError
from timevlm.processing import TimeVLMProcessor
from timevlm.synth import palette as basic
from timevlm.synth.full import palette as full
from timevlm.synth.full import wording as full_wording

Level = Literal["basic", "full"]

MAX_SCENES = 6
MOVE_SIZE = 3
# What an object is; what happens to the picture. Both in the order of labels and lessons.
# Motions, and what an object was before, are harder to see than a picture.
_OBJECT_WEIGHTS = (1.0, 1.0, 1.0, 4.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """The names of a level. A list that is empty (or, for patterns, of one) is not asked for."""

    level: Level
    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    sizes: tuple[str, ...]
    motions: tuple[str, ...]
    patterns: tuple[str, ...]
    cameras: tuple[str, ...]  # what the camera does at the time
    lights: tuple[str, ...]
    transitions: tuple[str, ...]
    cuts: tuple[str, ...]  # what lies between this frame and the one before, and lasts no time
    # Words that are written, then the tens and the ones of numbers; none where nothing is written.
    texts: tuple[tuple[str, ...], ...]
    acts: tuple[str, ...]  # whether an object's motion goes on at the time
    stills: tuple[str, ...]  # whether nothing moves at the time, neither object nor picture
    sides: tuple[str, ...]  # of a thing on which another one may be: left, right, above, below
    numbers: tuple[str, ...]  # of seconds that something may last: zero, one, two and so on
    ordinals: tuple[str, ...]  # of scenes that last: first, second and so on
    separators: tuple[str, ...]  # marks that end the clauses of what happens
    # Families that are about all of what they ask for, and not about any of it: none of it may be
    # dropped before the answer. How long something is in view shows in all of its tokens.
    every_token_families: frozenset[str]

    @property
    def has_patterns(self) -> bool:
        """Whether objects differ in their patterns."""
        return len(self.patterns) > 1

    @property
    def lesson_names(self) -> dict[str, tuple[str, ...]]:
        """The lessons of a vision token, in order, and what there is to say but for none.

        Shape, colour, size, motion and earlier colour of its object; the scene's number, later ones
        counting as none; at level "full" also pattern, camera, light, transition, cut, what is
        written, whether the object's motion goes on and whether nothing moves.
        """
        words, tens, ones = self.texts or ((), (), ())
        names = {
            "shape": self.shapes,
            "colour": self.colours,
            "size": self.sizes,
            "motion": self.motions,
            "earlier colour": self.colours,
            "scene": tuple(str(number) for number in range(1, MAX_SCENES + 1)),
            "pattern": self.patterns if self.has_patterns else (),
            "camera": self.cameras,
            "light": self.lights,
            "transition": self.transitions,
            "cut": self.cuts,
            "word": words,
            "tens": tens,
            "ones": ones,
            "acts": self.acts,
            "still": self.stills,
        }
        return {lesson: each for lesson, each in names.items() if each}

    @property
    def lessons(self) -> dict[str, int]:
        """The lessons of a vision token, in order, and the number of classes of each with none."""
        return {lesson: len(names) + 1 for lesson, names in self.lesson_names.items()}

    @property
    def track_sizes(self) -> tuple[int, ...]:
        """Classes of each lesson."""
        return tuple(self.lessons.values())

    @property
    def no_looks(self) -> tuple[bool, ...]:
        """`looks_named` of a text that names none."""
        return (False,) * (len(self.shapes) + len(self.colours))

    def looks_named(self, text: str) -> tuple[bool, ...]:
        """Which of the shapes, then of the colours, a text names."""
        # "In a circle" is a motion, not the shape.
        words = set(re.findall("[a-z]+", text.lower().replace("in a circle", "")))
        return tuple(name in words for name in (*self.shapes, *self.colours))

    @property
    def track_weights(self) -> tuple[float, ...]:
        """How much each lesson counts."""
        others = len(self.track_sizes) - len(_OBJECT_WEIGHTS)
        return (*_OBJECT_WEIGHTS, *(1.0,) * others)


BASIC = Kinds(
    level="basic",
    shapes=basic.SHAPES,
    colours=tuple(basic.COLOURS),
    sizes=tuple(basic.SIZES),
    motions=tuple(basic.MOTIONS),
    patterns=full.PATTERNS[:1],
    cameras=(),
    lights=(),
    transitions=(),
    cuts=(),
    texts=(),
    acts=(),
    stills=(),
    sides=(),
    numbers=(),
    ordinals=(),
    separators=(),
    every_token_families=frozenset({"caption", "count"}),
)
FULL = Kinds(
    level="full",
    shapes=basic.SHAPES,
    colours=tuple(full.COLOURS),
    sizes=tuple(basic.SIZES),
    motions=tuple(full.MOTIONS),
    patterns=full.PATTERNS,
    cameras=tuple(full.CAMERA_MOVES),
    lights=tuple(full.LIGHT_CHANGES),
    transitions=tuple(name for name in full.TRANSITIONS if name != "cut"),
    cuts=("cut",),
    texts=(full.OVERLAY_WORDS, tuple("123456789"), tuple("0123456789")),
    acts=("acts", "rests"),
    stills=("still",),
    sides=full_wording.WHERE,
    numbers=full.NUMBERS,
    ordinals=basic.ORDINALS[:MAX_SCENES],
    separators=(",", ".", ":", "?"),
    every_token_families=BASIC.every_token_families | {"duration"},
)


def text_parts(text: str) -> list[int]:
    """The word of a text, the tens and the ones of its number, as classes of `FULL.texts`."""
    words, tens, ones = FULL.texts
    if text in words:
        return [words.index(text), len(tens), len(ones)]
    return [len(words), tens.index(text[0]), ones.index(text[1])]


def word_id(processor: TimeVLMProcessor, word: str) -> int:
    """Id of a word as it stands inside a sentence, after a space."""
    (token_id,) = processor.answer_ids(f"a {word}")[1:-1]
    return token_id


def first_id(processor: TimeVLMProcessor, answer: str) -> int:
    """Id of the first word of an answer, which no space comes before."""
    return processor.answer_ids(answer)[0]


def named_token_ids(processor: TimeVLMProcessor, kinds: Kinds) -> list[int]:
    """Ids of the words that name things, in the order of `Kinds.looks_named`."""
    return [word_id(processor, word) for word in (*kinds.shapes, *kinds.colours)]


def side_token_ids(processor: TimeVLMProcessor, kinds: Kinds) -> list[int] | None:
    """Ids of left, right, above and below as answers begin with them, where a level asks so."""
    return [first_id(processor, words) for words in kinds.sides] or None


def number_token_ids(processor: TimeVLMProcessor, kinds: Kinds) -> list[int] | None:
    """Ids of zero, one, two as answers begin with them, where a level asks for whole seconds."""
    return [first_id(processor, word) for word in kinds.numbers] or None


def separator_token_ids(processor: TimeVLMProcessor, kinds: Kinds) -> list[int] | None:
    """Ids of the marks that end clauses, where a level asks for the order of what happens."""
    return processor.tokenizer.convert_tokens_to_ids(list(kinds.separators)) or None


def ordinal_token_ids(processor: TimeVLMProcessor, kinds: Kinds) -> list[int] | None:
    """Ids of first, second and so on, where a level asks how long scenes last."""
    return [word_id(processor, word) for word in kinds.ordinals] or None


_BY_LEVEL = {kinds.level: kinds for kinds in (BASIC, FULL)}


def kinds_of(level: str) -> Kinds:
    """The kinds of a level. Raises InputError for an unknown one."""
    if level not in _BY_LEVEL:
        raise InputError(f"level {level!r} is unknown; choose one of {', '.join(_BY_LEVEL)}")
    return _BY_LEVEL[level]
