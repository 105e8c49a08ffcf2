"""A whole published TimeViper model -> `TimeVLMForConditionalGeneration` (arXiv 2511.16595).

Its SigLIP tower is timm's: names differ, queries, keys and values are one matrix, GELU is exact,
and the language model reads the SECOND-TO-LAST block without the final norm. So our tower has a
block less and no final norm. The projector merges tokens first (ToMe, 16 head slices).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from timevlm.configuration import TimeVLMConfig
from timevlm.convert.checkpoint import Checkpoint, Readers, matched, shapes_of
from timevlm.convert.hybrid import hybrid_config, hybrid_readers
from timevlm.errors import ModelError
from timevlm.vision.encoder import VisionEncoder
from timevlm.vision.projector import MLPProjector

VISION_PREFIX = "vision_backbone.featurizer."
PROJECTOR_PREFIX = "projector.projector."
LLM_PREFIX = "llm_backbone.llm."

# timm's parameter name (regular expression) -> ours, in `VisionEncoder`; None is left out.
VISION_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"pos_embed", "tower.embeddings.position_embedding.weight"),
    (r"patch_embed\.proj\.(weight|bias)", r"tower.embeddings.patch_embedding.\1"),
    (r"blocks\.(\d+)\.norm([12])\.(weight|bias)", r"tower.encoder.layers.\1.layer_norm\2.\3"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"tower.encoder.layers.\1.self_attn.out_proj.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"tower.encoder.layers.\1.mlp.\2.\3"),
    (r"norm\.(weight|bias)", None),
    (r"attn_pool\..*", None),
)
FUSED_NAME = r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)"
FUSED_PARTS = ("q_proj", "k_proj", "v_proj")

# What a state dict does not say: attention heads by width, and the frame size by (patch, grid).
NUM_HEADS = {768: 12, 1024: 16, 1152: 16}
FRAME_SIZES = {(14, 16): 224, (14, 27): 384, (16, 14): 224, (16, 16): 256, (16, 24): 384}


@dataclass(frozen=True, kw_only=True)
class TimeViperOptions:
    """What neither the weights nor the configuration of a TimeViper model say."""

    pdrop: str | None = None  # its `pdrop_type`, when the configuration lacks it
    tokens_per_frame: int = 16  # N of its arch_specifier `tome_mlp-N`
    num_vision_heads: int | None = None  # for towers that NUM_HEADS does not know
    frame_token_id: int | None = None  # id of its `<image>` token


def vision_config(readers: Readers, num_heads: int | None = None) -> dict[str, Any]:
    """`SiglipVisionConfig` arguments read off timm's tensors (names without the prefix).

    Raises `ModelError` when the tower is not one of SigLIP's.
    """
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
    missing = [name for name in needed if name not in readers]
    if missing or "cls_token" in readers:
        raise ModelError(
            "the vision backbone is not a single SigLIP tower; only TimeViper models with a "
            f"siglip-vit backbone can be converted (missing: {', '.join(missing) or 'nothing'})"
        )
    hidden, channels, patch, _ = readers["patch_embed.proj.weight"]().shape
    grid = math.isqrt(readers["pos_embed"]().shape[1])
    heads = NUM_HEADS.get(hidden) if num_heads is None else num_heads
    if heads is None:
        raise ModelError(f"a tower of width {hidden} is unknown; give its number of heads")
    blocks = {int(m[1]) for name in readers if (m := re.match(r"blocks\.(\d+)\.", name))}
    return {
        "hidden_size": hidden,
        "intermediate_size": readers["blocks.0.mlp.fc1.weight"]().shape[0],
        "num_hidden_layers": len(blocks) - 1,
        "num_attention_heads": heads,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": FRAME_SIZES.get((patch, grid), patch * grid),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "vision_use_post_layernorm": False,
    }


def vision_readers(readers: Readers, num_layers: int) -> Readers:
    """timm's tensors under `VisionEncoder`'s names; blocks from `num_layers` on are left out."""
    renamed: Readers = {}
    for name, read in readers.items():
        block = re.match(r"blocks\.(\d+)\.", name)
        if block and int(block[1]) >= num_layers:
            continue
        fused = re.fullmatch(FUSED_NAME, name)
        if fused:
            for part, our_part in enumerate(FUSED_PARTS):
                ours = f"tower.encoder.layers.{fused[1]}.self_attn.{our_part}.{fused[2]}"
                renamed[ours] = lambda read=read, part=part: read().chunk(3)[part]
            continue
        ours = _our_name(name)
        if name == "pos_embed":
            renamed[ours] = lambda read=read: read()[0]
        elif ours is not None:
            renamed[ours] = read
    return renamed


def _our_name(name: str) -> str | None:
    for pattern, replacement in VISION_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return None if replacement is None else match.expand(replacement)
    return name


def _part(readers: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): r for n, r in readers.items() if n.startswith(prefix)}


def convert_timeviper(
    checkpoint: Checkpoint, options: TimeViperOptions | None = None
) -> tuple[TimeVLMConfig, Readers]:
    """A published TimeViper model -> our configuration and readers under our names.

    Raises `ModelError` that lists missing and unknown names, or names what is not supported.
    """
    options = options or TimeViperOptions()
    readers = checkpoint.readers
    prefixes = (VISION_PREFIX, PROJECTOR_PREFIX, LLM_PREFIX)
    stray = {name: read for name, read in readers.items() if not name.startswith(prefixes)}
    matched(stray, {}, "TimeViper model")  # lists them
    vision, projector, llm = (_part(readers, prefix) for prefix in prefixes)
    transfer = any(".merge_modules." in name for name in llm)
    tower = vision_config(vision, options.num_vision_heads)
    extra = {} if options.frame_token_id is None else {"frame_token_id": options.frame_token_id}
    config = TimeVLMConfig(
        llm_config=hybrid_config(checkpoint.config, options.pdrop, transfer=transfer).to_dict(),
        vision_config=tower,
        tokens_per_frame=options.tokens_per_frame,
        tome_heads=16,
        **extra,
    )
    with torch.device("meta"):
        tower_shapes = shapes_of(VisionEncoder(config.vision))
        projector_shapes = shapes_of(MLPProjector(tower["hidden_size"], config.llm.hidden_size))
    tied = bool(checkpoint.config.get("tie_word_embeddings", False))
    parts = {
        "vision.": matched(
            vision_readers(vision, tower["num_hidden_layers"]), tower_shapes, "vision tower"
        ),
        "projector.": matched(projector, projector_shapes, "projector"),
        "llm.": hybrid_readers(llm, config.llm, tied=tied),
    }
    return config, {
        prefix + name: read for prefix, part in parts.items() for name, read in part.items()
    }


__all__ = [
    "TimeViperOptions",
    "convert_timeviper",
    "vision_config",
    "vision_readers",
]
