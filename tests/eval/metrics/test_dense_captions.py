import itertools

import numpy as np
import pytest

from eval.metrics.caption_tokens import tokenize
from eval.metrics.captioning import CaptionScore, rouge_l
from eval.metrics.dense_captions import (
    localisation,
    matched_caption_score,
    mean_scores,
    parse_events,
    soda,
    video_scores,
)
from eval.metrics.soda import ordered_assignment, soda_c
from eval.metrics.spans import TimeScale
from timevlm.errors import InputError

GOLD = [
    (0.0, 10.0, "a man cuts an onion"),
    (10.0, 30.0, "he fries the onion in a pan"),
    (30.0, 40.0, "two plates stand on the table"),
]


def test_the_golds_themselves_score_full_marks():
    scores = video_scores(GOLD, GOLD, meteor=rouge_l)
    for name in ("precision", "recall", "F1", "METEOR", "SODA_c"):
        assert scores[name] == pytest.approx(100.0)
    assert scores["CIDEr"] == pytest.approx(1000.0)
    assert scores["n_events"] == 3.0


def test_nothing_predicted_scores_nothing():
    scores = video_scores([], GOLD, meteor=rouge_l)
    assert set(scores.values()) == {0.0}


def test_detection_needs_more_and_matching_at_least_the_threshold():
    half = [(0.0, 5.0, "a man cuts an onion")]  # IoU with the first gold: exactly 0.5
    scores = localisation(half, GOLD, thresholds=(0.5,))
    assert scores["precision"] == scores["recall"] == 0.0
    assert localisation(half, GOLD, thresholds=(0.499,))["precision"] == 100.0
    assert matched_caption_score(half, GOLD, rouge_l, thresholds=(0.5,)) == pytest.approx(100.0)
    assert matched_caption_score(half, GOLD, rouge_l, thresholds=(0.51,)) == 0.0


def test_localisation_by_hand():
    predicted = [(0.0, 8.0, "x"), (12.0, 30.0, "y"), (50.0, 60.0, "z")]  # IoU 0.8, 0.9, 0
    scores = localisation(predicted, GOLD, thresholds=(0.3, 0.85))
    assert scores["precision@0.3"] == scores["recall@0.3"] == pytest.approx(200 / 3)
    assert scores["precision@0.85"] == scores["recall@0.85"] == pytest.approx(100 / 3)
    assert scores["precision"] == scores["F1"] == pytest.approx(50.0)


def test_unmatched_captions_pull_the_mean_down():
    stray = [*GOLD, (100.0, 110.0, "a man cuts an onion")]
    assert matched_caption_score(stray, GOLD, rouge_l) == pytest.approx(75.0)
    with_stray = matched_caption_score(stray, GOLD)
    assert 0 < with_stray < matched_caption_score(GOLD, GOLD) + 1e-9


def test_cider_of_a_single_pair_is_zero():
    assert matched_caption_score(GOLD[:1], GOLD[:1]) == 0.0


def test_a_prediction_over_two_events_is_compared_with_both():
    wide = [(0.0, 20.0, "a man cuts an onion")]
    golds = [(0.0, 10.0, "a man cuts an onion"), (10.0, 20.0, "zebra")]
    assert matched_caption_score(wide, golds, rouge_l, thresholds=(0.5,)) == pytest.approx(50.0)


def test_order_crossing_pairs_are_not_both_matched():
    swapped = [(0.0, 10.0, GOLD[1][2]), (10.0, 30.0, GOLD[0][2])]
    similarity = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = soda_c(similarity, np.ones((2, 2)), [(0, 10), (10, 30)], [(0, 10), (10, 30)])
    assert len(found.pairs) == 1
    assert found.f1 == pytest.approx(0.5)
    assert soda(swapped, GOLD[:2], rouge_l) < 50.0


def test_soda_does_not_depend_on_the_order_of_the_lists():
    predicted = [(0.0, 12.0, "a man cuts"), (12.0, 28.0, "he fries the onion"), (31.0, 39.0, "two")]
    expected = soda(predicted, GOLD, rouge_l)
    for order in itertools.permutations(predicted):
        assert soda(order, GOLD[::-1], rouge_l) == pytest.approx(expected)


def test_soda_by_hand():
    similarity, ious = np.array([[0.8, 0.1], [0.3, 0.6]]), np.array([[0.5, 0.0], [0.2, 1.0]])
    found = soda_c(similarity, ious, [(0, 1), (1, 2)], [(0, 1), (1, 2)])
    total = 0.8 * 0.5 + 0.6 * 1.0
    assert found.pairs == ((0, 0), (1, 1))
    assert found.precision == found.recall == found.f1 == pytest.approx(total / 2)


def brute_force(weights):
    """The best total over every order-preserving matching, written out."""
    rows, columns = weights.shape
    best = 0.0
    for size in range(min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), size):
            for others in itertools.combinations(range(columns), size):
                best = max(best, sum(weights[r, c] for r, c in zip(chosen, others, strict=True)))
    return best


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 2), (5, 5), (3, 6)])
def test_assignment_equals_trying_everything(shape):
    generator = np.random.default_rng(sum(shape))
    for _ in range(20):
        weights = generator.random(shape) * (generator.random(shape) > 0.4)
        total, pairs = ordered_assignment(weights)
        assert total == pytest.approx(brute_force(weights))
        assert sum(weights[pair] for pair in pairs) == pytest.approx(total)
        assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))


def test_long_lists_do_not_overflow():
    total, pairs = ordered_assignment(np.eye(1500))
    assert (total, len(pairs)) == (1500.0, 1500)


def test_published_roles_are_exchanged():
    def recall_of_reference(hypotheses, references):
        each = tuple(
            len(set(words) & set(refs[0])) / len(refs[0])
            for words, refs in zip(hypotheses, references, strict=True)
        )
        return CaptionScore(corpus=0.0, each=each)

    predicted = [(0.0, 10.0, "a man")]
    assert soda(predicted, GOLD[:1], recall_of_reference) == pytest.approx(40.0)
    swapped = soda(predicted, GOLD[:1], recall_of_reference, compat_official=True)
    assert swapped == pytest.approx(100.0)


@pytest.mark.parametrize(
    "line",
    [
        "0.0 - 9.5 seconds, a man cooks",
        "0.0 - 9.5 seconds: a man cooks",
        "0 - 9.5s a man cooks",
        "0.0s to 9.5s, a man cooks",
        "[0.0, 9.5] a man cooks",
        "(0.0 - 9.5) a man cooks",
        "<0.0s> - <9.5s>: a man cooks",
        "1. 0.0 - 9.5 seconds, a man cooks",
        "- 00:00 - 00:09.5: a man cooks",
        "From 0 to 9.5 seconds, a man cooks",
        "**0.0 - 9.5 seconds**, a man cooks",
    ],
)
def test_event_lines(line):
    assert parse_events(line).events == ((0.0, 9.5, "a man cooks"),)


def test_words_are_left_as_they_are():
    parsed = parse_events("3 - 8 seconds, Add 1/2 - 1 cup of milk to 2 eggs")
    assert parsed.events == ((3.0, 8.0, "Add 1/2 - 1 cup of milk to 2 eggs"),)


def test_a_reply_of_many_lines_and_of_one():
    lines = "Here it is:\n0 - 5 seconds, one.\n\n9 - 5 seconds, two."
    parsed = parse_events(lines)
    assert parsed.events == ((0.0, 5.0, "one."), (5.0, 9.0, "two."))
    assert (parsed.num_swapped, parsed.num_skipped) == (1, 1)
    packed = parse_events("0 - 5 seconds, one. 5 - 9 seconds, two. Add 1 - 2 cups.")
    assert [event[:2] for event in packed.events] == [(0.0, 5.0), (5.0, 9.0)]
    assert packed.events[1][2] == "two. Add 1 - 2 cups."
    assert parse_events("").events == parse_events("I see nothing.").events == ()


def test_events_in_blocks():
    text = (
        "1. Start time: 1:05\nEnd time: 1:09\nDescription: Making toast\n"
        "2. Start time: 70, End time: 80, Description: Eating it: quickly"
    )
    assert parse_events(text).events == (
        (65.0, 69.0, "Making toast"),
        (70.0, 80.0, "Eating it: quickly"),
    )


def test_times_in_other_units():
    text = "25 - 50, one.\n0:30 - 0:20, two."
    scale = TimeScale(unit="frame_index", duration_seconds=40.0)
    parsed = parse_events(text, scale=scale)
    assert parsed.events == ((10.0, 20.0, "one."), (20.0, 30.0, "two."))
    assert parsed.num_swapped == 1
    block = "Start time: 0.25, End time: 0.5, Description: Eating it"
    parts = TimeScale(unit="normalized", duration_seconds=40.0)
    assert parse_events(block, scale=parts).events == ((10.0, 20.0, "Eating it"),)


def test_means_over_videos():
    videos = [video_scores(GOLD, GOLD), video_scores([], GOLD)]
    assert mean_scores(videos)["F1"] == pytest.approx(50.0)
    with pytest.raises(InputError, match="no videos"):
        mean_scores([])
    with pytest.raises(InputError, match="different metrics"):
        mean_scores([{"F1": 1.0}, {"CIDEr": 1.0}])
    with pytest.raises(InputError, match="no reference captions"):
        localisation(GOLD, [])


def test_captions_are_compared_as_words():
    assert tokenize("A man cuts an onion.") == tokenize(GOLD[0][2])
    loud = [(start, end, f"{text.upper()}!") for start, end, text in GOLD]
    assert matched_caption_score(loud, GOLD) == pytest.approx(1000.0)
