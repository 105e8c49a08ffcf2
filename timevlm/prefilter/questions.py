"""Which of a recognizer's classes a question names, by its words alone.

A class is named where all its words, or one of its other wordings, stand in the question with the
same stem ("bouncing" and "bounces" are "bounce"). Words that every question holds name nothing.
"""

import re
from collections.abc import Iterable, Sequence

# Further wordings of classes, as people ask for them.
WORDINGS: dict[str, tuple[str, ...]] = {
    "circle": ("in a circle", "orbit", "circles around"),
    "up": ("upward", "rise", "rising", "ascend"),
    "down": ("downward", "fall", "descend"),
    "left": ("leftward",),
    "right": ("rightward",),
    "grow": ("bigger", "larger", "expand"),
    "shrink": ("smaller",),
    "blink": ("flash", "flicker"),
    "spin": ("rotate", "turn", "whirl"),
    "bounce": ("hop", "jump"),
    "diagonal": ("diagonally",),
}
# Where the plain word means something else: a circle is a shape, "right" may mean "correct".
_ONLY_WORDINGS = frozenset({"circle"})
_NEEDS_VERB = frozenset({"left", "right", "up", "down"})
_VERBS = ("move", "go", "travel", "slide", "drift", "run", "walk", "drive", "pan", "tilt")
_WORD = re.compile(r"[a-z]+")


def stem(word: str) -> str:
    """A word without the endings of English verbs and adverbs: "bouncing" and "bounces" meet."""
    for ending in ("ing", "ally", "ly", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:  # spinning
        word = word[:-1]
    return word


def named_labels(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that a question or query names, in the order of `labels`."""
    words = [stem(word) for word in _WORD.findall(text.lower())]
    return tuple(label for label in labels if _is_named(label, words))


def _is_named(label: str, words: Sequence[str]) -> bool:
    if label in _NEEDS_VERB and not {stem(verb) for verb in _VERBS}.intersection(words):
        return any(_contains(words, text) for text in WORDINGS.get(label, ()))
    wordings: Iterable[str] = WORDINGS.get(label, ())
    if label not in _ONLY_WORDINGS:
        wordings = (label, *wordings)
    return any(_contains(words, text) for text in wordings)


def _contains(words: Sequence[str], text: str) -> bool:
    """Whether the words of `text` stand in `words` one after the other."""
    wanted = [stem(word) for word in _WORD.findall(text.lower())]
    if not wanted:
        return False
    starts = range(len(words) - len(wanted) + 1)
    return any(list(words[i : i + len(wanted)]) == wanted for i in starts)
