"""A picture of a log, also of one that was torn, repeated or written by several phases."""

import json

import pytest

from timevlm.errors import InputError
from timevlm.training.plots import _curves, _run_minutes, log_lines, plot_log, smoothed


def write_log(path, steps, phase="answers", **stage):
    with path.open("a") as log:
        for step in steps:
            line = {**stage, "phase": phase, "step": step}
            line |= {"minutes": step / 10, "learning_rate": 1e-3}
            print(json.dumps({**line, "loss": 1 / (1 + step), "token_accuracy": 0.5}), file=log)


def test_steps_that_were_made_twice_count_once_and_in_order(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(path, [10, 20], phase="vision")
    write_log(path, [10, 20, 30, 20, 30, 40])
    with path.open("a") as log:
        log.write('{"phase": "ans')
    lines = log_lines(path)
    assert [(line["phase"], line["step"]) for line in lines] == [
        *(("vision", step) for step in (10, 20)),
        *(("answers", step) for step in (10, 20, 30, 40)),
    ]


def test_stages_follow_each_other(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(path, [10, 20])
    write_log(path, [10, 20, 10], stage="b")
    write_log(path, [10], stage="c")
    lines = log_lines(path)
    found = [(line.get("stage"), line["step"]) for line in lines]
    assert found == [(None, 10), (None, 20), ("b", 10), ("b", 20), ("c", 10)]
    minutes, starts = _run_minutes(lines)
    assert minutes == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert list(starts.values()) == [1.0, 2.0, 4.0]
    curves = _curves(lines, minutes, "learning_rate")
    assert [x for x, _ in curves] == [[1.0, 2.0], [3.0, 4.0], [5.0]]
    assert curves[1][1] == [1e-3, 1e-3]


def test_smoothing_keeps_a_level_and_shortens_at_the_ends():
    assert smoothed([2.0, 2.0, 2.0], 1) == [2.0, 2.0, 2.0]
    assert smoothed([0.0, 3.0, 6.0], 1) == [1.5, 3.0, 4.5]


def test_a_log_becomes_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    path, out = tmp_path / "log.jsonl", tmp_path / "plots" / "log.png"
    write_log(path, range(10, 60, 10), phase="vision")
    write_log(path, range(10, 200, 10))
    plot_log(log_lines(path), out, title="a run")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in out.parent.iterdir()] == ["log.png"]


def test_there_must_be_a_log(tmp_path):
    with pytest.raises(InputError, match="is no file"):
        log_lines(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no line"):
        log_lines(tmp_path / "log.jsonl")
