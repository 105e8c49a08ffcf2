"""Averaging two models: between them in every number, and a new folder that loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import save_tiny, tiny_model
from timevlm.api import TimeVLM

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "average_models.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def pair(tmp_path):
    """A tiny model, and the same with other weights."""
    first, second = tmp_path / "first", tmp_path / "second"
    save_tiny(first)
    vlm = TimeVLM.from_pretrained(first)
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            parameter.add_(1.0)
    vlm.model.save_pretrained(second)
    vlm.processor.save_pretrained(second)
    return first, second


def test_the_average_lies_between_the_models_and_loads(pair, tmp_path):
    out = tmp_path / "out"
    done = run(*pair, "--share", 0.25, "--out", out)
    assert done.returncode == 0, done.stderr
    first, second, mixed = (load_file(p / "model.safetensors") for p in (*pair, out))
    assert json.loads(done.stdout)["tensors"] == len(mixed)
    for name, x in mixed.items():
        expected = 0.75 * first[name].float() + 0.25 * second[name].float()
        torch.testing.assert_close(x.float(), expected, atol=1e-3, rtol=1e-3)
    assert TimeVLM.from_pretrained(out).name


def test_what_only_the_second_has_stays_as_it_is(pair, tmp_path):
    older, out = tmp_path / "older", tmp_path / "out"
    tiny_model(named_token_ids=None).save_pretrained(older)
    assert run(older, pair[1], "--out", out).returncode == 0
    second, mixed = (load_file(folder / "model.safetensors") for folder in (pair[1], out))
    assert torch.equal(mixed["order.weight"], second["order.weight"])
    assert TimeVLM.from_pretrained(out).model.order is not None
    refused = run(pair[1], older, "--out", tmp_path / "less")
    assert "the models differ, for one in order.weight" in refused.stderr


def test_what_cannot_be_averaged_is_refused(pair, tmp_path):
    first, second = pair
    for arguments, said in (
        ((first, second, "--share", 2, "--out", tmp_path / "a"), "no share"),
        ((first, second, "--out", second), "exists"),
        ((first, tmp_path / "none", "--out", tmp_path / "b"), "cannot be read"),
        ((first, "timevlm/weights/nano", "--out", tmp_path / "c"), "the models differ"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
