"""How numbers, spans and texts are written, the same in every form of a report."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTHING = "\u2013"
_NO_BREAK = "\u00a0"
_JOINER = "\u2060"  # no line ends here
_ELLIPSIS = "\u2026"
_MAX_DECIMALS = 2
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def decimals(unit: str, published: Iterable[float] = ()) -> int:
    """Digits after the point: one for percent, as papers print, or as many as published scores
    beside it have."""
    least = 2 if unit == "0-5" else 1
    return max([least, *(min(_num_decimals(value), _MAX_DECIMALS) for value in published)])


def score(value: float | None, unit: str, digits: int | None = None) -> str:
    """A score without its unit; whole counts have no decimals."""
    if value is None:
        return NOTHING
    if unit == "" and digits is None and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{decimals(unit) if digits is None else digits}f}"


def interval(line: Mapping[str, Any], digits: int | None = None) -> str:
    """`58.1 to 66.9`, or nothing where a line has no interval."""
    low, high = line.get("low"), line.get("high")
    if low is None or high is None:
        return ""
    digits = decimals(line["unit"]) if digits is None else digits
    return f"{low:.{digits}f} to {high:.{digits}f}"


def no_interval(line: Mapping[str, Any], nothing: str = NOTHING) -> str:
    """Why a score has no interval, for its cell: one video cannot be resampled; else nothing."""
    return f"{nothing} (1 video)" if line.get("num_videos") == 1 else ""


def seconds(value: float) -> str:
    """A point in a video: `12.4 s`, `1:05.0`, `1:02:05.0`; never broken over lines."""
    tenths = round(value * 10)
    if abs(tenths) < 600:
        return f"{tenths / 10:.1f}{_NO_BREAK}s"
    sign, tenths = ("-" if tenths < 0 else ""), abs(tenths)
    hours, minutes = tenths // 36_000, tenths // 600 % 60
    rest = f"{tenths % 600 / 10:04.1f}"
    return f"{sign}{hours}:{minutes:02}:{rest}" if hours else f"{sign}{minutes}:{rest}"


def span(start: float, end: float) -> str:
    """`1.0-3.0 s`, with a dash between numbers."""
    return f"{seconds(start).removesuffix(f'{_NO_BREAK}s')}{NOTHING}{_JOINER}{seconds(end)}"


def spans(pairs: Sequence[Sequence[float]], most: int = 4) -> str:
    """The first spans in words, and how many more there are."""
    if not pairs:
        return "none"
    text = ", ".join(span(start, end) for start, end in pairs[:most])
    return f"{text} and {len(pairs) - most} more" if len(pairs) > most else text


def duration(value: float) -> str:
    """A stretch of time that was spent: `0.8 s`, `12 min 05 s`, `3 h 20 min`."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(num_bytes: float) -> str:
    """`1.5 GiB`."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def clean(text: str) -> str:
    """Text that a file may hold: control characters and halves of surrogate pairs replaced."""
    return _FORBIDDEN.sub("\ufffd", text)


def short(text: str, most: int = 300) -> str:
    """The text, cut with an ellipsis where it is longer than `most` characters."""
    text = text.strip()
    return text if len(text) <= most else text[: most - 1].rstrip() + _ELLIPSIS


TASKS = {
    "choice": "Choice questions",
    "grounding": "Grounding",
    "dense_caption": "Dense captions",
    "detailed_caption": "Detailed captions",
    "open_answer": "Open questions",
}
"""Headings of tasks."""


def metric(name: str) -> str:
    """A metric's name as it is printed: `R@1, IoU \u2265 0.3`."""
    return name.replace(",IoU", ", IoU").replace(">=", " \u2265 ").replace(">", " > ")


def heading(title: str) -> str:
    """A table's title as a heading: `by task_type` is `By task type`."""
    if title in TASKS:
        return TASKS[title]
    task, colon, rest = title.partition(": ")
    if colon and task in TASKS:
        rest = rest.replace("_", " ")
        return TASKS[task] if rest == "overall" else f"{TASKS[task]}: {rest}"
    return title[:1].upper() + title[1:].replace("_", " ")


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 video`, `2 videos`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def reading(metrics: Mapping[str, Any]) -> str:
    """How a result's replies were read: `ours rules`, and times in other units than seconds."""
    return f"{metrics['extract']} rules{span_unit(metrics, ', times as ')}"


def span_unit(metrics: Mapping[str, Any], lead: str) -> str:
    """The unit of times in replies behind `lead`, or nothing where it is seconds."""
    unit = metrics.get("span_unit", "seconds")
    return "" if unit == "seconds" else f"{lead}{unit}"


def _num_decimals(value: float) -> int:
    if not math.isfinite(value):
        return 0
    _, _, fraction = f"{value:.6f}".rstrip("0").partition(".")
    return len(fraction)
