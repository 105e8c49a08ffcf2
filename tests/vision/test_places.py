"""Merged tokens are told the mean place of their patches."""

import torch
from safetensors.torch import load_file

from tests.helpers import FRAME_SIDE, tiny_config
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision.places import patch_centres


def placed_model() -> TimeVLMForConditionalGeneration:
    config = tiny_config(place_embedding=True)
    torch.manual_seed(0)
    return TimeVLMForConditionalGeneration(config).eval()


def test_centres_go_row_by_row():
    centres = patch_centres(2, 4)
    assert centres[:4, 1].tolist() == [-0.25] * 4
    assert centres[4:, 1].tolist() == [0.25] * 4
    assert centres[:4, 0].tolist() == [-0.375, -0.125, 0.125, 0.375]
    assert torch.equal(centres[:4, 0], centres[4:, 0])


def test_a_token_moves_by_its_patches_mean_place_and_share():
    model = placed_model()
    frame = torch.randint(0, 256, (3, 3, FRAME_SIDE, FRAME_SIDE), dtype=torch.uint8)
    with torch.no_grad():
        patches = model.vision(frame)
        # One label a patch: the patch itself; its mean over a token is the share of each patch.
        identity = torch.eye(patches.shape[1]).expand(3, -1, -1)
        features, shares = model.merge_patches(patches, identity, model.frame_changes(frame))
        model.places.weight.zero_()
        plain, _ = model.merge_patches(patches, identity, model.frame_changes(frame))
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones_like(shares[..., 0]))
    restored = placed_model()
    centres = patch_centres(*model.config.patch_grid)
    mean_place = shares @ centres
    count = 1.0 / shares.amax(dim=-1, keepdim=True)  # the patches of a token share it evenly
    place = torch.cat([mean_place, count / patches.shape[1]], dim=-1)
    torch.testing.assert_close(features - plain, restored.places(place), atol=1e-5, rtol=1e-4)


def test_places_survive_saving(tmp_path):
    model = placed_model()
    model.save_pretrained(tmp_path)
    again = TimeVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again.places.weight, model.places.weight)
    assert "places.weight" in load_file(tmp_path / "model.safetensors")
