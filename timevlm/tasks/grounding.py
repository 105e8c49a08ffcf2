"""Temporal grounding: "when?" answered with spans, `<3.0s> - <9.0s>, <12.0s> - <15.0s>`.

Both ends of a span are timestamps of frames, and both frames belong to it. In an answer the spans
stand in time order and share no frame; the separators are chosen so that a time has the same tokens
here as in front of its frame.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from timevlm.errors import InputError
from timevlm.tasks.timestamps import (
    TIMESTAMP_PATTERN,
    parse_timestamp,
    round_seconds,
    timestamp_text,
)

RANGE_SEPARATOR = " - "
SPAN_SEPARATOR = ", "
# What a model that was taught to says when the query never happens; no span can be read from it.
NOT_IN_VIDEO = "not in the video"
_SPAN = re.compile(f"({TIMESTAMP_PATTERN}){RANGE_SEPARATOR}({TIMESTAMP_PATTERN})")


def grounding_prompt(query: str) -> str:
    """The text that asks when `query` happens. Raises InputError for a blank query."""
    query = " ".join(query.split())
    if not query:
        raise InputError("the query is empty: describe what should be found in the video")
    return f"When: {query}"


def format_span(start_seconds: float, end_seconds: float) -> str:
    """One span as text, `<3.0s> - <9.0s>`.

    Raises ValueError if it ends before it starts, InputError for times without a timestamp.
    """
    if round_seconds(end_seconds) < round_seconds(start_seconds):
        raise ValueError(f"span ends before it starts: {start_seconds} s to {end_seconds} s")
    return f"{timestamp_text(start_seconds)}{RANGE_SEPARATOR}{timestamp_text(end_seconds)}"


def format_spans(spans: Sequence[tuple[float, float]]) -> str:
    """The answer text of (start, end) pairs in seconds.

    Raises ValueError if there are none, if one ends before it starts, or if, rounded to tenths,
    they are not in time order without touching: `snap_spans` or `merge_spans` makes them so.
    """
    _check_order([(round_seconds(start), round_seconds(end)) for start, end in spans])
    return SPAN_SEPARATOR.join(format_span(start, end) for start, end in spans)


def parse_spans(text: str) -> list[tuple[float, float]]:
    """The (start, end) pairs in seconds of an answer text, the inverse of `format_spans`.

    Raises ValueError for any text that `format_spans` cannot have written.
    """
    spans = [parse_span(part) for part in text.split(SPAN_SEPARATOR)]
    _check_order(spans)
    return spans


def parse_span(text: str) -> tuple[float, float]:
    """Start and end in seconds of one span. Raises ValueError for anything else."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a span: {text!r}; expected the form '<3.0s> - <9.0s>'")
    start, end = parse_timestamp(match[1]), parse_timestamp(match[2])
    if end < start:
        raise ValueError(f"span ends before it starts: {text!r}")
    return start, end


def snap_spans(
    spans: Sequence[tuple[float, float]], frame_seconds: Sequence[float]
) -> list[tuple[float, float]]:
    """Spans moved to the nearest frames (the earlier on a tie), sorted, merged where they touch.

    `frame_seconds` are the sorted times of the frames that a model sees; the result, rounded to
    tenths, is what `format_spans` takes and the grammar of the same frames accepts. Raises
    ValueError without frames.
    """
    if len(frame_seconds) == 0:
        raise ValueError("spans cannot be snapped: the video has no frames")
    return merge_spans(
        (round_seconds(_nearest(frame_seconds, start)), round_seconds(_nearest(frame_seconds, end)))
        for start, end in spans
    )


def merge_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """(start, end) pairs in time order, overlapping or touching ones made one."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _nearest(frame_seconds: Sequence[float], seconds: float) -> float:
    after = bisect_left(frame_seconds, seconds)
    around = frame_seconds[max(after - 1, 0) : after + 1]
    return min(around, key=lambda frame: abs(frame - seconds))


def _check_order(spans: Sequence[tuple[float, float]]) -> None:
    if not spans:
        raise ValueError("an answer holds at least one span")
    for (_, end), (start, _) in pairwise(spans):
        if start <= end:
            raise ValueError(
                f"spans touch or are out of order: one ends at {end} s, next {start} s"
            )
