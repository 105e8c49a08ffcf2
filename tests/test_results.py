"""Results: refuse nonsense, survive JSON, and write subtitles that players accept."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest

from timevlm.errors import InputError
from timevlm.results import (
    Answer,
    Caption,
    Span,
    Timings,
    format_timestamp,
    parse_time,
    spans_to_csv,
    to_srt,
    to_vtt,
)


def make_answer(**changes: object) -> Answer:
    values = {
        "question": "What colour?",
        "text": "red",
        "choice": 1,
        "choices": ("blue", "red"),
        "confidence": 0.75,
        "evidence": (Span(start=1.5, end=3.25, score=0.9),),
        "timings": Timings(decode=0.5, encode=1.0, prefill=0.25, generate=0.125),
        "plan": {"fps": 1.0, "max_frames": None},
        "warnings": ("2 broken frames skipped",),
        "video": "a.mp4",
        "model": "nano",
    }
    return Answer(**{**values, **changes})


@pytest.mark.parametrize(
    "record",
    [
        Span(start=0, end=2),
        Caption(start=1, end=2.5, text="a red ball stops", score=0.5),
        Timings(decode=1, encode=2, prefill=3, generate=4),
        make_answer(),
        make_answer(choice=None, choices=(), evidence=(), text="zwölf"),
    ],
)
def test_json_round_trip_is_the_identity(record):
    assert type(record).from_dict(record.to_dict()) == record
    assert type(record).from_json(record.to_json()) == record
    assert json.loads(record.to_json()) == record.to_dict()


def test_lists_become_tuples_and_integers_become_floats():
    answer = make_answer(choices=["blue", "red"])
    assert answer.choices == ("blue", "red")
    assert isinstance(Span(start=1, end=2).start, float)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Span(start=2, end=1), r"ends at 1.0 s, before its start at 2.0 s"),
        (lambda: Span(start=float("nan"), end=1), r"Span.start is nan"),
        (lambda: Span(start="0", end=1), r"Span.start is '0'"),
        (lambda: Span(start=True, end=1), r"finite number"),
        (lambda: Caption(start=0, end=1, text=3), r"Caption.text is int"),
        (lambda: Timings(decode=-1), r"Timings.decode is -1.0"),
        (lambda: make_answer(confidence=1.5), r"between 0 and 1"),
        (lambda: make_answer(choice=2), r"index into 2 choices"),
        (lambda: make_answer(choice=True), r"index or None"),
        (lambda: make_answer(choices="ab"), r"sequence of str"),
        (lambda: make_answer(evidence=({"start": 0},)), r"something else than Span"),
        (lambda: make_answer(plan={"path": object()}), r"cannot be written as JSON"),
        (lambda: make_answer(plan={"fps": float("inf")}), r"cannot be written as JSON"),
    ],
)
def test_nonsense_is_refused_with_the_value(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"start": 0, "end": 1}, r"missing \['score'\]"),
        ({"start": 0, "end": 1, "score": 1, "stop": 2}, r"unknown \['stop'\]"),
        ([0, 1], "not from list"),
    ],
)
def test_from_dict_is_strict(data, message):
    with pytest.raises(InputError, match=message):
        Span.from_dict(data)


def test_from_json_refuses_other_text():
    with pytest.raises(InputError, match="not valid JSON"):
        Answer.from_json("{")
    broken = make_answer().to_dict() | {"evidence": "none"}
    with pytest.raises(InputError, match="sequence of Span"):
        Answer.from_dict(broken)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.000"),
        (-0.04, "0:00:00.000"),
        (59.9995, "0:01:00.000"),
        (3599.9994, "0:59:59.999"),
        (3661.5, "1:01:01.500"),
        (360000, "100:00:00.000"),
    ],
)
def test_format_timestamp(seconds, text):
    assert format_timestamp(seconds) == text


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_format_timestamp_refuses(seconds):
    with pytest.raises(InputError, match="cannot be shown"):
        format_timestamp(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90.5", 90.5),
        (".5", 0.5),
        ("12.5s", 12.5),
        ("1:30", 90.0),
        ("90:00", 5400.0),
        ("0:01:30.250", 90.25),
        ("10:00:00", 36000.0),
    ],
)
def test_parse_time(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:70:00", "1:2:3:4", "nan", "1e3", "1:3", "a"])
def test_parse_time_refuses(text):
    with pytest.raises(InputError, match="is not a time"):
        parse_time(text)


def test_parse_time_inverts_format_timestamp():
    for milliseconds in range(0, 7_300_000, 777_777):
        assert parse_time(format_timestamp(milliseconds / 1000)) == pytest.approx(
            milliseconds / 1000
        )


CAPTIONS = [
    Caption(start=0, end=1.25, text="a <red> ball & a --> arrow"),
    Caption(start=3661, end=3661, text="first\n\n second"),
]


def test_srt_has_numbers_commas_and_no_blank_line_inside_a_cue():
    assert to_srt(CAPTIONS) == (
        "1\n00:00:00,000 --> 00:00:01,250\na <red> ball & a --> arrow\n\n"
        "2\n01:01:01,000 --> 01:01:01,001\nfirst\nsecond\n"
    )
    assert to_srt([]) == ""


def test_vtt_has_a_header_points_and_escaped_text():
    assert to_vtt(CAPTIONS) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\na &lt;red&gt; ball &amp; a --&gt; arrow\n\n"
        "01:01:01.000 --> 01:01:01.001\nfirst\nsecond\n"
    )
    assert to_vtt([]) == "WEBVTT\n"


def test_vtt_of_spans_shows_label_and_score():
    text = to_vtt([Span(start=1, end=2, score=0.5)], label="it spins")
    assert text.endswith("00:00:01.000 --> 00:00:02.000\nit spins (0.500)\n")
    assert re.search(r"\n\(0.500\)\n$", to_vtt([Span(start=1, end=2, score=0.5)]))


def test_csv_keeps_every_digit():
    spans = [Span(start=1 / 3, end=2, score=0.1), Span(start=-0.02, end=4)]
    rows = list(csv.DictReader(io.StringIO(spans_to_csv(spans))))
    assert [float(row["start"]) for row in rows] == [1 / 3, -0.02]
    assert rows[0]["start_time"] == "0:00:00.333"
    assert rows[1]["start_time"] == "0:00:00.000"


def test_results_and_package_need_no_heavy_library():
    code = (
        "import sys, timevlm, timevlm.results\n"
        "assert 'TimeVLM' in dir(timevlm) and timevlm.Span is timevlm.results.Span\n"
        "heavy = {'torch', 'transformers', 'av', 'numpy', 'importlib.metadata'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(timevlm.__version__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, version = run.stdout.splitlines()
    assert heavy == "[]"
    assert re.fullmatch(r"\d+\.\d+.*", version)


def test_unknown_public_name_is_an_attribute_error():
    import timevlm

    with pytest.raises(AttributeError, match="no attribute 'TimeVML'"):
        _ = timevlm.TimeVML
