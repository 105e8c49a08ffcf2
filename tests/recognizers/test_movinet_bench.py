"""The bench's numbers mean what they say."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench_movinet")


def test_asks_compare_with_the_port_and_the_longest_run_with_the_shortest(bench):
    speed = [{"model": "a0", "frames_a_step": 1, "speed_ratio": 1.4}]
    memory = [
        {"kind": "stream", "peak_mebibytes": 200.0},
        {"kind": "stream", "peak_mebibytes": 210.0},
        {"kind": "train whole clip", "peak_mebibytes": 900.0},
    ]
    found = bench.judge(speed, memory)
    assert [entry["value"] for entry in found] == [1.4, 10.0, None]
    assert [entry["met"] for entry in found] == [False, True, None]
    assert bench.judge([{"model": "a0", "frames_a_step": 1}], [])[0]["met"] is None
    assert bench.judge([], memory[:1])[0]["met"] is None  # one length says nothing of growth


def test_turns_time_each_function_as_often(bench):
    calls = {"a": 0, "b": 0}

    def step(name):
        calls[name] += 1

    seconds = bench.take_turns({"a": lambda: step("a"), "b": lambda: step("b")}, 3)
    assert calls == {"a": 5, "b": 5}
    assert all(value >= 0 for value in seconds.values())


@pytest.mark.slow
def test_bench_runs_at_toy_size():
    toy = ["--models", "a0", "--size", "32", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_movinet.py"), *toy, "--frames", "8", "16"],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert [row["frames_a_step"] for row in result["speed"]] == [1, 8]
    assert all(row["largest_difference"] < 1e-4 for row in result["speed"])
    assert {row["kind"] for row in result["memory"]} == {"stream", "train", "train whole clip"}
