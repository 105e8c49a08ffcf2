"""The bench and the forecasting run at toy sizes: rows, verdicts, files, and going on later."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_bench_prints_a_row_per_network_and_the_verdicts() -> None:
    sizes = ("--batch", "1", "--size", "6", "--channels", "2", "--threads", "1")
    rows = ("minconvgru", "convlstm", "minconvgru log")
    done = run_script("bench_minconv.py", "--steps", "3", "64", *sizes, "--rows", *rows)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(last["lengths"]) == {"3", "64"}
    assert set(last["lengths"]["64"]) == set(rows)
    assert last["equal"]["difference"] < 1e-3
    assert last["lengths"]["3"]["minconvgru"]["loss"] == pytest.approx(
        last["lengths"]["3"]["minconvgru log"]["loss"], rel=1e-4
    )
    met = {entry["name"]: entry["met"] for entry in last["asked"]}
    assert [value is None for value in met.values()] == [False, False, True, True]


@pytest.mark.slow
def test_forecasting_goes_on_where_it_stopped(tmp_path) -> None:
    small = (
        *("--out", str(tmp_path), "--cells", "minconvgru", "convgru", "--size", "8"),
        *("--train-flows", "2", "--test-flows", "2", "--given", "3", "--closed", "1"),
        *("--future", "2", "--parameters", "500", "--batch", "2", "--steps", "4", "--threads", "1"),
    )
    stopped = run_script("train_forecast.py", *small, "--save-every", "2", "--minutes", "0")
    assert stopped.returncode == 0, stopped.stderr
    assert not (tmp_path / "log.jsonl").exists()
    done = run_script("train_forecast.py", *small, "--save-every", "2")
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(entry["cell"], entry["step"]) for entry in log] == [
        ("minconvgru", 2),
        ("convgru", 2),
        ("minconvgru", 4),
        ("convgru", 4),
    ]
    again = run_script("train_forecast.py", *small, "--report-only")
    table = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(again.stdout.splitlines()[-1]) == table
    assert set(table["cells"]) == {"minconvgru", "convgru"}
    for picture in ("forecast.png", "errors.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    other = run_script("train_forecast.py", *small, "--learning-rate", "0.1")
    assert other.returncode != 0
    assert "use another --out" in other.stderr
