import random

import pytest

from timevlm.errors import InputError
from timevlm.tasks.timestamps import parse_timestamp, round_seconds, timestamp_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "<0.0s>"),
        (0.0, "<0.0s>"),
        (-0.04, "<0.0s>"),
        (0.05, "<0.1s>"),
        (0.25, "<0.3s>"),
        (0.35, "<0.4s>"),
        (9.949999, "<9.9s>"),
        (9.95, "<10.0s>"),
        (12.5, "<12.5s>"),
        (36000.0, "<36000.0s>"),
        (1e16, "<10000000000000000.0s>"),
        (1e-9, "<0.0s>"),
    ],
)
def test_text_is_rounded_half_up(seconds, text):
    assert timestamp_text(seconds) == text


def test_text_and_time_are_inverse_on_tenths():
    for tenths in [*range(2000), 359_999, 360_000, 864_001]:
        seconds = tenths / 10
        assert parse_timestamp(timestamp_text(seconds)) == seconds
        assert round_seconds(seconds) == seconds


def test_rounding_keeps_the_order():
    rng = random.Random(0)
    times = sorted(rng.uniform(0, 20) for _ in range(2000))
    rounded = [parse_timestamp(timestamp_text(time)) for time in times]
    assert rounded == sorted(rounded)
    assert all(abs(a - b) <= 0.05 + 1e-9 for a, b in zip(times, rounded, strict=True))


@pytest.mark.parametrize(
    "text",
    ["", "12.5", "<12.5>", "<12s>", "<12.55s>", "<012.5s>", "<-1.0s>", " <1.0s>", "<1.0s>\n"],
)
def test_anything_else_is_no_timestamp(text):
    with pytest.raises(ValueError, match="not a timestamp"):
        parse_timestamp(text)


@pytest.mark.parametrize("seconds", [-0.05, -3.0, float("nan"), float("inf")])
def test_times_without_a_timestamp(seconds):
    with pytest.raises(InputError, match="finite and not negative"):
        timestamp_text(seconds)
