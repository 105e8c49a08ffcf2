import random

import pytest

from timevlm.errors import InputError
from timevlm.tasks.grounding import (
    format_spans,
    grounding_prompt,
    merge_spans,
    parse_spans,
    snap_spans,
)


def random_spans(rng):
    times = sorted(rng.sample(range(3000), 2 * rng.randrange(1, 6)))
    return [(a / 10, b / 10) for a, b in zip(times[::2], times[1::2], strict=True)]


def test_prompt_is_stable():
    assert grounding_prompt("  a red\n circle stops ") == "When: a red circle stops"
    with pytest.raises(InputError, match="query is empty"):
        grounding_prompt(" ")


def test_format_by_example():
    assert format_spans([(3, 9)]) == "<3.0s> - <9.0s>"
    assert format_spans([(3, 9), (12.04, 12.04)]) == "<3.0s> - <9.0s>, <12.0s> - <12.0s>"


def test_parse_undoes_format():
    rng = random.Random(0)
    for _ in range(500):
        spans = random_spans(rng)
        assert parse_spans(format_spans(spans)) == spans


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "<3.0s>",
        "<3.0s>-<9.0s>",
        "<3.0s> - <9.0s>,",
        "<3.0s> - <9.0s> ",
        "<3.0s> - <9.0s>\n",
        "<9.0s> - <3.0s>",
        "<3.0s> - <9.0s>,<12.0s> - <15.0s>",
        "<3.0s> - <9.0s>, <9.0s> - <15.0s>",
        "<12.0s> - <15.0s>, <3.0s> - <9.0s>",
        "From <3.0s> - <9.0s>",
    ],
)
def test_parse_is_strict(text):
    with pytest.raises(ValueError, match="span"):
        parse_spans(text)


@pytest.mark.parametrize("spans", [[], [(2, 1)], [(0, 2), (2.04, 3)], [(5, 6), (1, 2)]])
def test_format_refuses_what_parse_would(spans):
    with pytest.raises(ValueError, match="span"):
        format_spans(spans)


def test_merge_sorts_and_joins_what_touches():
    assert merge_spans([(5, 9), (0, 2), (3, 4), (1, 3), (6, 7)]) == [(0, 4), (5, 9)]
    assert merge_spans([]) == []


def test_merge_covers_the_same_times():
    rng = random.Random(0)
    for _ in range(300):
        starts = [rng.randrange(40) for _ in range(8)]
        spans = [(start, start + rng.randrange(6)) for start in starts]
        merged = merge_spans(spans)
        for point in range(50):
            holding = [s for s in spans if s[0] <= point <= s[1]]
            assert bool(holding) == (sum(s[0] <= point <= s[1] for s in merged) == 1)
        assert merge_spans(merged) == merged


def test_snapped_spans_lie_on_frames_and_can_be_formatted():
    rng = random.Random(0)
    for _ in range(300):
        frames = sorted(rng.uniform(0, 30) for _ in range(rng.randrange(1, 40)))
        spans = [(start, start + rng.uniform(0, 5)) for start in (rng.uniform(-1, 32),) * 3]
        snapped = snap_spans(spans, frames)
        assert parse_spans(format_spans(snapped)) == snapped
        assert {t for span in snapped for t in span} <= {round(frame, 1) for frame in frames}
    assert snap_spans([(1.2, 2.6), (2.7, 3.1)], [0.0, 1.0, 2.0, 3.0]) == [(1.0, 3.0)]
    assert snap_spans([(0.5, 0.5)], [0.0, 1.0]) == [(0.0, 0.0)]
    with pytest.raises(ValueError, match="no frames"):
        snap_spans([(0, 1)], [])
