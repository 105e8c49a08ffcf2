"""Tiny models with random weights, and videos for them, that several tests share."""

import math
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor, nn

from timevlm.api import TimeVLM
from timevlm.configuration import TimeVLMConfig
from timevlm.llm import HybridConfig, HybridLM
from timevlm.llm.state import HybridState
from timevlm.model import IGNORE_INDEX, TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.wording import vocabulary_texts
from timevlm.tasks.captioning import CAPTION_PROMPT
from timevlm.tasks.grounding import grounding_prompt
from timevlm.tokenization import build_tokenizer
from timevlm.training.batches import Batch
from timevlm.training.kinds import BASIC, named_token_ids
from timevlm.training.nano import timestamp_token_ids
from timevlm.video.tensor_frames import TensorFrames

FRAME_SIDE = 32
UNIFORM = {"layer": 1, "keep": 0.5, "rule": "uniform"}
ATTENTION = {"layer": 4, "keep": 0.25, "rule": "attention"}


def small_config(pattern: str = "M*-M*-", **changes: object) -> HybridConfig:
    """Sizes of a hybrid LLM that runs in milliseconds."""
    sizes = {
        "vocab_size": 53,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 8,
    }
    return HybridConfig(pattern=pattern, **{**sizes, **changes})


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights so large that every part of the model shows in its outputs, gates open."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("alpha"):
            parameter.copy_(0.8 + 0.2 * noise)
        elif name.endswith("A_log"):
            parameter.copy_(0.5 * noise)
        elif name.endswith("dt_bias"):
            parameter.copy_(noise - 2.0)
        elif parameter.ndim <= 1:
            around_one = name.endswith(("weight", "D", "stretch"))
            parameter.copy_(0.2 * noise + (1.0 if around_one else 0.0))
        elif name.endswith("embeddings.weight"):
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))
    return module


def small_lm(pattern: str = "M*-M*-", seed: int = 0, **changes: object) -> HybridLM:
    """A hybrid LLM with large random weights."""
    return randomize(HybridLM(small_config(pattern, **changes)), seed).eval()


@cache
def tiny_processor() -> TimeVLMProcessor:
    texts = [*vocabulary_texts(), CAPTION_PROMPT, grounding_prompt("a")]
    return TimeVLMProcessor(build_tokenizer(texts), tokens_per_frame=2)


def tiny_config(transv: tuple[dict, ...] = (UNIFORM, ATTENTION), **changes: object) -> object:
    processor = tiny_processor()
    llm = small_config(vocab_size=len(processor.tokenizer) + 3).to_dict()
    settings = {
        "llm_config": {**llm, "transv": list(transv)},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": FRAME_SIDE,
            "patch_size": 16,
        },
        "tokens_per_frame": processor.tokens_per_frame,
        "tome_heads": 2,
        "change_embedding": True,
        "time_embedding": True,
        "timestamp_token_ids": timestamp_token_ids(processor),
        "named_token_ids": named_token_ids(processor, BASIC),
        "frame_token_id": processor.frame_token_id,
        "prefix_length": len(processor.prefix_ids()),
    }
    return TimeVLMConfig(**{**settings, **changes})


def tiny_model(
    transv: tuple[dict, ...] = (UNIFORM, ATTENTION), seed: int = 0, **changes: object
) -> TimeVLMForConditionalGeneration:
    """A whole model with random weights; two tokens a frame."""
    model = TimeVLMForConditionalGeneration(tiny_config(transv, **changes))
    return randomize(model, seed).eval()


def answer_both_ways(
    model: TimeVLMForConditionalGeneration, question: str, answer: str
) -> tuple[HybridState, Tensor, Tensor]:
    """The state after a question about six frames, and the answer's logits step by step and whole.

    Those of both are (1, 1 + tokens of the answer, V) and should be equal.
    """
    processor, seconds = tiny_processor(), torch.arange(6.0)
    before = [*processor.prefix_ids(), *processor.video_ids(seconds.tolist())[0]]
    before += processor.prompt_ids(question)
    ids = processor.answer_ids(answer)
    video = {"pixel_values_videos": random_pixels(6), "frame_seconds": seconds}
    asked = out = model(input_ids=torch.tensor([before]), **video)
    steps = [out.logits]
    for token in ids:
        out = model(input_ids=torch.tensor([[token]]), state=out.state)
        steps.append(out.logits)
    labels = torch.tensor([[IGNORE_INDEX] * len(before) + ids])
    whole = model(input_ids=torch.tensor([before + ids]), labels=labels, **video)
    return asked.state, torch.cat(steps, dim=1), whole.logits


def check_answer_rests_on(
    weight: Tensor, model: TimeVLMForConditionalGeneration, question: str, answer: str
) -> HybridState:
    """The state after a question whose answer, step by step as whole, is another without a weight.

    The weight is zero afterwards.
    """
    state, steps, whole = answer_both_ways(model, question, answer)
    torch.testing.assert_close(steps, whole, rtol=1e-4, atol=1e-4)
    weight.zero_()
    _, _, without = answer_both_ways(model, question, answer)
    assert not torch.allclose(without, whole, atol=1e-3)
    return state


def tiny_vlm(name: str = "tiny", seed: int = 0) -> TimeVLM:
    return TimeVLM(tiny_model(seed=seed), tiny_processor(), name)


def save_tiny(folder: Path) -> Path:
    """A model folder as `save_pretrained` writes it."""
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def random_pixels(count: int, seed: int = 0) -> Tensor:
    """uint8 (count, 3, FRAME_SIDE, FRAME_SIDE)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, FRAME_SIDE, FRAME_SIDE)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def frames(count: int, *, seed: int = 0, step: float = 1.0, batch_size: int = 64) -> TensorFrames:
    """Random frames at 0, step, 2 step, ... seconds."""
    seconds = torch.arange(count, dtype=torch.float64) * step
    return TensorFrames(random_pixels(count, seed), seconds, batch_size=batch_size)


def write_mp4(path: Path, count: int, *, fps: int = 4, seed: int = 0) -> Path:
    """An H.264 file of `count` flat random colours, `fps` of them a second."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for colour in colours:
            picture = np.broadcast_to(colour, (64, 64, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """Every tensor of a training batch by name, those of its groups included."""
    tensors = dict(vars(batch))
    for group in ("lookups", "phrases", "asked"):
        parts = vars(tensors.pop(group))
        tensors |= {f"{group}.{name}": tensor for name, tensor in parts.items()}
    return tensors
