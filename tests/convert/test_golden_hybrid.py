"""The published hybrid LLM's own numbers, reached through `convert`."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.conftest import golden_files
from timevlm.convert.checkpoint import Checkpoint, in_memory
from timevlm.convert.hybrid import convert_hybrid, load_hybrid
from timevlm.llm import HybridLM, Spans

TOLERANCE = {"atol": 2e-5, "rtol": 0.0}


@dataclass(frozen=True)
class Golden:
    model: HybridLM
    tensors: dict[str, Tensor]
    prefix: int
    vision: int
    suffix: int

    def spans(self, rows: int = 1) -> Spans:
        counts = (self.prefix, self.vision, self.suffix)
        return Spans(*(torch.full((rows,), n) for n in counts))


def load(path, backend="torch") -> Golden:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    published = Checkpoint(in_memory(weights), json.loads(metadata["config"]))
    config, readers = convert_hybrid(published, metadata["pdrop"])
    counts = (int(metadata[name]) for name in ("prefix", "vision", "suffix"))
    return Golden(load_hybrid(config, readers, backend), tensors, *counts)


def stream(golden: Golden, x: Tensor, chunk: int) -> Tensor:
    """Logits of the suffix (B, suffix, V), with the prefix and the video read in chunks."""
    lm, video_end = golden.model, golden.prefix + golden.vision
    state = lm.init_state(torch.full((x.shape[0],), golden.vision))
    for start in range(0, golden.prefix, chunk):
        state = lm.read_prefix(x[:, start : min(start + chunk, golden.prefix)], state)
    for start in range(golden.prefix, video_end, chunk):
        state = lm.read_video(x[:, start : min(start + chunk, video_end)], state)
    return lm.logits(lm.read_prompt(x[:, video_end:], state).hidden)


@pytest.mark.parametrize("path", golden_files("hybrid_"))
@pytest.mark.parametrize("backend", ["torch", "reference"])
@torch.inference_mode()
def test_every_layer_in_one_pass(path, backend):
    golden = load(path, backend)
    hidden, inputs = golden.model(golden.tensors["inputs_embeds"], golden.spans())
    expected = [golden.tensors[f"hidden.{i}"] for i in range(len(inputs))]
    assert f"hidden.{len(inputs)}" not in golden.tensors
    for ours, theirs in zip(inputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)
    torch.testing.assert_close(golden.model.logits(hidden), golden.tensors["logits"], **TOLERANCE)


@pytest.mark.parametrize("path", golden_files("hybrid_"))
@pytest.mark.parametrize("chunk", [1, 7, 32, 1000])
@torch.inference_mode()
def test_watching_in_chunks_then_asking(path, chunk):
    golden = load(path)
    logits = stream(golden, golden.tensors["inputs_embeds"], chunk)
    expected = golden.tensors["logits"][:, -golden.suffix :]
    torch.testing.assert_close(logits, expected, **TOLERANCE)


@pytest.mark.parametrize("path", golden_files("hybrid_"))
@torch.inference_mode()
def test_a_batch_gives_every_row_its_own_numbers(path):
    golden = load(path)
    x = golden.tensors["inputs_embeds"]
    batch = torch.cat([torch.randn_like(x), x, torch.randn_like(x)])
    hidden, _ = golden.model(batch, golden.spans(3))
    expected = golden.tensors["logits"]
    torch.testing.assert_close(golden.model.logits(hidden[1:2]), expected, **TOLERANCE)
    logits = stream(golden, batch, 13)
    torch.testing.assert_close(logits[1:2], expected[:, -golden.suffix :], **TOLERANCE)


@pytest.mark.parametrize("path", golden_files("hybrid_"))
@torch.inference_mode()
def test_answer_tokens_after_the_prompt(path):
    # Where ranking needs the last prompt token, name it: the suffix is then read in two calls.
    golden = load(path)
    lm, x = golden.model, golden.tensors["inputs_embeds"]
    video_end = golden.prefix + golden.vision
    state = lm.init_state(torch.tensor([golden.vision]))
    state = lm.read_prefix(x[:, : golden.prefix], state)
    state = lm.read_video(x[:, golden.prefix : video_end], state)
    out = lm.read_prompt(x[:, video_end:], state)
    answer = torch.randn(1, 5, x.shape[2])
    whole = lm.read_text(answer, out.state).hidden
    longer = lm.read_prompt(
        torch.cat([x[:, video_end:], answer], dim=1), state, None, torch.tensor([golden.suffix - 1])
    )
    torch.testing.assert_close(whole, longer.hidden[:, golden.suffix :], **TOLERANCE)
