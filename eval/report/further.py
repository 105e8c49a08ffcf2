"""Breakdowns that hold for every benchmark, where it has none of its own: tags, length of video."""

from collections.abc import Callable, Mapping, Sequence

from eval.benchmarks.base import Graded, MetricRow, Tables
from eval.benchmarks.tables import mean_row

_METRICS = {"choice": "accuracy", "grounding": "mIoU", "dense_caption": "mean F1"}
_LENGTHS = (
    (15.0, "under 15 s"),
    (60.0, "15 s to 1 min"),
    (180.0, "1 to 3 min"),
    (600.0, "3 to 10 min"),
    (1800.0, "10 to 30 min"),
    (3600.0, "30 to 60 min"),
    (float("inf"), "over 1 h"),
)
_MAX_VALUES = 60
"""A tag with more values than this names samples rather than kinds of them."""


def further_tables(graded: Sequence[Graded], tables: Tables) -> Tables:
    """Mean scores in percent, by title `TASK: METRIC by TAG`, of questions that have a score.

    Every tag of each task for which the benchmark has no table, and the length of the video.
    """
    found: Tables = {}
    for task, metric in _METRICS.items():
        items = [g for g in graded if g.row["task"] == task and g.grade.score is not None]
        tags = dict.fromkeys(tag for item in items for tag in item.row["tags"])
        for tag in tags:
            if _has_own(task, tag, tables):
                continue
            lines = _lines(items, lambda item, tag=tag: _values(item, tag))
            if lines:
                found[f"{task}: {metric} by {tag}"] = lines
        lengths = _lines(items, _length)
        if lengths:
            order = [name for _, name in _LENGTHS]
            lengths.sort(key=lambda line: order.index(line["name"]))
            found[f"{task}: {metric} by video length"] = lengths
    return found


def _lines(items: Sequence[Graded], values: Callable[[Graded], Sequence[str]]) -> list[MetricRow]:
    groups: dict[str, list[Graded]] = {}
    for item in items:
        for value in values(item):
            groups.setdefault(value, []).append(item)
    if not 2 <= len(groups) <= _MAX_VALUES:
        return []
    return [mean_row(value, members, _score, unit="%") for value, members in groups.items()]


def _has_own(task: str, tag: str, tables: Tables) -> bool:
    """Whether the benchmark breaks a task down by a tag itself."""
    if f"{task}: by {tag}" in tables:
        return True
    # Without a task in the title: of the only task, or of choices, which come first.
    several = any(title.endswith(": overall") for title in tables)
    return (task == "choice" or not several) and (f"by {tag}" in tables or tag == "task")


def _score(item: Graded) -> float | None:
    return item.grade.score


def _values(item: Graded, tag: str) -> Sequence[str]:
    tags: Mapping[str, str | Sequence[str]] = item.row["tags"]
    value = tags.get(tag, ())
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))


def _length(item: Graded) -> Sequence[str]:
    """The length of what was asked about: a clip, or the video where its length is known."""
    seconds = item.row["extra"].get("duration")
    if item.row["clip"] is not None:
        seconds = item.row["clip"][1] - item.row["clip"][0]
    if not isinstance(seconds, int | float):
        return ()
    return (next(name for most, name in _LENGTHS if seconds < most),)
