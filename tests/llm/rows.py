"""Random rows of prefix, video and text, read whole and in parts, for every kind of model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from timevlm.llm import HybridLM, HybridState, Spans

TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}
PREFIX, VIDEO, TEXT = 3, 29, 11

CASES = {
    "plain": ("M-*M", {}),
    "one-group": ("M*M-", {"n_groups": 1}),
    "four-groups": ("MM*-", {"n_groups": 4, "num_key_value_heads": 1}),
    "uniform": ("M*M-*", {"transv": [{"layer": 1, "keep": 0.5}]}),
    "uniform-at-the-bottom": ("M*M-", {"transv": [{"layer": 0, "keep": 0.4}]}),
    "twice-uniform": ("M-*M*", {"transv": [{"layer": 1, "keep": 0.7}, {"layer": 3, "keep": 0.3}]}),
    "attention": ("M-*M*-", {"transv": [{"layer": 4, "keep": 0.25, "rule": "attention"}]}),
    "normalized": (
        "M*-M*-",
        {
            "transv": [
                {"layer": 1, "keep": 0.6, "normalize": True},
                {"layer": 4, "keep": 0.3, "rule": "attention", "normalize": True},
            ]
        },
    ),
    "attention-at-the-bottom": (
        "*M-",
        {"transv": [{"layer": 0, "keep": 0.5, "rule": "attention"}]},
    ),
    "drop-then-transfer": (
        "M*-M*-",
        {
            "transv": [
                {"layer": 1, "keep": 0.6, "transfer": False},
                {"layer": 4, "keep": 0.2, "rule": "attention"},
            ]
        },
    ),
    "transfer-then-drop": (
        "M*-M*-",
        {
            "transv": [
                {"layer": 2, "keep": 0.6},
                {"layer": 4, "keep": 0.2, "rule": "attention", "transfer": False},
            ]
        },
    ),
    "uniform-after-attention": (
        "M*-M*M*",
        {
            "transv": [
                {"layer": 1, "keep": 0.8},
                {"layer": 4, "keep": 0.5, "rule": "attention"},
                {"layer": 5, "keep": 0.2},
            ]
        },
    ),
    "attention-twice": (
        "M*M*M",
        {
            "transv": [
                {"layer": 1, "keep": 0.5, "rule": "attention"},
                {"layer": 3, "keep": 0.2, "rule": "attention"},
            ]
        },
    ),
    "window": ("M*-M*", {"video_window": 4}),
    "window-of-one": ("*M*", {"video_window": 1}),
    "window-after-dropping": (
        "M*-M*-",
        {
            "video_window": 3,
            "transv": [
                {"layer": 1, "keep": 0.6},
                {"layer": 4, "keep": 0.5, "rule": "attention"},
            ],
        },
    ),
    "max-keep": (
        "M*M*",
        {
            "transv": [
                {"layer": 1, "keep": 0.9, "max_keep": 12},
                {"layer": 3, "keep": 0.5, "rule": "attention", "max_keep": 3},
            ]
        },
    ),
    "text-goes-on-alone": (
        "M*M*-M*",
        {
            "transv": [
                {"layer": 1, "keep": 0.5},
                {"layer": 3, "keep": 0.3, "rule": "attention"},
                {"layer": 5, "keep": 0.0, "transfer": False},
            ]
        },
    ),
    "keeps-nothing": (
        "M*M*",
        {
            "transv": [
                {"layer": 1, "keep": 0.4},
                {"layer": 3, "keep": 0.01, "rule": "attention"},
            ]
        },
    ),
}
COMPRESSING = [name for name, (_, changes) in CASES.items() if "transv" in changes]

RAGGED_VIDEOS, RAGGED_TEXTS, RAGGED_PREFIXES = [29, 0, 12, 1], [4, 11, 1, 7], [3, 3, 3, 3]


@dataclass(frozen=True)
class Rows:
    """A batch of prefix, video and text of the same lengths."""

    prefix: Tensor
    video: Tensor
    text: Tensor


def random_rows(batch: int = 2, video: int = VIDEO) -> Rows:
    lengths = (PREFIX, video, TEXT)
    return Rows(*(torch.randn(batch, length, 32) for length in lengths))


def whole(lm: HybridLM, rows: Rows, prompt: int = TEXT) -> Tensor:
    """Hidden states (B, TEXT, D) of the text after one pass over everything."""
    batch = rows.text.shape[0]
    sizes = [torch.full((batch,), part.shape[1]) for part in (rows.prefix, rows.video, rows.text)]
    x = torch.cat([rows.prefix, rows.video, rows.text], dim=1)
    hidden, _ = lm(x, Spans(*sizes), torch.full((batch,), prompt - 1))
    return hidden[:, -rows.text.shape[1] :]


def watch(lm: HybridLM, rows: Rows, sizes: list[int] | None = None) -> HybridState:
    batch, num_tokens = rows.video.shape[:2]
    state = lm.init_state(torch.full((batch,), num_tokens))
    state = lm.read_prefix(rows.prefix, state)
    for part in rows.video.split(sizes or [num_tokens], dim=1):
        state = lm.read_video(part, state)
    return state


def ask(lm: HybridLM, text: Tensor, state: HybridState, sizes: list[int]) -> Tensor:
    """Hidden states of the text, its first part read as the prompt."""
    outputs = []
    for part in text.split(sizes, dim=1):
        read = lm.read_text if state.prompted else lm.read_prompt
        out = read(part, state)
        state = out.state
        outputs.append(out.hidden)
    return torch.cat(outputs, dim=1)
