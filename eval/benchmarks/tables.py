"""Lines of score tables from graded rows: means with intervals over videos, groups, counts."""

from collections.abc import Callable, Mapping, Sequence

from eval.benchmarks.base import Graded, MetricRow
from eval.metrics.statistics import cluster_bootstrap


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
    by 100.
    """
    scale = 100.0 if unit == "%" else 1.0
    pairs = [(item.row["cluster"], value(item)) for item in graded]
    known = [(cluster, scale * number) for cluster, number in pairs if number is not None]
    row = MetricRow(name=name, value=None, unit=unit, n=len(known))
    if known:
        values = [number for _, number in known]
        row["value"] = sum(values) / len(values)
        row["low"], row["high"] = cluster_bootstrap(values, [cluster for cluster, _ in known])
    if note:
        row["note"] = note
    return row


def macro_row(name: str, parts: Mapping[str, Sequence[Graded]], *, note: str = "") -> MetricRow:
    """The mean of the parts' mean scores in percent, with its interval over videos."""
    known = [
        (part, item.row["cluster"], 100.0 * item.grade.score)
        for part, items in parts.items()
        for item in items
        if item.grade.score is not None
    ]
    row = MetricRow(name=name, value=None, unit="%", n=len(known))
    if known:
        labels, clusters, scores = zip(*known, strict=True)
        means = [
            sum(score for label, _, score in known if label == part) / labels.count(part)
            for part in dict.fromkeys(labels)
        ]
        row["value"] = sum(means) / len(means)
        row["low"], row["high"] = cluster_bootstrap(scores, clusters, groups=labels)
    if note:
        row["note"] = note
    return row


def groups(graded: Sequence[Graded], tag: str) -> dict[str, list[Graded]]:
    """Rows by the value of a tag, in order of first appearance; several values count in each."""
    found: dict[str, list[Graded]] = {}
    for item in graded:
        values = item.row["tags"].get(tag)
        for value in [values] if isinstance(values, str) else values or ():
            found.setdefault(value, []).append(item)
    return found


def counts(graded: Sequence[Graded]) -> list[MetricRow]:
    """How many samples there are, were answered, could not be read, failed, have no public gold."""
    errors = sum(item.row["error"] is not None for item in graded)
    unparsed = sum(item.grade.parsed is None and item.row["error"] is None for item in graded)
    numbers = {
        "n_total": len(graded),
        "n_answered": len(graded) - errors - unparsed,
        "n_unparsed": unparsed,
        "n_error": errors,
    }
    hidden = sum(item.grade.score is None for item in graded)
    if hidden:
        numbers["n_unscored"] = hidden
    return [
        MetricRow(name=name, value=float(number), unit="", n=len(graded))
        for name, number in numbers.items()
    ]
