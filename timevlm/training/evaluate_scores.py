"""Scores of many questions about few videos: means, intervals that respect the clusters, ECE.

Questions about one video fall together, so intervals come from a bootstrap that draws whole videos
(clusters) with replacement. Pure functions over rows: what was asked, how it went with the video,
without it, and by chance.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from timevlm.agreement import Spans

NUM_RESAMPLES = 2000
NUM_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One score. `table` and `family` say of what; scores lie in [0, 1].

    `blind` is the score of a baseline on the same thing, `chance` what guessing is expected to
    get. `confidence` is set for questions with choices: the model's probability of its answer.
    """

    table: str
    family: str
    video: int
    model: float
    kind: str = ""
    blind: float | None = None
    chance: float | None = None
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Row(**row.to_dict())` gives the same row."""
        return asdict(self)


def summarize(values: Sequence[float], clusters: Sequence[int]) -> dict[str, float]:
    """Mean, its 95 % interval by cluster bootstrap, and the number of values.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("there is nothing to summarize: no values")
    sums, counts = _per_cluster(values, clusters)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(sums), (NUM_RESAMPLES, len(sums)), generator=generator)
    means = (sums[drawn].sum(dim=1) / counts[drawn].sum(dim=1)).sort().values
    return {
        "mean": float(sums.sum() / counts.sum()),
        "low": float(means[int(0.025 * NUM_RESAMPLES)]),
        "high": float(means[int(0.975 * NUM_RESAMPLES)]),
        "count": len(values),
    }


def _per_cluster(values: Sequence[float], clusters: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Sum and number of the values of every cluster."""
    index = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    where = torch.tensor([index[cluster] for cluster in clusters])
    sums = torch.zeros(len(index), dtype=torch.float64)
    sums.index_add_(0, where, torch.tensor(values, dtype=torch.float64))
    return sums, torch.bincount(where, minlength=len(index)).double()


def summarize_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Summaries "model" and "blind" and the mean "chance" of rows; None where rows have none."""

    def column(name: str) -> tuple[list[float], list[int]]:
        found = [(getattr(row, name), row.video) for row in rows]
        found = [(value, video) for value, video in found if value is not None]
        return [value for value, _ in found], [video for _, video in found]

    blind, chance = column("blind"), column("chance")
    return {
        "model": summarize(*column("model")),
        "blind": summarize(*blind) if blind[0] else None,
        "chance": sum(chance[0]) / len(chance[0]) if chance[0] else None,
    }


def tables_of(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Summaries by table and family, families in alphabetical order."""
    groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.table][row.family].append(row)
    return {
        table: {family: summarize_rows(families[family]) for family in sorted(families)}
        for table, families in groups.items()
    }


def calibration(confidences: Sequence[float], rights: Sequence[float]) -> dict[str, Any]:
    """Expected calibration error over ten equal bins (Guo et al. 2017, section 2), and the bins.

    "ece" is the mean over answers of the distance between a bin's confidence and its share right;
    "overconfidence" is the mean confidence minus the share right. Raises ValueError without
    answers.
    """
    if not confidences:
        raise ValueError("there is nothing to calibrate: no answers")
    groups: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for confidence, right in zip(confidences, rights, strict=True):
        groups[min(NUM_BINS - 1, int(confidence * NUM_BINS))].append((confidence, right))
    bins = [
        {
            "from": index / NUM_BINS,
            "confidence": sum(c for c, _ in group) / len(group),
            "accuracy": sum(r for _, r in group) / len(group),
            "count": len(group),
        }
        for index, group in sorted(groups.items())
    ]
    total = len(confidences)
    error = sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / total
    return {
        "ece": error,
        "overconfidence": (sum(confidences) - sum(rights)) / total,
        "count": total,
        "bins": bins,
    }


def chance_of_overlap(predicted: Spans, truth: Spans, duration: float) -> float:
    """How often `predicted` would overlap `truth` if it were moved to a random place, 0..1.

    It is shifted around the video (0 to `duration` seconds) as on a circle, so that its shape
    stays; the share of shifts with an overlap is exact, not sampled.
    """
    hits = []
    for s1, e1 in predicted:
        for s2, e2 in truth:
            # Shifts u with (s1 + u, e1 + u) and (s2, e2) overlapping, taken around the circle.
            length = min(duration, (e2 - s1) - (s2 - e1))
            start = (s2 - e1) % duration
            hits.append((start, min(duration, start + length)))
            hits.append((0.0, max(0.0, start + length - duration)))
    covered, reached = 0.0, 0.0
    for start, end in sorted(hits):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered / duration
