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
    parts = bench.Parts({}, lambda done: ({"bench": "two"}, [table, "- a line"]), out)
    parts.finish()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"settings": {}, "bench": "two"}
    assert json.loads(out.read_text())["page"] == f"{table}\n\n- a line"
    assert list(out.parent.iterdir()) == [out]


def test_parts_are_kept_and_measured_once(load, capsys, tmp_path):
    bench = load("_bench")
    out, calls = tmp_path / "result.json", []

    def report(done):
        return {"bench": "b", "names": list(done)}, [f"{len(done)} parts"]

    def parts(**settings):
        return bench.Parts(settings, report, out)

    def number(value):
        calls.append(value)
        return {"value": value}

    first = parts(threads=1)
    assert first.measure("a", lambda: number(1)) == {"value": 1}
    kept = json.loads(out.read_text())  # before the run ends
    assert (kept["parts"], kept["page"]) == ({"a": {"value": 1}}, "1 parts")
    again = parts(threads=1)
    assert again.measure("a", lambda: number(2)) == {"value": 1}
    assert again.measure("b", lambda: number(3)) == {"value": 3}
    capsys.readouterr()
    again.finish()
    assert calls == [1, 3]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["names"] == ["a", "b"]
    assert json.loads(out.read_text())["page"] == "2 parts"
    with pytest.raises(SystemExit, match="threads 1, now 2: use another --out"):
        parts(threads=2)
    out.write_text("[]")
    with pytest.raises(SystemExit, match="no parts"):
        parts(threads=1)
    assert list(tmp_path.iterdir()) == [out]


def test_every_bench_of_the_recognizers_has_its_place(load):
    document = (SCRIPTS.parent / "docs" / "recognizers.md").read_text("utf-8")
    for name in ("movinet", "rrm", "minconv", "forecast", "lcr", "prefilter"):
        assert "| new |" in load("paste_benches").paste(document, name, "| new |")


def test_rrm_reports_networks_that_were_measured_one_by_one(load):
    bench = load("bench_rrm")

    def part(network, video, plain_ms, rrm_ms):
        return {
            **{"network": network, "video": video, "config": {}, "wall_ratio": 1.0},
            **{"plain_ms": plain_ms, "rrm_ms": rrm_ms, "error": 0.005, "error_p95": 0.01},
            **{"first_repeated": 0.2, "error_estimate": 0.005, "skipped": {}, "state_mib": 1.0},
        }

    parts = {
        "m": part("mobilenet_v3_large", "a.mp4", 30.0, 10.0),
        "r": part("resnet18", "a.mp4", 30.0, 20.0),
        "w": part("resnet18", bench.WANDERING, 30.0, 30.0),
    }
    settings = {"first": "a.mp4", "settled": False, "size": 224}
    result, page = bench.report(parts, settings)
    assert [(row["network"], row["speed_ratio"]) for row in result["results"]] == [
        ("resnet18", 1.5),
        ("resnet18", 1.0),
        ("mobilenet_v3_large", 3.0),
    ]
    assert [entry["met"] for entry in result["verdicts"]] == [False, True, True, True, True]
    assert page[0].count("\n") == 2 + 1 + 3


def test_prefilter_scores_are_means_over_all_videos(load):
    bench = load("bench_prefilter")
    video = {
        f"{method}@16": {bench.ACCURACY: values, bench.MIOU: [0.5], bench.SEEN: [1.0, 0.0]}
        for method, values in (("uniform", [0.0, 1.0]), ("rrm", [1.0, 1.0]), ("oracle", [1.0, 1.0]))
    }
    settings = {"budgets": [16], "prefilter": ["rrm"], "seconds": 60, "events": 2, "threads": 1}
    cost = {"decode": {"seconds": 1.0}, "rrm": {"seconds": 0.1, "share_of_decode": 0.1}}
    parts = {"cost": cost, "video 0": video, "video 1": video}
    result, page = bench.report(parts, settings)
    assert result["videos"] == 2
    assert result["results"]["uniform@16"][bench.ACCURACY]["count"] == 4
    assert [entry["value"] for entry in result["verdicts"]] == pytest.approx([50.0, 0.1])
    assert page[0].startswith("2 videos of 60 s")
    nothing_yet, _ = bench.report({"cost": cost}, settings)
    assert [entry["met"] for entry in nothing_yet["verdicts"]] == [None, True]


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
