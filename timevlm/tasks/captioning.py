r"""Dense captioning: one line per scene, `<0.0s> - <9.0s> a red circle moves left`.

Lines go forward: each starts after the start and ends after the end of the line above; scenes may
overlap. The text of a line is words with single spaces, without "<" (which opens a time) and
without control characters, so that a line can be read back in one way only.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from timevlm.tasks.grounding import RANGE_SEPARATOR, format_span, parse_span
from timevlm.tasks.text import normalize_answer
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, round_seconds

CAPTION_PROMPT = "Describe every scene."
LINE_SEPARATOR = "\n"
_WORD = r"[^\x00-\x20\x7f<]+"
_SEPARATOR = re.compile("(, and |, | and )")
_THING = re.compile("(?:an?|the)(?: [^ ]+){2,}", re.IGNORECASE)
_TEXT = re.compile(f"{_WORD}(?: {_WORD})*")
_LINE = re.compile(
    f"({TIMESTAMP_PATTERN}{RANGE_SEPARATOR}{TIMESTAMP_PATTERN}) ({_TEXT.pattern})", re.DOTALL
)


def format_captions(captions: Sequence[tuple[float, float, str]]) -> str:
    """The answer text of (start, end, text) triples, times in seconds.

    Raises ValueError if there are none, if they do not go forward (in tenths of a second), if one
    ends before it starts, or if a text is not made of words with single spaces.
    """
    for _, _, text in captions:
        if _TEXT.fullmatch(text) is None:
            raise ValueError(
                f"not a caption text: {text!r}; expected words with single spaces, without '<'"
            )
    _check_captions(captions)
    return LINE_SEPARATOR.join(f"{format_span(start, end)} {text}" for start, end, text in captions)


def parse_captions(text: str) -> list[tuple[float, float, str]]:
    """The (start, end, text) triples of an answer text, the inverse of `format_captions`.

    Raises ValueError for any text that `format_captions` cannot have written.
    """
    captions = []
    for line in text.split(LINE_SEPARATOR):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a caption line: {line!r}; expected '<0.0s> - <9.0s> words'")
        captions.append((*parse_span(match[1]), match[2]))
    _check_captions(captions)
    return captions


def merge_repeats(
    captions: Sequence[tuple[float, float, str]],
) -> list[tuple[float, float, str]]:
    """The captions with those that say again what was just said made one, over the time of both.

    A caption repeats the one before it if it has the same words, and any earlier one if it also
    shares time with it. Equal words about a later time, with something else in between, are a
    scene that comes back and stay. What a caption lists twice (`list_once`) it says once.
    `captions` go forward, see `goes_forward`.
    """
    kept: list[tuple[float, float, str]] = []
    for start, end, text in captions:
        text = list_once(text)
        words = normalize_answer(text)
        said = [i for i, other in enumerate(kept) if normalize_answer(other[2]) == words]
        if said and (said[-1] == len(kept) - 1 or start < kept[said[-1]][1]):
            first, last, before = kept[said[-1]]
            kept[said[-1]] = (first, max(last, end), before)
        else:
            kept.append((start, end, text))
    return kept


def list_once(text: str) -> str:
    """The text without items that an earlier item of its list equals: "a, b and a" is "a and b".

    Only items that begin with an article and have three words or more are things that can be said
    twice in vain; "barks" is another animal's bark.
    """
    first, *others = _SEPARATOR.split(text)
    kept, separators = [first], []
    for separator, item in zip(others[::2], others[1::2], strict=True):
        if item not in kept or _THING.fullmatch(item) is None:
            kept.append(item)
            separators.append(separator)
    if separators:  # the last of the items left comes after what the last item came after
        separators[-1] = others[-2]
    listed = zip(separators, kept[1:], strict=True)
    return first + "".join(separator + item for separator, item in listed)


def listed_items(text: str) -> list[str]:
    """What a text lists: "a, b and c" lists three, a text without a list itself."""
    return _SEPARATOR.split(text)[::2]


def goes_forward(captions: Sequence[tuple[float, float, str]]) -> bool:
    """Whether starts and ends both rise from each caption to the next, in tenths of a second."""
    times = [(round_seconds(start), round_seconds(end)) for start, end, _ in captions]
    return all(a < c and b < d for (a, b), (c, d) in pairwise(times))


def _check_captions(captions: Sequence[tuple[float, float, str]]) -> None:
    if not captions:
        raise ValueError("an answer holds at least one caption")
    if not goes_forward(captions):
        times = [(start, end) for start, end, _ in captions]
        raise ValueError(f"captions do not go forward in time: {times}")
