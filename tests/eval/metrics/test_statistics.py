import math
import time

import numpy as np
import pytest

from eval.metrics.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_reference,
    clustered_standard_error,
    draw_counts,
    interval_over_clusters,
    mcnemar,
    paired_bootstrap,
)
from timevlm.errors import InputError


def simulated(num_clusters=40, per_cluster=5, seed=0):
    """0/1 scores whose videos differ in difficulty, and the videos' names."""
    generator = np.random.default_rng(seed)
    difficulty = generator.uniform(0.2, 0.9, size=num_clusters)
    scores = (generator.random((num_clusters, per_cluster)) < difficulty[:, None]).astype(float)
    clusters = [f"v{i}" for i in range(num_clusters) for _ in range(per_cluster)]
    return scores.ravel().tolist(), clusters


def test_matrix_form_equals_the_literal_one():
    scores, clusters = simulated()
    scores, clusters = scores[:-3], clusters[:-3]  # clusters of unequal size
    fast = cluster_bootstrap(scores, clusters, num_resamples=300)
    slow = cluster_bootstrap_reference(scores, clusters, num_resamples=300)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_interval_holds_the_mean_and_is_repeatable():
    scores, clusters = simulated()
    low, high = cluster_bootstrap(scores, clusters)
    assert low < np.mean(scores) < high
    assert (low, high) == cluster_bootstrap(scores, clusters)
    assert (low, high) != cluster_bootstrap(scores, clusters, seed=1)


def test_interval_agrees_with_the_closed_form():
    scores, clusters = simulated(num_clusters=300)
    low, high = cluster_bootstrap(scores, clusters)
    error = clustered_standard_error(scores, clusters)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_interval_scales_with_the_scores():
    scores, clusters = simulated()
    low, high = cluster_bootstrap(scores, clusters)
    percent = cluster_bootstrap([100 * score for score in scores], clusters)
    assert percent == pytest.approx((100 * low, 100 * high))


def test_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        scores = np.repeat(generator.normal(0, 1, 60), 4) + generator.normal(0, 1, 240)
        low, high = cluster_bootstrap(
            scores.tolist(), np.repeat(np.arange(60), 4).tolist(), num_resamples=400
        )
        hits += low <= 0 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_repeating_a_question_of_each_video_adds_no_certainty():
    scores, clusters = simulated()
    once = cluster_bootstrap(scores, clusters)
    assert cluster_bootstrap(scores * 2, clusters * 2) == pytest.approx(once)
    assert clustered_standard_error(scores * 2, clusters * 2) == pytest.approx(
        clustered_standard_error(scores, clusters), rel=0.05
    )


def test_singleton_clusters_give_the_plain_standard_error():
    scores, _ = simulated()
    plain = np.std(scores, ddof=1) / math.sqrt(len(scores))
    assert clustered_standard_error(scores, range(len(scores))) == pytest.approx(plain)


def test_clustered_standard_error_by_hand():
    # mean 0.5, d = +-0.5; s^2/n = (4 * 0.25 / 3) / 4; clusters (1,1) and (0,0) add 2 * 0.5 / 16.
    expected = math.sqrt(0.25 / 3 + (2 * (1.0 - 0.5)) / 16)
    assert clustered_standard_error([1, 1, 0, 0], "aabb") == pytest.approx(expected)
    assert clustered_standard_error([1.0], ["a"]) == 0.0


def test_one_group_is_the_plain_mean_and_groups_are_a_macro_mean():
    scores, clusters = simulated()
    assert cluster_bootstrap(scores, clusters, groups=["g"] * len(scores)) == cluster_bootstrap(
        scores, clusters
    )
    # A big group of zeros and a small one of ones: the macro mean is 0.5 whatever is drawn, but
    # where a group is missed.
    scores = [0.0] * 90 + [1.0] * 10
    groups = ["big"] * 90 + ["small"] * 10
    clusters = [f"v{i % 10}" for i in range(100)]
    assert cluster_bootstrap(scores, clusters, groups=groups) == (0.5, 0.5)


def test_draws_are_counts_of_whole_resamples():
    chunks = list(draw_counts(7, num_resamples=50, seed=3))
    counts = np.concatenate(chunks)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()


def test_chunks_do_not_change_the_interval(monkeypatch):
    scores, clusters = simulated()
    whole = cluster_bootstrap(scores, clusters, num_resamples=100)
    monkeypatch.setattr("eval.metrics.statistics._MAX_DRAWS", 40 * 7)
    assert cluster_bootstrap(scores, clusters, num_resamples=100) == whole


def test_paired_test_sees_what_unpaired_intervals_hide():
    scores_a, clusters = simulated()
    scores_b = list(scores_a)
    for index in [i for i, score in enumerate(scores_a) if score == 0][:12]:
        scores_b[index] = 1.0
    compared = paired_bootstrap(scores_a, scores_b, clusters)
    assert compared.difference == pytest.approx(12 / 200)
    assert 0 < compared.low <= compared.difference <= compared.high
    assert compared.p_value < 0.02
    high_a = cluster_bootstrap(scores_a, clusters).high
    low_b = cluster_bootstrap(scores_b, clusters).low
    assert low_b < high_a  # the two intervals overlap
    assert (compared.num_samples, compared.num_clusters) == (200, 40)


def test_paired_test_is_antisymmetric_and_one_for_equals():
    scores_a, clusters = simulated(seed=1)
    scores_b, _ = simulated(seed=2)
    ab = paired_bootstrap(scores_a, scores_b, clusters)
    ba = paired_bootstrap(scores_b, scores_a, clusters)
    assert (ab.difference, ab.low, ab.high) == pytest.approx((-ba.difference, -ba.high, -ba.low))
    assert ab.p_value == ba.p_value
    same = paired_bootstrap(scores_a, scores_a, clusters)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_one_cluster_says_nothing_about_others():
    assert interval_over_clusters([1.0, 0.0, 1.0], "aaa") is None
    scores, clusters = simulated()
    assert interval_over_clusters(scores, clusters) == cluster_bootstrap(scores, clusters)
    # Resampling would give the same difference each time, and so p = 1 / 1000.
    alone = paired_bootstrap([0.0, 0.0], [1.0, 1.0], "aa")
    assert (alone.difference, alone.num_samples, alone.num_clusters) == (1.0, 2, 1)
    assert (alone.low, alone.high, alone.p_value) == (None, None, None)


def test_a_few_videos_that_agree_are_no_proof():
    for num_clusters, at_least in ((2, 0.5), (3, 0.25), (6, 1 / 32)):
        clusters = [index // 4 for index in range(4 * num_clusters)]
        zeros, ones = [0.0] * len(clusters), [1.0] * len(clusters)
        assert paired_bootstrap(zeros, ones, clusters).p_value == at_least
    many = [index // 4 for index in range(80)]
    assert paired_bootstrap([0.0] * 80, [1.0] * 80, many).p_value < 0.002


def test_mcnemar_by_hand():
    # 1 sample only A gets right, 5 only B: p = 2 * (C(6,0) + C(6,1)) / 2^6.
    scores_a = [1] + [0] * 5 + [1, 0]
    scores_b = [0] + [1] * 5 + [1, 0]
    result = mcnemar(scores_a, scores_b)
    assert (result.only_a, result.only_b) == (1, 5)
    assert result.p_value == 2 * 7 / 64
    assert mcnemar(scores_b, scores_a).p_value == result.p_value
    assert mcnemar([1, 0], [1, 0]).p_value == 1.0
    assert mcnemar([1, 0], [0, 1]).p_value == 1.0


def test_mcnemar_of_thousands():
    result = mcnemar([1] * 1200 + [0] * 1300, [0] * 1200 + [1] * 1300)
    approximate = math.erfc((1300 - 1200 - 1) / math.sqrt(2500) / math.sqrt(2))
    assert result.p_value == pytest.approx(approximate, rel=0.02)


def test_a_whole_benchmark_is_fast():
    scores, clusters = simulated(num_clusters=900, per_cluster=3)
    started = time.process_time()
    cluster_bootstrap(scores, clusters)
    assert time.process_time() - started < 2.0


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="no scores"):
        cluster_bootstrap([], [])
    with pytest.raises(InputError, match="got 2 scores but 1 clusters"):
        cluster_bootstrap([1, 0], ["a"])
    with pytest.raises(InputError, match="not finite"):
        cluster_bootstrap([1, math.nan], "ab")
    with pytest.raises(InputError, match="num_resamples is 0"):
        cluster_bootstrap([1], "a", num_resamples=0)
    with pytest.raises(InputError, match="confidence is 95"):
        cluster_bootstrap([1], "a", confidence=95)
    with pytest.raises(InputError, match=r"scores 0 or 1, got 0\.5"):
        mcnemar([0.5], [1])
    with pytest.raises(InputError, match="got 2 scores but 1 scores of B"):
        paired_bootstrap([1, 0], [1], "ab")
