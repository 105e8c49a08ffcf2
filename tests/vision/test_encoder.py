"""The vision tower against transformers' own use of it, and the laws of slicing."""

import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from timevlm.errors import InputError, ModelError
from timevlm.vision.encoder import VisionEncoder

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "vision_use_head": False,
}


def build(**kwargs) -> VisionEncoder:
    return VisionEncoder(SiglipVisionConfig(**SIZES), **kwargs).eval()


def frames(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def test_equals_the_library_with_plain_attention():
    encoder = build(image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.3, 0.25))
    config = SiglipVisionConfig(**SIZES, attn_implementation="eager")
    library = SiglipVisionModel(config).eval()
    library.load_state_dict(encoder.tower.state_dict())
    pixels = frames(3)
    mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    std = torch.tensor([0.2, 0.3, 0.25])[:, None, None]
    with torch.no_grad():
        expected = library(pixel_values=(pixels / 255 - mean) / std).last_hidden_state
        tokens = encoder(pixels)
    assert tokens.shape == (3, encoder.num_patches, encoder.hidden_size) == (3, 16, 32)
    torch.testing.assert_close(tokens, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("slice_size", [1, 2, 3, 100])
def test_slices_do_not_change_the_tokens(slice_size):
    encoder = build()
    pixels = frames(7)
    with torch.no_grad():
        whole = encoder(pixels)
        encoder.max_frames_per_slice = slice_size
        sliced = encoder(pixels)
    torch.testing.assert_close(sliced, whole, atol=1e-5, rtol=1e-5)


def test_any_size_of_frame_is_read():
    encoder = build()
    with torch.no_grad():
        assert encoder(frames(2, 90, 120)).shape == (2, 16, 32)
        assert encoder(frames(0, 90, 120)).shape == (0, 16, 32)


def test_tokens_lie_row_by_row():
    # Only the patch that changed may change before attention mixes: look at the embeddings.
    encoder = build()
    before = frames(1)
    after = before.clone()
    after[:, :, 8:16, 16:24] = 255 - after[:, :, 8:16, 16:24]
    with torch.no_grad():
        change = [encoder.tower.embeddings((p / 127.5 - 1).float()) for p in (before, after)]
    moved = (change[0] - change[1]).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [1 * 4 + 2]


def test_gradient_reaches_the_patch_embedding():
    encoder = build(max_frames_per_slice=2)
    encoder(frames(3)).square().sum().backward()
    assert float(encoder.tower.embeddings.patch_embedding.weight.grad.abs().sum()) > 0


def test_refusals():
    with pytest.raises(InputError, match="uint8"):
        build()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="vision_use_head=False"):
        VisionEncoder(SiglipVisionConfig(**{**SIZES, "vision_use_head": True}))
    with pytest.raises(ModelError, match="max_frames_per_slice 0"):
        build(max_frames_per_slice=0)
