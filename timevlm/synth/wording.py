"""Every sentence pattern of the world, and the list of texts that spans its whole vocabulary.

A pattern's kind is "family.kind"; the first wordings of each kind are the plainest. All words are
lower case except the first of a question, and times are written like the timestamps before frames
("12.0s"), so that a model can copy them.
"""

import re
from collections.abc import Sequence

from timevlm.synth.palette import COLOURS, MOTIONS, NUMBERS, ORDINALS, SHAPES, SIZES

QUESTION_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour.of_shape": (
        "What colour is the {shape}?",
        "What is the colour of the {shape}?",
        "Which colour does the {shape} have?",
    ),
    "colour.before": (
        "What colour is the {shape} before it changes?",
        "What colour does the {shape} have at first?",
        "Which colour does the {shape} start with?",
    ),
    "colour.after": (
        "What colour does the {shape} become?",
        "What colour is the {shape} after it changes?",
        "Which colour does the {shape} turn into?",
    ),
    "colour.of_motion": (
        "What colour is the object that {does}?",
        "What is the colour of the object that {does}?",
        "Which colour does the object that {does} have?",
    ),
    "shape.of_colour": (
        "What shape is the {colour} object?",
        "What is the shape of the {colour} object?",
        "Which shape is {colour}?",
    ),
    "shape.of_motion": (
        "What shape is the object that {does}?",
        "What is the shape of the object that {does}?",
        "Which shape {does}?",
    ),
    "shape.of_change": (
        "Which shape changes colour?",
        "What shape is the object that changes colour?",
        "What is the shape of the object that changes colour?",
    ),
    "motion.of_object": (
        "What does the {thing} do?",
        "What is the {thing} doing?",
        "How does the {thing} behave?",
    ),
    "order.first": (
        "Which comes first, the {a} or the {b}?",
        "Which is seen first, the {a} or the {b}?",
        "Which appears earlier, the {a} or the {b}?",
    ),
    "order.last": (
        "Which comes last, the {a} or the {b}?",
        "Which is seen last, the {a} or the {b}?",
        "Which appears later, the {a} or the {b}?",
    ),
    "order.after": (
        "What comes right after the scene with the {thing}?",
        "What is shown in the scene after the {thing}?",
        "What follows the scene with the {thing}?",
    ),
    "order.before": (
        "What comes right before the scene with the {thing}?",
        "What is shown in the scene before the {thing}?",
        "What precedes the scene with the {thing}?",
    ),
    "count.scenes": (
        "How many scenes are there?",
        "How many scenes does the video have?",
        "What is the number of scenes?",
    ),
    "count.objects": (
        "How many objects are in the {ordinal} scene?",
        "How many objects does the {ordinal} scene show?",
        "What is the number of objects in the {ordinal} scene?",
    ),
    "count.scenes_with_shape": (
        "How many scenes show a {shape}?",
        "In how many scenes is there a {shape}?",
        "In how many scenes can you see a {shape}?",
    ),
    "when.appear": (
        "When does the {thing} appear?",
        "At what time does the {thing} appear?",
        "When is the {thing} first seen?",
    ),
    "when.vanish": (
        "When does the {thing} disappear?",
        "At what time does the {thing} disappear?",
        "When does the {thing} vanish?",
    ),
    "when.visible": (
        "When is the {thing} visible?",
        "When can you see the {thing}?",
        "During which time is the {thing} shown?",
    ),
    "when.motion": (
        "When does the {thing} {do}?",
        "During which time does the {thing} {do}?",
        "At what time does the {thing} {do}?",
    ),
    "when.change": (
        "When does the {shape} change colour?",
        "At what time does the {shape} change colour?",
        "When does the {shape} turn {colour}?",
    ),
    "when.scene": (
        "When does the {ordinal} scene start?",
        "At what time does the {ordinal} scene start?",
        "When does the {ordinal} scene begin?",
    ),
    "exist.object": (
        "Is there {an_object} in the video?",
        "Does the video show {an_object}?",
        "Can you see {an_object}?",
    ),
    "exist.motion": (
        "Does anything {do}?",
        "Does any object {do}?",
        "Is there an object that {does}?",
    ),
    "exist.change": (
        "Does anything change colour?",
        "Does any object change colour?",
        "Is there an object that changes colour?",
    ),
    "scene.nth": (
        "What is shown in the {ordinal} scene?",
        "What does the {ordinal} scene show?",
        "What can be seen in the {ordinal} scene?",
    ),
    "scene.at": (
        "What is shown at {time}?",
        "What can be seen at {time}?",
        "What is visible at {time}?",
    ),
}

GROUNDING_WORDINGS: dict[str, tuple[str, ...]] = {
    "object": ("{an_object}", "the {object}", "{an_object} is shown"),
    "shape": ("{a_shape}", "the {shape}", "{a_shape} is visible"),
    "motion": ("the {thing} {does}", "{a_thing} {does}", "the {thing} that {does}"),
    "any_motion": ("something {does}", "an object {does}", "an object that {does}"),
    "change": (
        "the {shape} changes colour",
        "the {shape} turns {colour}",
        "the {shape} becomes {colour}",
    ),
    "scene": ("the {ordinal} scene", "scene {number}", "the {ordinal} part of the video"),
}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(kind.split(".")[0] for kind in QUESTION_WORDINGS))


def an(noun: str) -> str:
    """The noun with its indefinite article: "a red circle", "an orange star"."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def format_seconds(seconds: float) -> str:
    """A time as timestamps and answers write it: "12.0s"."""
    return f"{seconds:.1f}s"


def at_time(seconds: float) -> str:
    """A moment as an answer: "at 12.0s"."""
    return f"at {format_seconds(seconds)}"


def from_to(start: float, end: float) -> str:
    """An interval as an answer: "from 4.0s to 9.5s"."""
    return f"from {format_seconds(start)} to {format_seconds(end)}"


def join_phrases(phrases: Sequence[str]) -> str:
    """Phrases joined as in speech: "a", "a and b", "a, b and c"."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def split_phrases(text: str) -> list[str]:
    """The phrases that `join_phrases` joined, also where a comma stands before the "and"."""
    return re.split(r", (?:and )?| and ", text)


def vocabulary_texts(level: str = "basic") -> list[str]:
    """Texts that hold every word, digit and mark of all questions, answers and captions.

    Those of level "full" include those of level "basic".
    """
    if level == "full":
        from timevlm.synth.full.wording import full_vocabulary_texts

        return [*vocabulary_texts(), *full_vocabulary_texts()]
    slots = {
        "shape": SHAPES[0],
        "a_shape": an(SHAPES[0]),
        "colour": "red",
        "thing": "red circle",
        "a_thing": "a red circle",
        "object": "red circle",
        "an_object": "an orange circle",
        "a": "red circle",
        "b": "blue star",
        "does": MOTIONS["left"].does,
        "do": MOTIONS["left"].do,
        "ordinal": "last",
        "number": "one",
        "time": "12.0s",
    }
    patterns = [
        w for table in (QUESTION_WORDINGS, GROUNDING_WORDINGS) for k in table.values() for w in k
    ]
    texts = [pattern.format(**slots) for pattern in patterns]
    texts += [
        join_phrases((an(f"{size} {colour} circle"), "a star"))
        for size in SIZES
        for colour in COLOURS
    ]
    texts += [f"a red {shape} {words.does}" for shape in SHAPES for words in MOTIONS.values()]
    texts += [f"does the star {words.do}" for words in MOTIONS.values()]
    texts += ["a red star that turns blue moves left, a circle grows and a ring stays still"]
    texts += [f"the {ordinal} scene" for ordinal in ORDINALS] + list(NUMBERS) + ["yes", "no"]
    texts += [f"scene {number}" for number in NUMBERS]
    texts += [at_time(digit * 11.1) for digit in range(10)] + [from_to(4.0, 9.5)]
    return texts
