"""SigLIP vision checkpoints -> `VisionEncoder`.

Read are transformers' `SiglipModel` (both halves) and `SiglipVisionModel` checkpoints, with or
without the `vision_model.` prefix. The text half and the pooling head are left behind: the
language model reads patch tokens.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import SiglipVisionConfig

from timevlm.convert.checkpoint import Checkpoint, Readers, matched, read_all, shapes_of
from timevlm.errors import ModelError
from timevlm.vision.encoder import VisionEncoder

# Published parameter name (regular expression) -> ours, the first match counts; None is left out.
PARAMETER_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"text_model\..*", None),
    (r"logit_(scale|bias)", None),
    (r"(vision_model\.)?head\..*", None),
    (r".*\.position_ids", None),
    (r"(vision_model\.)?((embeddings|encoder|post_layernorm)\..*)", r"tower.\2"),
)

MODEL_TYPES = ("siglip", "siglip_vision_model")


def siglip_config(published: Mapping[str, Any]) -> SiglipVisionConfig:
    """The vision part of a published SigLIP configuration, without the pooling head.

    Raises `ModelError` when it is another model's.
    """
    model_type = published.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelError(
            f"config model_type {model_type!r} is not SigLIP; give one of {', '.join(MODEL_TYPES)}"
        )
    vision = dict(published.get("vision_config", published))
    return SiglipVisionConfig(**{**vision, "vision_use_head": False})


def siglip_readers(readers: Readers, config: SiglipVisionConfig) -> Readers:
    """Readers under `VisionEncoder`'s names, complete and in order.

    Raises `ModelError` that lists missing and unknown names.
    """
    renamed: Readers = {}
    for name, read in readers.items():
        ours = _our_name(name)
        if ours is not None:
            renamed[ours] = read
    with torch.device("meta"):
        expected = shapes_of(VisionEncoder(config))
    return matched(renamed, expected, "vision model")


def _our_name(name: str) -> str | None:
    for pattern, replacement in PARAMETER_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return None if replacement is None else match.expand(replacement)
    return name


def convert_siglip(checkpoint: Checkpoint) -> tuple[SiglipVisionConfig, Readers]:
    """A published SigLIP model -> vision configuration and readers under our names."""
    config = siglip_config(checkpoint.config)
    return config, siglip_readers(checkpoint.readers, config)


def load_vision(config: SiglipVisionConfig, readers: Readers) -> VisionEncoder:
    """Build the tower that the readers hold, in evaluation mode."""
    encoder = VisionEncoder(config)
    encoder.load_state_dict(read_all(readers), strict=True)
    return encoder.eval()
