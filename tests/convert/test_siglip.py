"""SigLIP checkpoints of every layout -> the vision tower, with the same tokens."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig

from timevlm.convert.__main__ import TimeViperOptions, convert
from timevlm.convert.checkpoint import Checkpoint, in_memory, open_checkpoint
from timevlm.convert.siglip import convert_siglip, load_vision
from timevlm.errors import ModelError

VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 4,
}
TEXT = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def published() -> SiglipModel:
    return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).eval()


def frames() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)


@torch.no_grad()
def expected_tokens(model: SiglipModel, pixels: torch.Tensor) -> torch.Tensor:
    return model.vision_model(pixel_values=pixels / 127.5 - 1).last_hidden_state


@pytest.mark.parametrize("layout", ["whole", "vision with prefix", "vision alone"])
@torch.no_grad()
def test_same_tokens(layout):
    model, pixels = published(), frames()
    state, config = model.state_dict(), model.config.to_dict()
    if layout != "whole":
        config = model.config.vision_config.to_dict()
        state = model.vision_model.state_dict()
    if layout == "vision with prefix":
        state = {f"vision_model.{name}": tensor for name, tensor in state.items()}
    encoder = load_vision(*convert_siglip(Checkpoint(in_memory(state), config)))
    torch.testing.assert_close(
        encoder(pixels), expected_tokens(model, pixels), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_as_transformers_saves_it(tmp_path):
    model, pixels = published(), frames()
    model.save_pretrained(tmp_path / "published")
    assert convert(tmp_path / "published", tmp_path / "ours", TimeViperOptions()) == "siglip"
    written = open_checkpoint(tmp_path / "ours")
    encoder = load_vision(SiglipVisionConfig(**written.config), written.readers)
    torch.testing.assert_close(
        encoder(pixels), expected_tokens(model, pixels), atol=1e-5, rtol=1e-5
    )


def test_refusals(tmp_path):
    model = published()
    config = model.config.vision_config.to_dict()
    state = dict(model.vision_model.state_dict())
    state["encoder.layers.9.extra"] = state.pop("post_layernorm.weight")
    with pytest.raises(ModelError, match=r"lacks tower\.post_layernorm\.weight; it has unk"):
        convert_siglip(Checkpoint(in_memory(state), config))
    with pytest.raises(ModelError, match="model_type 'clip' is not SigLIP"):
        convert_siglip(Checkpoint(in_memory(state), {"model_type": "clip"}))
    save_file(
        {"vision_model.embeddings.patch_embedding.weight": torch.zeros(1)},
        tmp_path / "m.safetensors",
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip2"}))
    with pytest.raises(ModelError, match="siglip2"):
        convert(tmp_path, tmp_path / "out", TimeViperOptions())
