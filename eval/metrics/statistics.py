"""How sure a score is, and whether two scores differ: with videos, not questions, as the unit.

Questions about one video succeed and fail together, so intervals that treat them as independent
are too narrow. Everything here groups samples by cluster (the video):

    cluster_bootstrap           95% interval of a mean, or of a mean of group means
    clustered_standard_error    closed form; Miller, "Adding Error Bars to Evals", arXiv 2411.00640
    paired_bootstrap            difference of two models on the same samples
    mcnemar                     exact test of two models with right/wrong scores

All take scores on any scale and return on the same. Draws are seeded; the same input gives the
same interval on every machine.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from timevlm.errors import InputError

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
# Rows of the draw matrix (resamples x clusters) that are held in memory at once: about 64 MB.
_MAX_DRAWS = 8_000_000


class Interval(NamedTuple):
    """Bounds of a confidence interval, in the unit of the scores."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """The mean of B minus the mean of A on the samples that both have."""

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, from the share of resamples on the other side of zero, but never below 2^(1-k) of
    k clusters. Like the bounds None where all samples are of one cluster, which says nothing about
    others."""
    num_samples: int
    num_clusters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """Samples that only one of two models gets right, and how unlikely such a split is."""

    only_a: int
    only_b: int
    p_value: float
    """Exact and two-sided; 1.0 where the models never differ. Ignores clusters."""


def cluster_bootstrap(
    scores: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    groups: Sequence[Hashable] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of the mean score under resampling of whole clusters.

    With `groups` (one per sample) the statistic is the mean of the group means, as in a macro
    average over tasks; a group that a resample misses does not count in that resample. For a
    label-weighted mean repeat a sample once for each of its labels. Raises InputError for empty or
    unequal inputs, or a number that is not finite.
    """
    values, cluster_ids = _arrays(scores, clusters)
    group_ids = np.zeros(len(values), dtype=np.int64)
    if groups is not None:
        _same_length(len(values), len(groups), "groups")
        group_ids = _codes(groups)
    num_clusters, num_groups = cluster_ids.max() + 1, group_ids.max() + 1
    # Sums by (cluster, group): a resample's statistic is then two products with its draw counts.
    totals = np.zeros((num_clusters, num_groups))
    sizes = np.zeros((num_clusters, num_groups))
    np.add.at(totals, (cluster_ids, group_ids), values)
    np.add.at(sizes, (cluster_ids, group_ids), 1.0)
    statistics = [
        _mean_of_means(draws @ totals, draws @ sizes)
        for draws in draw_counts(num_clusters, num_resamples=num_resamples, seed=seed)
    ]
    return _percentiles(np.concatenate(statistics), confidence)


def interval_over_clusters(
    scores: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    groups: Sequence[Hashable] | None = None,
) -> Interval | None:
    """`cluster_bootstrap` with its defaults, or None where all scores are of one cluster.

    Resampling one video always gives the same mean: an interval of width zero, which looks like
    certainty where there is none.
    """
    if len(set(clusters)) == 1:
        return None
    return cluster_bootstrap(scores, clusters, groups=groups)


def cluster_bootstrap_reference(
    scores: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """`cluster_bootstrap` as one reads it: draw clusters, pool their samples, average."""
    values, cluster_ids = _arrays(scores, clusters)
    num_clusters = cluster_ids.max() + 1
    members = [values[cluster_ids == cluster] for cluster in range(num_clusters)]
    means = []
    for chunk in draw_counts(num_clusters, num_resamples=num_resamples, seed=seed):
        for counts in chunk:
            drawn = [members[index] for index in np.repeat(np.arange(num_clusters), counts)]
            means.append(np.concatenate(drawn).mean())
    return _percentiles(np.array(means), confidence)


def clustered_standard_error(scores: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean, with the covariance inside clusters added.

    SE^2 = s^2 / n + (1 / n^2) sum_c [(sum_i d_ci)^2 - sum_i d_ci^2], d = score - mean and s^2 the
    unbiased variance. 0.0 for one sample. Raises InputError as `cluster_bootstrap` does.
    """
    values, cluster_ids = _arrays(scores, clusters)
    num = len(values)
    if num == 1:
        return 0.0
    deviations = values - values.mean()
    sums = np.bincount(cluster_ids, weights=deviations)
    squares = np.bincount(cluster_ids, weights=deviations**2)
    variance = deviations.var(ddof=1) / num + float((sums**2 - squares).sum()) / num**2
    return math.sqrt(max(variance, 0.0))


def paired_bootstrap(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> PairedComparison:
    """Cluster bootstrap of the mean of B - A over samples that both models answered.

    The three sequences are aligned by sample. Raises InputError as `cluster_bootstrap` does.
    """
    _same_length(len(scores_a), len(scores_b), "scores of B")
    values_a, cluster_ids = _arrays(scores_a, clusters)
    values_b, _ = _arrays(scores_b, clusters)
    differences = values_b - values_a
    difference = float(differences.mean())
    totals = np.bincount(cluster_ids, weights=differences)
    sizes = np.bincount(cluster_ids).astype(float)
    numbers = {"num_samples": len(differences), "num_clusters": len(sizes)}
    if len(sizes) == 1:
        return PairedComparison(difference=difference, low=None, high=None, p_value=None, **numbers)
    resampled = np.concatenate(
        [
            (draws @ totals) / (draws @ sizes)
            for draws in draw_counts(len(sizes), num_resamples=num_resamples, seed=seed)
        ]
    )
    low, high = _percentiles(resampled, confidence)
    # One is added on both sides of the fraction: a resampling test never proves p = 0.
    tail = min((resampled <= 0).sum(), (resampled >= 0).sum())
    p_value = 2.0 * float(tail + 1) / (num_resamples + 1)
    # Where k videos all speak for the same model, every resample does; yet chance alone gives k
    # equal signs with probability 2^(1-k).
    p_value = max(p_value, 2.0 ** (1 - len(sizes)))
    return PairedComparison(
        difference=difference,
        low=low,
        high=high,
        p_value=min(1.0, p_value),
        **numbers,
    )


def mcnemar(scores_a: Sequence[float], scores_b: Sequence[float]) -> McNemar:
    """Exact McNemar test of two models with scores 0 or 1 on the same samples.

    Under the null hypothesis the samples that only one model gets right fall to either with
    probability 1/2. Raises InputError for another score or unequal lengths.
    """
    _same_length(len(scores_a), len(scores_b), "scores of B")
    for score in (*scores_a, *scores_b):
        if score not in (0, 1):
            raise InputError(f"McNemar's test needs scores 0 or 1, got {score}; use the bootstrap")
    only_a = sum(a > b for a, b in zip(scores_a, scores_b, strict=True))
    only_b = sum(b > a for a, b in zip(scores_a, scores_b, strict=True))
    num = only_a + only_b
    tail, binomial = 0, 1
    for k in range(min(only_a, only_b) + 1):
        tail += binomial
        binomial = binomial * (num - k) // (k + 1)
    return McNemar(only_a=only_a, only_b=only_b, p_value=min(1.0, 2 * tail / 2**num))


def draw_counts(num_clusters: int, *, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample draws each cluster, in chunks (resamples, clusters) of int64.

    Raises InputError for less than one resample.
    """
    if num_resamples < 1:
        raise InputError(f"num_resamples is {num_resamples}; use 1 or more (2000 is usual)")
    generator = np.random.default_rng(seed)
    chunk = max(1, _MAX_DRAWS // num_clusters)
    for start in range(0, num_resamples, chunk):
        num = min(chunk, num_resamples - start)
        drawn = generator.integers(num_clusters, size=(num, num_clusters))
        offsets = num_clusters * np.arange(num)[:, None]
        counts = np.bincount((drawn + offsets).ravel(), minlength=num * num_clusters)
        yield counts.reshape(num, num_clusters)


def _mean_of_means(totals: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(R, G) sums and sizes -> (R,) mean over the groups that occur."""
    present = sizes > 0
    means = np.divide(totals, sizes, out=np.zeros_like(totals), where=present)
    return means.sum(axis=1) / present.sum(axis=1)


def _percentiles(statistics: np.ndarray, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; use a number between 0 and 1, such as 0.95")
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(statistics, [tail, 100.0 - tail])
    return Interval(float(low), float(high))


def _arrays(scores: Sequence[float], clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Scores as floats, clusters as numbers from 0 in order of first appearance."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError("there are no scores to draw from; run at least one sample")
    _same_length(len(values), len(clusters), "clusters")
    if not np.isfinite(values).all():
        raise InputError("a score is not finite; count failed samples as 0 before drawing")
    return values, _codes(clusters)


def _codes(labels: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _same_length(expected: int, got: int, what: str) -> None:
    if expected != got:
        raise InputError(f"got {expected} scores but {got} {what}; give one for each sample")
