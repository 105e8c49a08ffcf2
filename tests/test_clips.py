"""Every real clip goes through watch, ask, ground and caption."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT, clip_files
from tests.helpers import save_tiny, tiny_vlm
from timevlm.api import TimeVLM
from timevlm.loading import embedded_models
from timevlm.tasks.grammar import CaptionLimits

CHOICES = ["a person", "a car", "an animal"]


@pytest.fixture(scope="module")
def vlm() -> TimeVLM:
    if "nano" in embedded_models():
        return TimeVLM.from_pretrained("nano", device="cpu")
    return tiny_vlm()


@pytest.fixture(autouse=True)
def _few_captions(vlm, monkeypatch):
    # A model that never saw real video may write captions without end.
    grammar = vlm.processor.caption_grammar
    limits = CaptionLimits(max_lines=4, max_words=8, max_word_tokens=4)
    monkeypatch.setattr(
        vlm.processor, "caption_grammar", lambda seconds: grammar(seconds, limits=limits)
    )


@pytest.mark.parametrize("path", clip_files())
def test_clip(vlm, path):
    memory = vlm.watch(path, max_frames=16)
    assert 1 <= memory.num_frames <= 16
    start, end = memory.start_seconds, memory.end_seconds
    assert start < end
    assert bool((memory.frame_seconds.diff() > 0).all())

    chosen = vlm.ask(memory, "What is in the video?", choices=CHOICES)
    assert chosen.text == CHOICES[chosen.choice]
    free = vlm.ask(memory, "What is in the video at 2 s?")
    spans = vlm.ground(memory, "a person walks")
    captions = vlm.caption(memory)
    assert spans
    assert captions
    for item in [*chosen.evidence, *free.evidence, *spans, *captions]:
        assert start <= item.start <= item.end <= end
    assert all(a.end < b.start for a, b in pairwise(spans))
    assert all(a.start <= b.start for a, b in pairwise(captions))


@pytest.mark.slow
@pytest.mark.parametrize("path", clip_files()[:1])
def test_clip_through_the_command_line(path, tmp_path):
    model = "nano" if "nano" in embedded_models() else str(save_tiny(tmp_path / "model"))
    command = [sys.executable, "-m", "timevlm.cli", "ask", str(path), "What is in the video?"]
    for choice in CHOICES:
        command += ["--choices", choice]
    command += ["--model", model, "--max-frames", "8", "--device", "cpu", "--json"]
    done = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env={**os.environ, "TIMEVLM_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"] in CHOICES
    assert Path(answer["video"]) == path
    assert answer["plan"]["max_frames"] == 8
