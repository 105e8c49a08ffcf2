"""The training script itself: killed without warning, it goes on from what it saved."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open

from tests.conftest import PROJECT_ROOT
from tests.helpers import frames, save_tiny
from timevlm.api import TimeVLM
from timevlm.training.checkpoint import Progress

PATIENCE_SECONDS = 300


def command(folder, start, minutes, *more):
    script = PROJECT_ROOT / "scripts" / "train_nano.py"
    return [
        *(sys.executable, str(script), "--folder", str(folder), "--start-from", str(start)),
        *("--vision-minutes", "0", "--align-minutes", "0", "--minutes", str(minutes)),
        *("--no-curriculum", "--videos", "1", "--turns", "4", "--checkpoint-seconds", "0"),
        *more,
    ]


def progress_of(path):
    with safe_open(str(path), "pt") as file:
        return Progress(**json.loads(file.metadata()["progress"]))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["basic", "full"])
def test_a_killed_training_goes_on_from_the_saved_step(tmp_path, level):
    start, folder = save_tiny(tmp_path / "tiny"), tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT_ROOT)}
    first = subprocess.Popen(command(folder, start, 60, "--level", level), env=environment)
    saved = folder / "answers" / "checkpoint.safetensors"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (saved.is_file() and progress_of(saved).step >= 12):
        assert first.poll() is None, "the training ended by itself"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = progress_of(saved)
    num_lines = len((folder / "log.jsonl").read_text().splitlines())

    minutes = before.seconds * (1 + 30 / before.step) / 60  # for about thirty more steps
    again = command(folder, start, minutes, "--level", level, "--out", str(tmp_path / "export"))
    subprocess.run(again, env=environment, check=True, timeout=PATIENCE_SECONDS)
    after = progress_of(saved)
    assert after.step > before.step
    assert after.seconds >= 60 * minutes
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines[num_lines:]]
    # A line every ten steps: the first one after the restart is the next that was due.
    assert steps
    assert steps[0] == before.step // 10 * 10 + 10
    vlm = TimeVLM.from_pretrained(tmp_path / "export")
    assert vlm.ask(vlm.watch(frames(4)), "What colour is the ring?", choices=("red", "blue")).text

    other = "full" if level == "basic" else "basic"
    refused = subprocess.run(
        command(folder, start, 1, "--level", other),
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert refused.returncode == 2
    assert f"on level {level}, not {other}" in refused.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [("--lessons-from", "no checkpoint.safetensors in"), ("--focus", "is no result of")],
)
def test_what_is_not_there_is_missed_at_once(tmp_path, option, message):
    start = save_tiny(tmp_path / "tiny")
    refused = subprocess.run(
        command(tmp_path / "run", start, 1, option, str(tmp_path / "absent")),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT_ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert refused.returncode == 2
    assert message in refused.stderr
