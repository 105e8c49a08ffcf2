"""Lines of score tables from graded rows: accuracies, means with intervals over videos, counts."""

from collections.abc import Callable, Sequence

from eval.benchmarks.base import Graded, MetricRow
from eval.metrics import accuracy as accuracies
from eval.metrics.accuracy import Average, Outcome
from eval.metrics.statistics import interval_over_clusters


def outcomes(graded: Sequence[Graded]) -> list[Outcome]:
    """Graded rows as `eval.metrics.accuracy` takes them."""
    return [
        Outcome(
            score=item.grade.score,
            parsed=item.grade.parsed is not None,
            cluster=item.row["cluster"],
            failed=item.row["error"] is not None,
            tags=item.row["tags"],
        )
        for item in graded
    ]


def accuracy_row(
    name: str,
    graded: Sequence[Graded],
    average: Average = "micro",
    *,
    tag: str | None = None,
    note: str = "",
) -> MetricRow:
    """One accuracy in percent; see `eval.metrics.accuracy` for the averages."""
    return _accuracy_line(name, accuracies.accuracy(outcomes(graded), average, tag=tag), note)


def breakdown_rows(graded: Sequence[Graded], tag: str) -> list[MetricRow]:
    """The accuracy of every value of a tag; empty if no row has the tag."""
    found = accuracies.breakdown(outcomes(graded), tag)
    return [_accuracy_line(name, result, "") for name, result in found.items()]


def mean_row(
    name: str,
    graded: Sequence[Graded],
    value: Callable[[Graded], float | None],
    *,
    unit: str,
    note: str = "",
) -> MetricRow:
    """The mean of a value over rows and its 95% cluster bootstrap interval over videos.

    Rows whose value is None (hidden gold, no judge yet) are left out. In "%" means are scaled
    by 100. One video has no interval.
    """
    scale = 100.0 if unit == "%" else 1.0
    pairs = [(item.row["cluster"], value(item)) for item in graded]
    known = [(cluster, scale * number) for cluster, number in pairs if number is not None]
    row = MetricRow(name=name, value=None, unit=unit, n=len(known))
    if known:
        values = [number for _, number in known]
        clusters = [cluster for cluster, _ in known]
        row["value"] = sum(values) / len(values)
        row["num_videos"] = len(set(clusters))
        found = interval_over_clusters(values, clusters)
        if found is not None:
            row["low"], row["high"] = found
    if note:
        row["note"] = note
    return row


def mean_rows(
    graded: Sequence[Graded], tag: str, value: Callable[[Graded], float | None], *, unit: str
) -> list[MetricRow]:
    """`mean_row` of every value of a tag, in order of first appearance; empty without the tag."""
    groups: dict[str, list[Graded]] = {}
    for item, outcome in zip(graded, outcomes(graded), strict=True):
        for label in accuracies.labels(outcome, tag):
            groups.setdefault(label, []).append(item)
    return [mean_row(label, members, value, unit=unit) for label, members in groups.items()]


def counts(graded: Sequence[Graded]) -> list[MetricRow]:
    """How many samples there are, were answered, were unreadable, failed, have no score."""
    numbers = accuracies.counts(outcomes(graded))
    unscored = sum(item.grade.score is None for item in graded)
    if unscored:
        numbers["n_unscored"] = unscored
    return [count_row(name, number, len(graded)) for name, number in numbers.items()]


def count_row(name: str, number: int, total: int) -> MetricRow:
    """One line of the table "counts"."""
    return MetricRow(name=name, value=float(number), unit="", n=total)


def _accuracy_line(name: str, result: dict, note: str) -> MetricRow:
    row = MetricRow(name=name, value=result["value"], unit="%", n=result["n"])
    if result["value"] is not None:
        row["num_videos"] = result["num_videos"]
    if result["low"] is not None:
        row["low"], row["high"] = result["low"], result["high"]
    if note:
        row["note"] = note
    return row
