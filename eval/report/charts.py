"""Charts as inline SVG that stretches with its place: positions are percentages, strokes are not.

Each row of a table holds its own point and interval on a scale that the table's head names, so
that a chart and its numbers cannot part. Colours are classes; the style sheet has them for light
and dark.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.markup import Attributes, Html, element

_TOPS = {"%": 100.0, "0-5": 5.0}
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from `low` to `high` with ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """Where a value lies, in percent of the width; values outside lie on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def score_scale(lines: Iterable[Mapping[str, Any]]) -> Scale | None:
    """The axis of a score table: 0 to the unit's end, or to the largest value where it has none.

    Where units are mixed only the first of percent, points of 5 and plain numbers is drawn. None if
    there is nothing to draw.
    """
    lines = [line for line in lines if line["value"] is not None]
    for unit, top in _TOPS.items():
        if any(line["unit"] == unit for line in lines):
            step = top / (4 if unit == "%" else 5)
            return Scale(0.0, top, tuple(step * k for k in range(round(top / step) + 1)))
    largest = max((line.get("high") or line["value"] for line in lines), default=0.0)
    if largest <= 0:
        return None
    step = _step(largest / 4)
    count = math.ceil(largest / step - 1e-9)
    return Scale(0.0, count * step, tuple(step * k for k in range(count + 1)))


def difference_scale(values: Iterable[float]) -> Scale:
    """A symmetric axis around zero that holds all values."""
    reach = max((abs(value) for value in values), default=0.0) or 1.0
    step = _step(reach / 2)
    count = math.ceil(reach / step - 1e-9)
    return Scale(-count * step, count * step, tuple(step * k for k in range(-count, count + 1)))


def fits(line: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a line is drawn on the scale of its table."""
    units = {item["unit"] for item in lines if item["value"] is not None}
    shown = next((unit for unit in _TOPS if unit in units), "")
    return line["value"] is not None and line["unit"] == shown


def axis(scale: Scale) -> Html:
    """The tick labels, for a table's head."""
    labels = [
        _shape("text", {"x": scale.at(tick), "y": "50%", "class": "tick"}, _tick(tick))
        for tick in scale.ticks
    ]
    return _svg("axis", labels)


def whisker(
    scale: Scale,
    line: Mapping[str, Any],
    *,
    kind: str = "own",
    reference: float | None = None,
) -> Html:
    """A point with its interval. `kind` is a class, own or other; `reference` a dashed line."""
    marks = _grid(scale)
    if reference is not None:
        x = scale.at(reference)
        marks.append(_line(x, x, "0", "100%", "reference"))
    low, high = line.get("low"), line.get("high")
    if low is not None and high is not None:
        marks.append(_line(scale.at(low), scale.at(high), "50%", "50%", f"interval {kind}"))
    point = {"cx": scale.at(line["value"]), "cy": "50%", "r": 4.5, "class": f"point {kind}"}
    marks.append(_shape("circle", point))
    return _svg("whisker", marks)


def empty_plot(scale: Scale) -> Html:
    """The grid alone, for a row without a value."""
    return _svg("whisker", _grid(scale))


def stacked_bar(parts: Sequence[tuple[str, float]]) -> Html:
    """Shares of a whole, one after the other; a part's name is its class."""
    total = sum(value for _, value in parts) or 1.0
    marks, start = [], 0.0
    for name, value in parts:
        box = {"x": f"{100 * start / total:.3f}%", "y": 0, "height": "100%"}
        box |= {"width": f"{100 * value / total:.3f}%", "class": f"part {name}"}
        marks.append(_shape("rect", box, element("title", None, f"{name} {value:.2f} s")))
        start += value
    return _svg("stacked", marks)


def timeline(
    pairs: Sequence[Sequence[float]],
    extent: tuple[float, float],
    kind: str,
    moments: Sequence[float],
) -> Html:
    """Spans of a video as bars between `extent`; `moments` are marked by fine lines."""
    low, high = extent
    scale = Scale(low, high if high > low else low + 1.0, ())
    marks = [_line("0", "100%", "50%", "50%", "grid")]
    for moment in moments:
        marks.append(_line(scale.at(moment), scale.at(moment), "0", "100%", "moment"))
    for start, end in pairs:
        first, last = (float(scale.at(value)[:-1]) for value in (start, end))
        box: Attributes = {
            "x": f"{min(first, 99.4):.2f}%",
            "y": "20%",
            # A span of an instant is still to be seen.
            "width": f"{max(last - first, 0.6):.2f}%",
            "height": "60%",
            "rx": 2,
            "class": f"span {kind}",
        }
        marks.append(_shape("rect", box))
    return _svg("timeline", marks)


def _grid(scale: Scale) -> list[Html]:
    return [_line(scale.at(t), scale.at(t), "0", "100%", "grid") for t in scale.ticks]


def _line(x1: str, x2: str, y1: str, y2: str, kind: str) -> Html:
    return _shape("line", {"x1": x1, "x2": x2, "y1": y1, "y2": y2, "class": kind})


def _shape(name: str, attributes: Attributes, *children: str) -> Html:
    return element(name, attributes, *children)


def _svg(kind: str, marks: Sequence[str]) -> Html:
    # The same numbers stand beside each chart as text, so a screen reader skips it.
    return element("svg", {"class": kind, "aria-hidden": "true", "focusable": "false"}, *marks)


def _step(least: float) -> float:
    """The next round number: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in _STEPS if power * step >= least * (1 - 1e-9))


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "\u2212")
