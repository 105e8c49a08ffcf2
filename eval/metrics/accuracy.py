"""Accuracy of choices, overall and by tag, under every average that papers use.

The averages are named, because the same answers give different numbers under each:

    micro            right answers over all questions
    macro            mean over the groups of a tag (MLVU's official M-Avg, over tasks)
    label_weighted   a question counts once for each of its labels (TimeViper's LVBench number)
    answered         over parsed replies alone (Video-MME's official script)

All of ours count unparsed and failed samples as wrong, and every table says how many there were.
Scores come out in percent with 95% intervals over videos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eval.metrics.statistics import interval_over_clusters
from timevlm.errors import InputError

Average = Literal["micro", "macro", "label_weighted", "answered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one sample ended."""

    score: float | None
    """0 to 1; None if the gold answer is not public."""
    parsed: bool
    """The reply could be read."""
    cluster: str
    failed: bool = False
    """The sample has an error instead of a reply."""
    tags: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    @property
    def points(self) -> float:
        """The score, 0 for what failed or could not be read."""
        return 0.0 if self.failed or not self.parsed else float(self.score or 0.0)


def outcome(row: Mapping[str, Any]) -> Outcome:
    """The outcome of a prediction row joined with its sample (`eval.records.scoring_row`)."""
    return Outcome(
        score=row["score"],
        parsed=row["parsed"] is not None,
        cluster=row["cluster"],
        failed=row["error"] is not None,
        tags=row["tags"],
    )


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """n_total, n_answered (read), n_unparsed, n_error: the last three add up to the first."""
    num_error = sum(item.failed for item in outcomes)
    num_answered = sum(item.parsed and not item.failed for item in outcomes)
    return {
        "n_total": len(outcomes),
        "n_answered": num_answered,
        "n_unparsed": len(outcomes) - num_error - num_answered,
        "n_error": num_error,
    }


def accuracy(
    outcomes: Sequence[Outcome], average: Average = "micro", *, tag: str | None = None
) -> dict[str, Any]:
    """One accuracy: `value`, `low`, `high` in percent, `average`, `n`, `num_videos`, the counts.

    "macro" and "label_weighted" need the `tag` whose groups they run over; a sample without that
    tag belongs to no group. Samples without a public gold are counted but not scored; where none
    is left, value and interval are None, and one video has a value without an interval. Raises
    InputError without the tag that is needed.
    """
    if average in ("macro", "label_weighted") and tag is None:
        raise InputError(f"the {average} average needs a tag to group by, such as 'task'")
    scored = [item for item in outcomes if item.score is not None or item.failed or not item.parsed]
    if average == "answered":
        scored = [item for item in scored if item.parsed and not item.failed]
    pairs = [(item, "") for item in scored]
    if average in ("macro", "label_weighted") and tag is not None:
        pairs = [(item, label) for item in scored for label in labels(item, tag)]
    result: dict[str, Any] = {"average": average, "value": None, "low": None, "high": None}
    if pairs and any(item.score is not None for item in outcomes):
        points = [100.0 * item.points for item, _ in pairs]
        names = [name for _, name in pairs] if average == "macro" else None
        result["value"] = _mean(points, names)
        found = interval_over_clusters(points, [item.cluster for item, _ in pairs], groups=names)
        if found is not None:
            result["low"], result["high"] = found
    num_videos = len({item.cluster for item, _ in pairs})
    return {**result, "n": len(pairs), "num_videos": num_videos, **counts(outcomes)}


def breakdown(outcomes: Sequence[Outcome], tag: str) -> dict[str, dict[str, Any]]:
    """Micro accuracy of each value of a tag, in order of first appearance.

    A sample with several labels counts in each of their groups. Every group has its own counts.
    """
    groups: dict[str, list[Outcome]] = {}
    for item in outcomes:
        for label in labels(item, tag):
            groups.setdefault(label, []).append(item)
    return {label: accuracy(members) for label, members in groups.items()}


def accuracy_tables(outcomes: Sequence[Outcome], tags: Sequence[str]) -> dict[str, Any]:
    """`overall` (micro), then `by <tag>` for each tag that occurs."""
    tables: dict[str, Any] = {"overall": accuracy(outcomes)}
    for tag in tags:
        groups = breakdown(outcomes, tag)
        if groups:
            tables[f"by {tag}"] = groups
    return tables


def labels(item: Outcome, tag: str) -> tuple[str, ...]:
    """The values of a tag: none, one or several, without repetitions."""
    value = item.tags.get(tag)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))


def _mean(points: Sequence[float], groups: Sequence[str] | None) -> float:
    if groups is None:
        return sum(points) / len(points)
    members: dict[str, list[float]] = {}
    for value, group in zip(points, groups, strict=True):
        members.setdefault(group, []).append(value)
    return sum(sum(part) / len(part) for part in members.values()) / len(members)
