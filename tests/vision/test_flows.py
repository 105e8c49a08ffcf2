"""Patches know which way they moved since the frame before."""

import pytest
import torch

from tests.vision.test_picture import as_pixels, clouds, view
from timevlm.vision.flows import flow_costs, patch_flows

GRID = (6, 6)


def with_square(left: int, top: int, background: torch.Tensor) -> torch.Tensor:
    """Frame uint8 (3, 96, 96) with a red square, 24 pixels wide, over a grey background."""
    frame = background.expand(3, -1, -1).clone()
    frame[:, top : top + 24, left : left + 24] = torch.tensor([220, 30, 40])[:, None, None]
    return frame.to(torch.uint8)


def wall(seed: int = 0) -> torch.Tensor:
    """A background (96, 96), 0..255, that is a little uneven."""
    return 120 + 40 * view(clouds(seed), 0, 0)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (8, 0), (-8, 0), (0, 10), (7, -8)])
def test_an_object_moves_and_its_background_rests(right, down):
    frames = torch.stack([with_square(34, 34, wall()), with_square(34 + right, 34 + down, wall())])
    flows = patch_flows(frames, GRID)
    assert flows.shape == (2, 36, 2)
    assert not flows[0].any()
    surest = flows[1, flows[1].norm(dim=1).argmax()]
    assert surest.tolist() == pytest.approx([right / 16, down / 16], abs=0.1)
    corners = flows[1, [0, 5, 30, 35]]
    assert float(corners.abs().max()) < 0.02


def test_a_camera_moves_all_patches():
    scene = clouds(3)
    pixels = as_pixels(view(scene, 0, 0), view(scene, 0.06, -0.04))
    flows = patch_flows(pixels, GRID)[1].reshape(6, 6, 2)[1:-1, 1:-1].flatten(0, 1)
    assert flows.median(dim=0).values.tolist() == pytest.approx([0.36, -0.24], abs=0.06)


def test_costs_are_those_of_pictures_moved_pixel_by_pixel():
    """Against the definition, pixel by pixel, on pictures that are as high as two patches."""
    before, after = torch.rand(2, 1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    costs = flow_costs(before, after)
    assert costs.shape == (1, 6, 7, 7)

    def unlike(y: int, x: int, down: int, right: int) -> float:
        there = before[0, :, min(max(y - down, 0), 7), min(max(x - right, 0), 11)]
        difference = float((after[0, :, y, x] - there).abs().mean())
        return difference / (difference + 0.06)

    for patch, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        rows = range(max(0, 4 * row - 1), min(8, 4 * row + 5))
        columns = range(max(0, 4 * column - 1), min(12, 4 * column + 5))
        for down, right in ((0, 0), (-3, 2), (1, -1)):
            around = [unlike(y, x, down, right) for y in rows for x in columns]
            expected = sum(around) / len(around)
            found = float(costs[0, patch, down + 3, right + 3])
            assert found == pytest.approx(expected, abs=1e-5)


def test_noise_is_no_motion():
    generator = torch.Generator().manual_seed(0)
    noise = 4 * torch.randn(2, 3, 96, 96, generator=generator)
    frames = (with_square(30, 30, wall())[None] + noise).clamp(0, 255).to(torch.uint8)
    assert float(patch_flows(frames, GRID).abs().max()) < 0.05


def test_whole_is_chunk_by_chunk_and_video_by_video():
    frames = torch.stack([with_square(20 + 5 * i, 30, wall()) for i in range(6)])
    whole = patch_flows(frames, GRID)
    chunks = [patch_flows(frames[:2], GRID), patch_flows(frames[2:], GRID, None, frames[1])]
    torch.testing.assert_close(torch.cat(chunks), whole)
    videos = patch_flows(frames, GRID, [4, 2])
    torch.testing.assert_close(videos[:4], whole[:4])
    assert not videos[4].any()
    torch.testing.assert_close(videos[5], whole[5])
