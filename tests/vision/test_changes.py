"""Tokens that know what changed since the frame before."""

import pytest
import torch

from tests.helpers import random_pixels, tiny_config
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision.changes import patch_changes, patch_shifts

GRID = (2, 2)


def blocks(*values: list[int]) -> torch.Tensor:
    """Grey frames (N, 3, 8, 8) whose four quarters have the given values."""
    frames = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 2, 2)
    return frames.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)


def test_changes_are_differences_of_mean_colours():
    frames = blocks([0, 0, 255, 51], [0, 51, 255, 0], [255, 255, 255, 255])
    expected = torch.tensor([[0, 0, 0, 0], [0, 0.2, 0, 0.2], [1, 0.8, 0, 1]])
    shifts = patch_shifts(frames, GRID)
    torch.testing.assert_close(patch_changes(shifts), expected)
    assert shifts[1, 3].tolist() == pytest.approx([-0.2] * 3)


def test_a_shift_is_the_new_colour_less_the_old():
    red, green = (torch.zeros(1, 3, 8, 8, dtype=torch.uint8) for _ in range(2))
    red[:, 0], green[:, 1] = 255, 51
    shifts = patch_shifts(torch.cat([red, green]), GRID)
    expected = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 0.2, 0.0]])
    torch.testing.assert_close(shifts, expected[:, None].expand(-1, 4, -1))


def test_every_video_begins_anew():
    frames = random_pixels(7)
    together = patch_shifts(frames, GRID, frame_counts=[3, 0, 4])
    apart = torch.cat([patch_shifts(frames[:3], GRID), patch_shifts(frames[3:], GRID)])
    assert torch.equal(together, apart)
    rests = (together == 0).all(dim=2).all(dim=1)
    assert rests.tolist() == [True, False, False, True, False, False, False]


def test_a_stream_goes_on_from_the_frame_before():
    frames = random_pixels(6)
    whole = patch_shifts(frames, GRID)
    parts = [patch_shifts(frames[:1], GRID)]
    for start, end in ((1, 4), (4, 6)):
        parts.append(patch_shifts(frames[start:end], GRID, previous=frames[start - 1]))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("picture_embedding", [False, True])
def test_tokens_hear_their_own_change_and_the_frames(picture_embedding):
    torch.manual_seed(0)
    config = tiny_config(place_embedding=True, picture_embedding=picture_embedding)
    model = TimeVLMForConditionalGeneration(config)
    pixels = random_pixels(3)
    patches = model.vision(pixels)
    shifts = model.frame_changes(pixels)
    changes = patch_changes(shifts)
    companion = torch.cat([changes[..., None], shifts], dim=-1)
    told, averaged = model.merge_patches(patches, companion, shifts)
    plain, _ = model.merge_patches(patches, None, torch.zeros_like(shifts))
    own, shifted = averaged.split([1, shifts.shape[-1]], dim=-1)
    assert shifts.shape[-1] == (5 if picture_embedding else 3)
    whole = changes.median(dim=1).values[:, None, None].expand_as(own)
    expected = model.changes(torch.cat([own, whole], dim=-1))
    assert (model.shifts is not None) == picture_embedding
    if picture_embedding:
        expected = expected + model.shifts(shifted)
    torch.testing.assert_close(told - plain, expected, atol=1e-5, rtol=1e-4)
