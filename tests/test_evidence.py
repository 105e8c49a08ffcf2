"""From attention on vision tokens to spans of seconds."""

import pytest
import torch

from timevlm.evidence import MAX_SPANS, evidence_spans, frame_interval, told_interval

FRAMES = torch.tensor([0.0, 1.0, 2.5, 4.0, 5.0], dtype=torch.float64)
END = 6.0


def spans(per_token: list[float], tokens_of: list[int]) -> list[tuple[float, float, float]]:
    """Spans for tokens that get `per_token` attention and belong to frames `tokens_of`."""
    found = evidence_spans(torch.tensor(per_token), FRAMES[tokens_of], FRAMES, END)
    return [(span.start, span.end, round(span.score, 6)) for span in found]


def test_attention_is_summed_over_a_frames_tokens():
    # No token of frame 1 is the best, but together they are.
    assert spans([0.3, 0.3, 0.4], [1, 1, 3]) == [(1.0, 2.5, 0.6), (4.0, 5.0, 0.4)]


def test_neighbours_above_the_floor_are_one_span():
    assert spans([0.05, 0.4, 0.35, 0.2], [0, 1, 2, 4]) == [(1.0, 4.0, 0.75), (5.0, END, 0.2)]


def test_frames_below_half_of_the_best_do_not_count():
    assert spans([0.7, 0.3], [1, 3]) == [(1.0, 2.5, 0.7)]


def test_the_last_frame_lasts_to_the_end():
    assert spans([1.0], [4]) == [(5.0, END, 1.0)]


def test_best_first_and_not_too_many():
    found = evidence_spans(
        torch.tensor([0.2, 0.3, 0.25, 0.15, 0.0]),
        torch.arange(0.0, 10.0, 2.0).double(),
        torch.arange(10.0).double(),
        10.0,
    )
    assert len(found) == MAX_SPANS
    assert [span.start for span in found] == [2.0, 4.0, 0.0]


@pytest.mark.parametrize("ranking", [torch.zeros(2), torch.zeros(0)])
def test_no_attention_is_no_evidence(ranking):
    assert evidence_spans(ranking, FRAMES[: len(ranking)], FRAMES, END) == ()


def test_spans_lie_inside_the_video_whatever_the_ranking():
    for _ in range(50):
        tokens = torch.randint(0, 5, (8,)).sort().values
        for span in evidence_spans(torch.rand(8), FRAMES[tokens], FRAMES, END):
            assert 0.0 <= span.start <= span.end <= END
            assert 0.0 < span.score <= 1.0 + 1e-9


def test_interval_of_frames():
    seconds = FRAMES.tolist()
    assert frame_interval(1, 2, seconds, END) == (1.0, 4.0)
    assert frame_interval(4, 4, seconds, END) == (5.0, END)
    assert frame_interval(4, 4, seconds, 4.5) == (5.0, 5.0)  # a clock that stops too early


def test_a_moment_is_around_its_frame():
    seconds = [0.0, 1.0, 2.0, 4.0, 5.0]
    assert told_interval(1, 2, seconds, END) == frame_interval(1, 2, seconds, END) == (1.0, 4.0)
    assert told_interval(1, 1, seconds, END) == (0.5, 1.5)
    assert told_interval(2, 2, seconds, END) == (1.5, 2.5)  # not far into a gap
    assert told_interval(3, 3, seconds, END) == (3.5, 4.5)
    assert told_interval(0, 0, seconds, END) == (0.0, 0.5)  # nothing is before the video
    assert told_interval(4, 4, seconds, END) == (4.5, END)
    assert told_interval(4, 4, seconds, 4.5) == (4.5, 5.0)  # a clock that stops too early
    assert told_interval(0, 0, [3.0], 3.0) == (3.0, 3.0)
