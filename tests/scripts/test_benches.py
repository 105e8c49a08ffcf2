"""The benches run at toy sizes, and their numbers mean what they say."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def load(monkeypatch):
    """Import a script by name, as running it would find its neighbours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def run_script(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_peak_memory_sees_what_is_freed_again(load):
    bench = load("_bench")
    size = 64 * bench.MEBIBYTE
    with bench.PeakRSS() as memory:
        torch.zeros(size, dtype=torch.uint8).fill_(1)
    assert 0.9 * size < memory.peak - memory.before < 1.5 * size


def test_peak_memory_of_nothing_is_nothing(load):
    bench = load("_bench")
    with bench.PeakRSS() as memory:
        pass
    assert memory.peak - memory.before < 8 * bench.MEBIBYTE


@pytest.fixture
def child_script(tmp_path):
    path = tmp_path / "child.py"
    path.write_text(
        "import json, sys, time\n"
        "job = json.loads(sys.argv[2])\n"
        "print('noise')\n"
        "if job.get('fail'): raise ValueError('it broke')\n"
        "hold = bytearray(job.get('bytes', 0))\n"
        "time.sleep(job.get('seconds', 0))\n"
        "print(json.dumps({'got': job['value']}))\n"
    )
    return path


def test_child_returns_its_last_line(load, child_script):
    assert load("_bench").run_child(child_script, {"value": 3}) == {"got": 3}


def test_child_over_a_budget_is_ended_and_says_which(load, child_script):
    bench = load("_bench")
    slow = {"value": 1, "seconds": 60}
    assert bench.run_child(child_script, slow, max_seconds=0.3) == {"skipped": "over 0.3 s"}
    large = {"value": 1, "seconds": 60, "bytes": 200 * bench.MEBIBYTE}
    limited = bench.run_child(child_script, large, max_bytes=100 * bench.MEBIBYTE)
    assert limited["skipped"].endswith("GiB")


def test_child_that_fails_is_an_error_with_its_message(load, child_script):
    with pytest.raises(RuntimeError, match="it broke"):
        load("_bench").run_child(child_script, {"value": 1, "fail": True})


def test_verdicts_know_their_direction(load, capsys):
    bench = load("_bench")
    found = [
        bench.verdict("a", 30.0, 25.0, at_most=False),
        bench.verdict("b", 30.0, 25.0),
        bench.verdict("c", None, 25.0),
    ]
    assert [entry["met"] for entry in found] == [True, False, None]
    bench.show_verdicts(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("; ")[1] for line in lines] == ["30: met", "30: NOT MET", "not measured"]


def test_tables_are_markdown_and_kept_with_the_json(load, capsys, tmp_path):
    bench = load("_bench")
    table = bench.print_table("Two", ["name", "ms"], [["a", 1.234], ["long name", None]])
    assert table.splitlines() == [
        "Two:",
        "",
        "| name      |   ms |",
        "| --------- | ---: |",
        "| a         | 1.23 |",
        "| long name |    - |",
    ]
    assert table in capsys.readouterr().out
    out = tmp_path / "new" / "result.json"
    bench.finish({"bench": "two"}, [table, "- a line"], out)
    assert json.loads(capsys.readouterr().out) == {"bench": "two"}
    assert json.loads(out.read_text()) == {"bench": "two", "page": f"{table}\n\n- a line"}
    assert list(out.parent.iterdir()) == [out]


def test_pages_go_between_their_marks(load):
    paste = load("paste_benches").paste
    marks = "<!-- bench a -->\nold\n<!-- end -->\nkept\n<!-- bench b -->\n<!-- end -->\n"
    once = paste(marks, "a", r"| \1 |")
    assert once.startswith("<!-- bench a -->\n\n| \\1 |\n\n<!-- end -->\nkept\n<!-- bench b")
    assert paste(once, "a", r"| \1 |") == once
    with pytest.raises(ValueError, match="one '<!-- bench c -->'"):
        paste(marks, "c", "page")
    with pytest.raises(ValueError, match="'<!-- end -->' after it"):
        paste("<!-- bench a -->\n" + marks.partition("kept\n")[2], "a", "page")


@pytest.mark.parametrize("shape", ["nano", "peer"])
def test_both_scans_agree_on_the_benchs_inputs(load, shape):
    bench_ssd = load("bench_ssd")
    same = bench_ssd.check_equal(bench_ssd.SHAPES[shape])
    assert same["largest_output"] > 1.0
    assert same["output_difference"] < 1e-4 * same["largest_output"]
    assert same["state_difference"] < 1e-4


def test_nanos_shape_is_that_of_nano(load):
    from timevlm.training.nano import build_config, build_processor

    shape = load("bench_ssd").SHAPES["nano"]
    llm = build_config(build_processor()).llm
    assert shape.heads == llm.mamba_num_heads
    assert shape.head_dim == llm.mamba_head_dim
    assert shape.state_size == llm.ssm_state_size
    assert shape.groups == llm.n_groups
    assert shape.chunk_size == llm.chunk_size


def test_longer_runs_are_judged_by_the_last_one(load):
    over_budget = load("bench_ssd").over_budget
    budget = argparse.Namespace(max_gib=1.0, max_seconds=10.0)
    last = {"tokens": 1000, "seconds": 1.0, "extra_bytes": 1 << 28}
    assert over_budget(None, 10**9, budget) is None
    assert over_budget(last, 3000, budget) is None
    assert over_budget(last, 5000, budget) == "would need 1 GiB"
    assert over_budget({**last, "extra_bytes": 0}, 20_000, budget) == "would take 20 s"
    assert over_budget({"tokens": 1, "skipped": "over 1 GiB"}, 2, budget) == "over 1 GiB"


@pytest.mark.slow
def test_bench_ssd_prints_a_table_and_one_json_line():
    lines = run_script("bench_ssd.py", "--tokens", "256", "--threads", "1")
    result = json.loads(lines[-1])
    (part,) = result["shapes"]
    assert [row["tokens"] for row in part["rows"]] == [256]
    for row in part["rows"]:
        assert row["timevlm"]["seconds"] > 0
        assert row["transformers"]["seconds"] > 0
        assert row["speed_ratio"] == row["transformers"]["seconds"] / row["timevlm"]["seconds"]
    assert all(entry["met"] is None for entry in result["asked"])  # nothing ran at 16K tokens


def test_cycled_frames_repeat_the_pool_in_time_order(load):
    pool = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    frames = load("bench_watch").CycledFrames(pool, 7, batch_size=4)
    batches = list(frames)
    assert [len(batch.seconds) for batch in batches] == [4, 3]
    assert torch.cat([b.pixels[:, 0, 0, 0] for b in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(torch.cat([b.seconds for b in batches]), frames.planned_seconds)


def test_watch_verdicts_compare_the_longest_run_with_the_shortest(load):
    def row(frames, seconds, peak):
        return {
            "frames": frames,
            "watch_seconds": seconds,
            "peak_rss_mb": peak,
            "load_seconds": 0.1,
            "ask_choices_seconds": 0.2,
            "ask_open_seconds": 0.3,
        }

    judge = load("bench_watch").judge
    values = [entry["value"] for entry in judge([row(1000, 4.0, 500.0), row(10_000, 50.0, 950.0)])]
    assert values == pytest.approx([50.0, 1.25, 450.0, 0.4])


@pytest.mark.slow
def test_bench_watch_measures_a_saved_memory_in_a_fresh_process():
    (line,) = run_script("bench_watch.py", "--frames", "16", "--threads", "1", "--json")
    result = json.loads(line)
    assert [row["frames"] for row in result["rows"]] == [16]
    for row in result["rows"]:
        assert row["encode_seconds"] + row["prefill_seconds"] <= row["watch_seconds"]
        assert row["peak_rss_mb"] >= row["before_rss_mb"]
        assert row["file_mb"] >= row["memory_mb"]
        assert row["ask_open_seconds"] > 0
