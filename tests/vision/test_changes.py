"""Tokens that know what changed since the frame before."""

import torch

from tests.helpers import random_pixels, tiny_config
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision.changes import patch_changes

GRID = (2, 2)


def blocks(*values: list[int]) -> torch.Tensor:
    """Grey frames (N, 3, 8, 8) whose four quarters have the given values."""
    frames = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 2, 2)
    return frames.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)


def test_changes_are_differences_of_mean_colours():
    frames = blocks([0, 0, 255, 51], [0, 51, 255, 0], [255, 255, 255, 255])
    expected = torch.tensor([[0, 0, 0, 0], [0, 0.2, 0, 0.2], [1, 0.8, 0, 1]])
    torch.testing.assert_close(patch_changes(frames, GRID), expected)


def test_every_video_begins_anew():
    frames = random_pixels(7)
    together = patch_changes(frames, GRID, frame_counts=[3, 0, 4])
    apart = torch.cat([patch_changes(frames[:3], GRID), patch_changes(frames[3:], GRID)])
    assert torch.equal(together, apart)
    assert (together.amax(dim=1) == 0).tolist() == [True, False, False, True, False, False, False]


def test_a_stream_goes_on_from_the_frame_before():
    frames = random_pixels(6)
    whole = patch_changes(frames, GRID)
    parts = [patch_changes(frames[:1], GRID)]
    for start, end in ((1, 4), (4, 6)):
        parts.append(patch_changes(frames[start:end], GRID, previous=frames[start - 1]))
    assert torch.equal(torch.cat(parts), whole)


def test_tokens_hear_their_own_change_and_the_frames():
    model = TimeVLMForConditionalGeneration(tiny_config(place_embedding=True))
    pixels = random_pixels(3)
    patches = model.vision(pixels)
    changes = model.frame_changes(pixels)
    told, own = model.merge_patches(patches, changes[..., None], changes)
    plain, _ = model.merge_patches(patches, None, torch.zeros_like(changes))
    whole = changes.median(dim=1).values[:, None, None].expand_as(own)
    expected = model.changes(torch.cat([own, whole], dim=-1))
    torch.testing.assert_close(told - plain, expected, atol=1e-5, rtol=1e-4)
