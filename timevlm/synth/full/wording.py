"""The wordings of level "full": which a split may use, how slots are filled, and all words.

Patterns are kept as text: a line with a kind ("family.kind"), then a pattern a line. Patterns
behind a star are held out: train, val and demo never use them, test and compositional use nothing
else. They are made of words that the other patterns have, so that no word is new in a test. The
patterns of `wording_training`, and what `reworded` makes of all that training has, are for the
train split alone: val and demo stay as they were.
"""

import random
import re
from typing import NamedTuple

from timevlm.synth.full.palette import (
    BACKGROUNDS,
    CAMERA_MOVES,
    CAMERA_STILL,
    COLOURS,
    LIGHT_CHANGES,
    LIGHT_STEADY,
    MOTIONS,
    NUMBERS,
    OVERLAY_WORDS,
    PATTERNS,
    TRANSITIONS,
)
from timevlm.synth.full.wording_alike import reworded
from timevlm.synth.full.wording_grounding import GROUNDING
from timevlm.synth.full.wording_objects import OBJECT_QUESTIONS
from timevlm.synth.full.wording_scenes import SCENE_QUESTIONS
from timevlm.synth.full.wording_training import TRAINING_QUESTIONS
from timevlm.synth.palette import ORDINALS, SHAPES, SIZES
from timevlm.synth.wording import an, at_time, from_to

NOT_IN_VIDEO = "not in the video"
HELD_OUT_SPLITS = frozenset({"test", "compositional"})
WHERE: tuple[str, ...] = ("left of it", "right of it", "above it", "below it")


class Patterns(NamedTuple):
    """The patterns of a kind."""

    shared: tuple[str, ...]  # train, val, demo
    held_out: tuple[str, ...]  # test, compositional
    training: tuple[str, ...]  # train

    def of_split(self, split: str) -> tuple[str, ...]:
        """Those that a split draws from."""
        if split in HELD_OUT_SPLITS:
            return self.held_out
        return self.shared + self.training if split == "train" else self.shared


Wordings = dict[str, Patterns]  # by kind


def _blocks(text: str) -> dict[str, list[str]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return {kind: lines for kind, *lines in blocks}


def _parse(text: str, training: str = "") -> Wordings:
    more, wordings = _blocks(training), {}
    for kind, lines in _blocks(text).items():
        shared = tuple(line for line in lines if not line.startswith("* "))
        held_out = tuple(line.removeprefix("* ") for line in lines if line.startswith("* "))
        written = (*shared, *more.get(kind, ()))
        others = [other for pattern in written for other in reworded(pattern)]
        known = {*shared, *held_out}
        extra = [pattern for pattern in (*written, *others) if pattern not in known]
        wordings[kind] = Patterns(shared, held_out, tuple(dict.fromkeys(extra)))
    return wordings


QUESTION_WORDINGS = _parse(OBJECT_QUESTIONS + SCENE_QUESTIONS, TRAINING_QUESTIONS)
GROUNDING_WORDINGS = _parse(GROUNDING)

FAMILIES: tuple[str, ...] = (
    *("colour", "shape", "size", "pattern", "motion", "count", "order", "duration", "speed"),
    *("relation", "state", "scene", "when", "exist", "reading", "camera", "transition"),
    "brightness",
)


def draw_wording(
    rng: random.Random, table: Wordings, kind: str, split: str, slots: dict[str, str]
) -> str:
    """A wording that the split may use, filled in, in British or American spelling."""
    pattern = rng.choice(table[kind].of_split(split))
    text = pattern.format(**slots)
    return text.replace("colour", "color") if rng.random() < 0.5 else text


def time_slot(rng: random.Random, seconds: float) -> str:
    """A time as people write it: "12.0s", "12.0 seconds", "12 s" or "0:12"."""
    forms = [f"{seconds:.1f}s", f"{seconds:.1f} seconds"]
    if seconds == int(seconds):
        minutes, rest = divmod(int(seconds), 60)
        forms += [f"{int(seconds)} s", f"{int(seconds)} seconds", f"{minutes}:{rest:02d}"]
    return rng.choice(forms)


def number_word(count: int, noun: str) -> str:
    """A count with its noun: "one second", "four seconds"."""
    return f"{NUMBERS[count]} {noun}{'' if count == 1 else 's'}"


def with_transition(kind: str) -> str:
    """How a scene ends, as an answer: "with a fade"."""
    return f"with {an(TRANSITIONS[kind])}"


def full_vocabulary_texts() -> list[str]:
    """Texts that hold every word, digit and mark of all texts of level "full"."""
    slots = {
        **{"shape": "ring", "a_shape": "a ring", "colour": "red", "pattern": "striped"},
        **{"thing": "red circle", "a_thing": "a red circle", "object": "red circle"},
        **{"an_object": "an orange circle", "a": "red circle", "b": "blue star"},
        **{"does": "spins", "do": "spin", "doing": "spinning", "ordinal": "last"},
        **{"number": "one", "time": "12.0s", "event": "the ring stops", "text": "moon"},
        "a_transition": "a fade",
    }
    texts = [
        pattern.format(**slots)
        for table in (QUESTION_WORDINGS, GROUNDING_WORDINGS)
        for group in table.values()
        for pattern in group.shared + group.held_out
    ]
    texts += [text.replace("colour", "color") for text in texts if "colour" in text]
    words = [*MOTIONS.values(), *CAMERA_MOVES.values(), CAMERA_STILL]
    texts += [form for word in words for form in (word.does, word.do, word.doing)]
    texts += [an(word) for word in (*COLOURS, *SHAPES, *SIZES, *PATTERNS, "object")]
    texts += [with_transition(kind) for kind in TRANSITIONS]
    texts += [*LIGHT_CHANGES.values(), LIGHT_STEADY, *BACKGROUNDS.values(), *OVERLAY_WORDS]
    texts += [number_word(n, "second") for n in range(len(NUMBERS))]
    texts += [f"the {ordinal} scene" for ordinal in (*ORDINALS, "last")]
    texts += [*WHERE, NOT_IN_VIDEO, "yes", "no", "12 s", "12 seconds", "0:12"]
    texts += ["the text moon appears, the ring collides with the star and overtakes the heart"]
    texts += ["the red circle appears, vanishes, starts to move, stops, turns blue"]
    texts += ["the camera stays still. the word moon and the number 47 are written"]
    texts += ["The video has one scene and two scenes with a red circle; the light flickers."]
    texts += ["in front of a flat background, that turns blue, three times, once, then"]
    texts += [at_time(digit * 11.1) for digit in range(10)] + [from_to(4.0, 9.5)]
    return texts


def words_of(text: str) -> set[str]:
    """The words of a text, in lower case."""
    return set(re.findall(r"[a-z]+", text.lower()))
