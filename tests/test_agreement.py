"""Spans that a model's likely answers agree on."""

import pytest

from timevlm.agreement import (
    LikelyCaption,
    interval_iou,
    most_agreed,
    most_agreed_caption,
    overlap_seconds,
)


def spans_of(found: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    return [(start, end) for start, end, _ in found]


def test_overlap_and_iou_of_sets_of_spans():
    assert overlap_seconds([(0, 4), (6, 8)], [(3, 7)]) == 2.0
    assert interval_iou([(0, 4), (6, 8)], [(3, 7)]) == pytest.approx(2 / 8)
    assert interval_iou([], []) == 0.0


def test_one_answer_is_itself():
    assert most_agreed([([(1.0, 2.0), (4.0, 6.0)], 1.0)]) == [(1.0, 2.0, 1.0), (4.0, 6.0, 1.0)]


def test_many_that_agree_outweigh_the_likeliest():
    near = [([(10.0, 14.0 + i)], 0.15) for i in range(4)]
    found = most_agreed([([(0.0, 3.0)], 0.4), *near])
    assert spans_of(found) in ([(10.0, 15.0)], [(10.0, 16.0)])
    assert found[0][2] == pytest.approx(0.6)


def test_the_gain_is_expected_overlap_and_the_chance_of_half_of_it():
    answers = [([(0.0, 10.0)], 0.5), ([(0.0, 4.0)], 0.4), ([(0.0, 6.0)], 0.1)]
    # By overlap alone: 0.5 + 0.16 + 0.06, 0.2 + 0.4 + 0.067, 0.3 + 0.267 + 0.1. Within half: 0.6,
    # 0.5 and all.
    assert spans_of(most_agreed(answers)) == [(0.0, 6.0)]
    assert spans_of(most_agreed(answers[:2])) == [(0.0, 10.0)]


def test_a_score_is_the_chance_that_the_truth_holds_such_a_span():
    answers = [([(0.0, 2.0), (5.0, 9.0)], 0.6), ([(0.0, 2.0)], 0.3), ([(0.5, 2.0)], 0.1)]
    found = most_agreed(answers)
    assert spans_of(found) == [(0.0, 2.0), (5.0, 9.0)]
    assert [score for *_, score in found] == pytest.approx([1.0, 0.6])


def test_spans_that_last_no_time_agree_with_themselves():
    assert most_agreed([([(0.0, 0.0)], 1.0)]) == [(0.0, 0.0, 1.0)]
    assert most_agreed_caption([LikelyCaption((0.0, 0.0), ["a star"], 1.0)]) == (0, 1.0)


def test_a_caption_tells_what_most_likely_ones_tell():
    captions = [
        LikelyCaption((0.0, 9.0), ["a red star"], 0.3),
        LikelyCaption((0.0, 9.0), ["a blue star", "a ring"], 0.25),
        LikelyCaption((0.0, 8.0), ["a blue star", "a circle"], 0.25),
        LikelyCaption((5.0, 9.0), ["a blue star", "a ring"], 0.2),
    ]
    index, score = most_agreed_caption(captions)
    assert index == 1
    # Half of the third's items; the fourth says the same of less than half of the time.
    assert score == pytest.approx(0.25 + 0.25 / 2)


def test_items_count_as_often_as_they_are_told():
    twice = LikelyCaption((0.0, 4.0), ["a ring", "a ring"], 0.5)
    once = LikelyCaption((0.0, 4.0), ["a ring"], 0.5)
    assert most_agreed_caption([twice, once]) == (0, pytest.approx(0.5 + 0.5 * 2 / 3))
