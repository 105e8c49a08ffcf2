"""Times that people write, as the timestamps of frames."""

import pytest

from timevlm.tasks.times import mark_times, unmark_times

FRAMES = [0.0, 1.0, 2.5, 4.0, 61.0, 3661.5]


@pytest.mark.parametrize(
    ("text", "shown", "first_from"),
    [
        ("at 1s", "<1.0s>", "<1.0s>"),
        ("at 1.0 seconds", "<1.0s>", "<1.0s>"),
        ("at 3 sec", "<2.5s>", "<4.0s>"),
        ("at 3.9 secs", "<2.5s>", "<4.0s>"),
        ("at 1 second", "<1.0s>", "<1.0s>"),
        ("at 1:01", "<61.0s>", "<61.0s>"),
        ("at 01:01.5", "<61.0s>", "<3661.5s>"),
        ("at 1:01:01.5", "<3661.5s>", "<3661.5s>"),
        ("at 9999 s", "<3661.5s>", "<3661.5s>"),  # beyond the end: the last frame
    ],
)
def test_a_time_becomes_a_frames_timestamp(text, shown, first_from):
    assert mark_times(text, FRAMES) == f"at {shown}"
    assert mark_times(text, FRAMES, "from") == f"at {first_from}"


def test_before_the_first_frame_is_the_first_frame():
    assert mark_times("at 1s", [5.0, 6.0]) == "at <5.0s>"
    assert mark_times("at 1s", [5.0, 6.0], "from") == "at <5.0s>"


@pytest.mark.parametrize(
    "text",
    [
        "What colour is the circle?",
        "3 shapes",
        "the 2nd scene",
        "version 1.2.3s",
        "route 12:345",
        "<1.0s>",
        "12 stars",
    ],
)
def test_other_text_is_left_alone(text):
    assert mark_times(text, FRAMES) == text


def test_rounding_noise_does_not_move_a_time():
    frames = [0.0, 11.999999999, 13.0]
    assert mark_times("at 12.0 s", frames, "from") == "at <12.0s>"
    assert mark_times("at 12.0 s", [0.0, 12.0000000001, 13.0]) == "at <12.0s>"


def test_several_times_of_one_text():
    marked = mark_times("Between 1 s and 0:04, what moves?", FRAMES)
    assert marked == "Between <1.0s> and <4.0s>, what moves?"


def test_marking_twice_changes_nothing():
    once = mark_times("from 1 s to 3 s", FRAMES)
    assert mark_times(once, FRAMES) == once


def test_unmark_gives_plain_seconds():
    assert unmark_times("from <1.0s> to <12.5s>") == "from 1.0s to 12.5s"
    assert unmark_times("no times <here>") == "no times <here>"
    assert mark_times(unmark_times("at <2.5s>"), FRAMES) == "at <2.5s>"
