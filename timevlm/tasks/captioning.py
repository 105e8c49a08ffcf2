r"""Dense captioning: one line per scene, `<0.0s> - <9.0s> a red circle moves left`.

Lines stand in the order of their starts; scenes may overlap. The text of a line is words with
single spaces, without "<" (which opens a time) and without control characters, so that a line can
be read back in one way only.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from timevlm.tasks.grounding import RANGE_SEPARATOR, format_span, parse_span
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, round_seconds

CAPTION_PROMPT = "Describe every scene."
LINE_SEPARATOR = "\n"
_WORD = r"[^\x00-\x20\x7f<]+"
_TEXT = re.compile(f"{_WORD}(?: {_WORD})*")
_LINE = re.compile(
    f"({TIMESTAMP_PATTERN}{RANGE_SEPARATOR}{TIMESTAMP_PATTERN}) ({_TEXT.pattern})", re.DOTALL
)


def format_captions(captions: Sequence[tuple[float, float, str]]) -> str:
    """The answer text of (start, end, text) triples, times in seconds.

    Raises ValueError if there are none, if starts (rounded to tenths) go back in time, if one ends
    before it starts, or if a text is not made of words with single spaces.
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


def drop_repeats(
    captions: Sequence[tuple[float, float, str]],
) -> list[tuple[float, float, str]]:
    """The captions without those that repeat their predecessor exactly, times and text.

    Greedy decoding can get stuck on a line; equal words about another time are a scene of their own
    and stay.
    """
    kept: list[tuple[float, float, str]] = []
    for caption in captions:
        if not kept or caption != kept[-1]:
            kept.append(caption)
    return kept


def is_monotone(captions: Sequence[tuple[float, float, str]]) -> bool:
    """Whether no caption starts earlier than the one before it, in tenths of a second."""
    starts = [round_seconds(start) for start, _, _ in captions]
    return all(before <= after for before, after in pairwise(starts))


def _check_captions(captions: Sequence[tuple[float, float, str]]) -> None:
    if not captions:
        raise ValueError("an answer holds at least one caption")
    if not is_monotone(captions):
        raise ValueError(f"captions start out of order: {[start for start, _, _ in captions]}")
