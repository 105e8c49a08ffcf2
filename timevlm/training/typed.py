"""Questions as people type them: without all of the small words.

The world asks everything in a handful of wordings, and a model can learn each as a whole. One that
had to do with parts of them hangs less on any of them: the random deletion of Wei and Zou ("EDA",
arXiv 1901.11196), but of small words alone, since the others are what is asked.
"""

import random

TYPED_SHARE = 0.3  # of the questions
_DROPPED_SHARE = 0.3  # of their small words
_NO_MARK_SHARE = 0.3  # typed without the question mark
# Nothing depends on these. "One" counts, "not" denies, "left of" is a side.
_SMALL_WORDS = frozenset({"a", "an", "the", "is", "are", "does", "do", "there", "that", "it"})


def as_typed(text: str, rng: random.Random) -> str:
    """The text, or for a share of the draws of `rng` what is left of it without some small words.

    The first word stays: it says what kind of answer is asked for.
    """
    if rng.random() >= TYPED_SHARE:
        return text
    first, *others = text.split(" ")
    kept = [word for word in others if word not in _SMALL_WORDS or rng.random() >= _DROPPED_SHARE]
    typed = " ".join([first, *kept])
    return typed.removesuffix("?") if rng.random() < _NO_MARK_SHARE else typed
