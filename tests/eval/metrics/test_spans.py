"""The golden table of spans: what each rule set makes of a reply."""

import pytest

from eval.metrics.spans import (
    SPAN_RULE_SETS,
    UNPARSED,
    SpanParse,
    TimeScale,
    clock_seconds,
    parse_spans,
)
from timevlm.errors import InputError

TWELVE_TO_TWENTY = [
    "12 to 20",
    "12 - 20",
    "12.0s to 20.0s",
    "[12.0, 20.0]",
    '{"start":12,"end":20}',
    "00:12 to 00:20",
    "00:00:12 to 00:00:20",
    "starts at 12 seconds.\nIt ends at 20 seconds",
    "The event happens in 12 - 20 seconds.",
    "<think>3 to 4</think><answer>12 to 20</answer>",
    "<answer>1 to 2</answer> no: <answer>12 to 20</answer>",
    "from 12 seconds until 20 seconds",
    "between 12 and 20",
    "12s\u201320s",
    "12 \u2014 20",
    "12~20s",
    "(12.0s, 20.0s)",
    "00:12 --> 00:20",
    "[00:12, 00:20]",
    '{"start_time": "00:12", "end_time": "00:20"}',
    "Start time: 12 seconds\nEnd time: 20 seconds",
    "The start time for this event is 12 seconds, and the end time is 20 seconds.",
    "begins at 0:12 and finishes at 0:20",
    "**12.0 - 20.0**",
    "0.2 - 0.333333333333 minutes, hm: 12 - 20",
]


@pytest.mark.parametrize("text", TWELVE_TO_TWENTY)
def test_golden_twelve_to_twenty(text):
    assert parse_spans(text).span == pytest.approx((12, 20))
    assert not parse_spans(text).swapped


@pytest.mark.parametrize(
    ("text", "span", "swapped"),
    [
        ("1:05 - 1:20", (65, 80), False),
        ("20.5 \u2013 10.1 seconds", (10.1, 20.5), True),
        ("start: 5 seconds, end: 9 seconds", (5, 9), False),
        ("The video of 2019 - 2020 shows; happens in 5 - 9", (5, 9), False),
        ("1:02:03 to 1:02:04.5", (3723, 3724.5), False),
        ("1 to 1.5 minutes", (60, 90), False),
        ("7 to 7", (7, 7), False),
    ],
)
def test_golden_others(text, span, swapped):
    parsed = parse_spans(text)
    assert parsed.span == pytest.approx(span)
    assert parsed.swapped == swapped


@pytest.mark.parametrize(
    "text", ["I cannot find it.", "", "at 12 seconds", "<think>5 to 9", "1/2 - 1 cup", "v2 - 3d"]
)
def test_unparsed(text):
    assert parse_spans(text).span is None
    assert parse_spans(text).rule == UNPARSED


def test_first_or_last_of_several():
    text = "The video of 2019 - 2020 shows; happens in 5 - 9"
    assert parse_spans(text, pick="first").span == (2019, 2020)
    assert parse_spans(text, rules="lmms").span == (2019, 2020)


def test_units_of_the_video():
    frames = TimeScale(unit="frame_index", duration_seconds=40)
    parts = TimeScale(unit="normalized", duration_seconds=40)
    assert parse_spans("25 to 50", scale=frames).span == (10, 20)
    assert parse_spans("0.25 to 0.5", scale=parts).span == (10, 20)
    assert parse_spans("25% to 50%", scale=parts).span == (10, 20)
    assert parse_spans("0:10 to 0:20", scale=frames).span == (10, 20)
    assert parse_spans("50 to 25", scale=frames) == SpanParse(
        span=(10, 20), rule="pair", swapped=True
    )


@pytest.mark.parametrize(
    ("text", "timeviper", "lmms"),
    [
        ("12.0s to 20.0s", None, None),
        ("12 - 20", None, None),
        ("12 to 20", (12, 20), None),
        ("00:12 to 00:20", (12, 0), None),
        ("start: 5 seconds, end: 9 seconds", None, None),
        ("[12.5, 20.1]", None, None),
        ('{"start":12,"end":20}', None, None),
        ("The event happens in 12 - 20 seconds.", None, (12, 20)),
        ("It starts at 12\nIt ends at 20", None, (12, 20)),
    ],
)
def test_what_published_scripts_read(text, timeviper, lmms):
    assert parse_spans(text, rules="timeviper").span == timeviper
    assert parse_spans(text, rules="lmms").span == lmms


@pytest.mark.parametrize("rules", SPAN_RULE_SETS)
def test_every_rule_set_reads_its_own_prompt_and_survives_noise(rules):
    asked = {"timeviper": "12 to 20", "lmms": "The event happens in 12 - 20 seconds"}
    assert parse_spans(asked.get(rules, "12 to 20"), rules=rules).span == (12, 20)
    for noise in ("", "9" * 400 + " to 5", "-" * 5000, "1 to " * 2000, "start " * 500 + "1"):
        parse_spans(noise, rules=rules)


def test_clock():
    assert clock_seconds("1:05") == 65
    assert clock_seconds("2:00:01.5") == 7201.5


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="unknown pick 'best'; use one of last, first"):
        parse_spans("1 to 2", pick="best")
    with pytest.raises(InputError, match="unknown span unit 'frames'; use one of seconds, frame"):
        TimeScale(unit="frames")
    for duration in (None, 0.0, -1.0, float("nan")):
        with pytest.raises(
            InputError, match=f"needs the video's duration in seconds, got {duration}"
        ):
            TimeScale(unit="frame_index", duration_seconds=duration)
    for rules in ("timeviper", "lmms"):
        with pytest.raises(InputError, match="read seconds alone"):
            parse_spans(
                "1 to 2", rules=rules, scale=TimeScale(unit="normalized", duration_seconds=9.0)
            )
