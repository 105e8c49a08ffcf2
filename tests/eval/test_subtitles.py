"""Subtitle files as they are found: odd encodings, tags, both LongVideoBench forms."""

import json

import pytest

from eval.subtitles import (
    Cue,
    all_texts,
    at_frames_widened,
    cues_at_frames,
    decode_text,
    interleave,
    parse_longvideobench,
    parse_srt,
    read_longvideobench,
    read_srt,
)
from timevlm.errors import InputError

PLAIN = "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:01:00,250 --> 01:00:00,000\nBye\n"


def _texts(cues):
    return [(cue.start, cue.end, cue.text) for cue in cues]


def test_srt_times_and_texts():
    assert _texts(parse_srt(PLAIN)) == [(1.0, 2.5, "Hello"), (60.25, 3600.0, "Bye")]


@pytest.mark.parametrize(
    "untidy",
    [
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", "."),
        PLAIN.replace("1\n0", "0").replace("\n2\n", "\n"),  # no numbers
        PLAIN.replace("\n\n", "\n"),  # no empty line between cues is no reason to lose one
        PLAIN.replace("Hello", '<font color="#fff">{\\an8}<i>Hello</i></font>'),
        PLAIN.replace(" --> ", "-->").replace("Hello", "  Hello  "),
        PLAIN + "\n3\nnot a time\nlost\n",
    ],
)
def test_untidy_srt_keeps_the_first_cue(untidy):
    cues = parse_srt(untidy)
    assert (cues[0].start, cues[0].end) == (1.0, 2.5)
    assert cues[0].text.startswith("Hello")
    assert cues[1].text.startswith("Bye")


def test_lines_join_and_speech_in_digits_stays():
    text = "1\n00:00:00,000 --> 00:00:01,000\nIt is\nyellow\n\n2\n00:00:01,0 --> 00:00:02,0\n42\n"
    assert [cue.text for cue in parse_srt(text)] == ["It is yellow", "42"]


def test_empty_and_backward_cues_are_left_out():
    text = "1\n00:00:01,000 --> 00:00:02,000\n<i></i>\n\n2\n00:00:05,000 --> 00:00:04,000\nback\n"
    assert parse_srt(text) == ()


def test_comparisons_are_not_tags():
    text = "1\n00:00:00,000 --> 00:00:01,000\n3 < 4 and 5 > 2\n"
    assert parse_srt(text)[0].text == "3 < 4 and 5 > 2"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "-zz.srt"
    path.write_bytes(PLAIN.replace("Hello", "caf\u00e9").encode(encoding))
    assert read_srt(path)[0].text == "caf\u00e9"


def test_any_bytes_decode():
    assert len(decode_text(bytes(range(1, 256)))) == 255


def test_longvideobench_forms_agree():
    timed = [{"timestamp": [11.0, 12.5], "text": "go"}, {"timestamp": [13, None], "text": "end"}]
    clocked = [
        {"start": "00:00:11.000", "end": "0:00:12.500", "line": "go"},
        {"start": "00:00:13.000", "end": "00:00:30.000", "line": "end"},
    ]
    expected = [(1.0, 2.5, "go"), (3.0, 20.0, "end")]
    for entries in (timed, clocked):
        cues = parse_longvideobench(entries, duration_seconds=20.0, offset_seconds=10.0)
        assert _texts(cues) == expected


def test_longvideobench_refuses_other_forms(tmp_path):
    with pytest.raises(InputError, match="known form"):
        parse_longvideobench([{"from": 1}], duration_seconds=1.0)
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_longvideobench(path, duration_seconds=1.0)
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError, match="expected a list"):
        read_longvideobench(path, duration_seconds=1.0)


CUES = (
    Cue(start=0.0, end=2.0, text="one"),
    Cue(start=2.0, end=3.0, text="one"),
    Cue(start=3.0, end=4.0, text="two"),
    Cue(start=6.0, end=6.2, text="short"),
)


def test_cues_at_frames_are_half_open_and_without_repeats():
    assert cues_at_frames(CUES, [0.0, 2.0]) == ["one"]
    assert cues_at_frames(CUES, [1.0, 3.0]) == ["one", "two"]
    assert cues_at_frames(CUES, [4.0, 5.0]) == []
    assert all_texts(CUES) == ["one", "two", "short"]


def test_repeats_apart_stay():
    cues = [Cue(start=s, end=s + 1.0, text=t) for s, t in ((0.0, "a"), (1.0, "b"), (2.0, "a"))]
    assert cues_at_frames(cues, [0.5, 1.5, 2.5]) == ["a", "b", "a"]


def test_interleaving_puts_a_cue_behind_the_frames_up_to_its_midpoint():
    assert interleave(CUES[2:], [3.0, 3.5, 3.6]) == [0, 1, "two", 2]
    # A cue below one second reaches half a second to each side of its midpoint.
    assert interleave(CUES[3:], [5.7, 7.0]) == [0, "short", 1]
    assert interleave(CUES[3:], [5.5, 7.0]) == [0, 1]
    assert at_frames_widened(CUES[3:], []) == []


def test_every_frame_appears_once_in_order():
    frames = [0.5 * number for number in range(14)]
    order = interleave(CUES, frames)
    assert [item for item in order if isinstance(item, int)] == list(range(14))
