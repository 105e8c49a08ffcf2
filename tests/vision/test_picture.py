"""What the picture as a whole does, read from small pictures."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import random_pixels, tiny_config
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision import picture
from timevlm.vision.picture import (
    FAR,
    NEAR,
    PICTURE_VALUES,
    MoveSearch,
    colour_histogram,
    largest_change,
    move_costs,
    picture_motion,
    picture_values,
)


def clouds(seed: int = 0, side: int = 192) -> torch.Tensor:
    """A soft random picture (side, side) in 0..1, larger than what is seen of it."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 16, 16, generator=generator)
    return F.interpolate(coarse, (side, side), mode="bicubic")[0, 0].clamp(0, 1)


def view(scene: torch.Tensor, right: float, down: float, zoom: float = 1.0) -> torch.Tensor:
    """What a camera sees (96, 96) where the scene has moved and grown around the middle."""
    place = (torch.arange(96) - 47.5) / zoom + 95.5
    grid_y, grid_x = torch.meshgrid(place - down * 96, place - right * 96, indexing="ij")
    grid = torch.stack([grid_x, grid_y], dim=-1) / 95.5 - 1.0
    return F.grid_sample(scene[None, None], grid[None], align_corners=True)[0, 0]


def as_pixels(*grey: torch.Tensor) -> torch.Tensor:
    """Grey pictures (H, W) in 0..1 as frames uint8 (N, 3, H, W)."""
    return (torch.stack(grey) * 255).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


def value(values: torch.Tensor, name: str) -> float:
    return float(values[PICTURE_VALUES.index(name)])


@pytest.mark.parametrize(
    ("right", "down"), [(0.0, 0.0), (0.08, 0.0), (-0.05, 0.0), (0.0, 0.1), (0.06, -0.09)]
)
def test_a_pan_is_measured(right, down):
    scene = clouds()
    moved = picture_motion(view(scene, 0, 0)[None], view(scene, right, down)[None], FAR)[0]
    assert moved[:2].tolist() == pytest.approx([right, down], abs=0.012)
    assert float(moved[5]) == pytest.approx(math.hypot(right, down), abs=0.012)
    assert float(moved[2]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("zoom", [0.9, 1.1])
def test_a_zoom_is_measured(zoom):
    scene = clouds()
    moved = picture_motion(view(scene, 0, 0)[None], view(scene, 0, 0, zoom)[None], FAR)[0]
    assert moved[:3].tolist() == pytest.approx([0, 0, zoom - 1], abs=0.02)
    assert moved[3] < moved[4]
    assert (moved[6] > 0) == (zoom > 1)


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (0.02, 0.0), (-0.02, 0.02), (0.03, -0.03)])
def test_a_small_shake_is_measured_near(right, down):
    scene = clouds()
    moved = picture_motion(view(scene, 0, 0)[None], view(scene, right, down)[None], NEAR)[0]
    assert moved[:2].tolist() == pytest.approx([right, down], abs=0.008)


@pytest.mark.parametrize("zoom", [0.98, 1.02])
def test_slow_zooms_are_told_by_their_slope(zoom):
    scene = clouds()
    here, moved = view(scene, 0, 0)[None], view(scene, 0, 0, zoom)[None]
    slope = float(picture_motion(here, moved, NEAR)[0, 6])
    rest = float(picture_motion(here, here, NEAR)[0, 6])
    assert (slope > rest + 0.02) if zoom > 1 else (slope < rest - 0.02)


def test_noise_on_an_even_wall_is_no_move():
    generator = torch.Generator().manual_seed(0)
    noise = 0.5 + 0.01 * torch.randn(40, 96, 96, generator=generator)
    for search in (FAR, NEAR):
        moved = picture_motion(noise[:-1], noise[1:], search)
        assert moved[:, :3].abs().max() < 0.02


def test_costs_are_those_of_the_moves_tried_one_by_one():
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 2, 24, 24, generator=generator)
    reach, soft = 3, picture._SOFT
    search = MoveSearch(side=24, reach=reach, zooms=(0.9, 1.0))
    costs = move_costs(before, after, search)
    for down, right in ((0, 0), (2, -3), (-reach, reach)):
        total = []
        for y in range(reach, 24 - reach):
            for x in range(reach, 24 - reach):
                d = (after[:, y, x] - before[:, y - down, x - right]).abs()
                total.append(d / (d + soft))
        expected = torch.stack(total).mean(dim=0)
        torch.testing.assert_close(costs[:, 1, reach + down, reach + right], expected)


def test_light_cuts_and_colours_are_told_apart():
    scene, other = clouds(0), clouds(1)
    here = view(scene, 0, 0)
    darker, cut = picture_values(as_pixels(here, 0.5 * here, view(other, 0, 0)))[1:]
    assert value(darker, "brightness change") == pytest.approx(-2 * float(here.mean()), abs=0.05)
    assert value(cut, "unlikeness moved") > 0.5
    assert value(darker, "light change") == pytest.approx(-5 * math.log(2), abs=0.5)
    red = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    red[:, 0] = 200
    assert value(picture_values(red)[0], "redness") > 1.0
    assert value(picture_values(red)[0], "blueness") < 0.0


def test_what_moves_changes_no_light():
    scene = clouds()
    here, moved = view(scene, 0, 0), view(scene, 0, 0)
    moved[20:60, 20:60] = 1.0
    found = picture_values(as_pixels(here, moved, 0.8 * moved))[1:]
    assert value(found[0], "brightness change") > 0.2
    assert value(found[0], "light change") == pytest.approx(0.0, abs=0.01)
    assert value(found[1], "light change") == pytest.approx(5 * math.log(0.8), abs=0.2)


def test_what_little_changes_most_is_told():
    scene = clouds()
    here, moved = view(scene, 0, 0), view(scene, 0, 0)
    moved[40:48, 40:48] += 0.06
    noise = 0.002 * torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    blocks = [F.adaptive_avg_pool2d(x[None], 12).expand(1, 3, 12, 12) for x in (here, moved)]
    told, noisy = (float(largest_change(blocks[0], b)) for b in (blocks[1], blocks[0] + 0.0005))
    assert told == pytest.approx(math.log(0.063 / 0.03), abs=0.05)
    assert noisy == pytest.approx(math.log(0.0035 / 0.03), abs=0.01)
    found = picture_values(as_pixels(here, (here + noise).clamp(0, 1), moved))[1:]
    assert value(found[0], "largest change") < -0.8
    assert value(found[1], "largest change") > 0.3


def test_light_that_some_pixels_alone_get_is_told_by_the_tenths():
    scene = clouds()
    here, lit = view(scene, 0, 0), view(scene, 0, 0)
    lit[:24] *= 0.6
    found = picture_values(as_pixels(here, lit))[1]
    assert value(found, "light change") == pytest.approx(0.0, abs=0.01)
    least = value(found, "light change of the least tenth")
    assert least == pytest.approx(5 * math.log(0.6), abs=0.4)
    assert value(found, "light change of the most tenth") == pytest.approx(0.0, abs=0.01)


def test_histograms_count_pixels():
    frames = torch.tensor([0.1, 0.9, 1.0, 0.3]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    counts = colour_histogram(frames)[0]
    assert counts.sum() == 1.0
    assert {int(i): float(counts[i]) for i in counts.nonzero()} == {0: 0.25, 63: 0.5, 21: 0.25}


def test_every_video_begins_anew():
    frames = random_pixels(7)
    together = picture_values(frames, frame_counts=[3, 0, 4])
    apart = torch.cat([picture_values(frames[:3]), picture_values(frames[3:])])
    torch.testing.assert_close(together, apart)
    still = [PICTURE_VALUES.index(name) for name in ("mean difference", "right", "down", "zoom")]
    assert together[[0, 3]][:, still].abs().max() == 0.0


def test_a_stream_goes_on_from_the_frame_before():
    frames = random_pixels(6)
    parts = [picture_values(frames[:1])]
    for start, end in ((1, 4), (4, 6)):
        parts.append(picture_values(frames[start:end], previous=frames[start - 1]))
    torch.testing.assert_close(torch.cat(parts), picture_values(frames))


def test_all_tokens_of_a_frame_are_told():
    torch.manual_seed(0)
    model = TimeVLMForConditionalGeneration(tiny_config(picture_embedding=True))
    pixels = random_pixels(3)
    features = torch.zeros(3, 2, model.config.llm.hidden_size)
    told = model.tell_picture(features, pixels)
    expected = picture_values(pixels) @ model.picture.weight.T
    torch.testing.assert_close(told, expected[:, None].expand_as(told))
    assert TimeVLMForConditionalGeneration(tiny_config()).tell_picture(features, pixels) is features
