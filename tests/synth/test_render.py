import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from tests.synth.painting import painted_one_by_one
from timevlm.errors import InputError
from timevlm.synth.palette import COLOURS, SHAPES
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video

SIZE = (96, 96)


def _still_object(shape, colour, xy=(0.5, 0.5), radius=0.2):
    """A clean two-scene video whose first scene holds one resting object on a flat background."""
    spec = sample_video(0)
    scene = spec.scenes[0]
    item = dataclasses.replace(
        scene.objects[0],
        shape=shape,
        colour=colour,
        rgb=tuple(float(c) for c in COLOURS[colour]),
        motion="still",
        start_xy=xy,
        end_xy=xy,
        start_radius=radius,
        end_radius=radius,
        orbit_radius=0.0,
        orbit_turns=0.0,
        appear_seconds=scene.start_seconds,
        vanish_seconds=scene.end_seconds,
        motion_start_seconds=scene.start_seconds,
        motion_end_seconds=scene.end_seconds,
        change_seconds=None,
        changed_colour=None,
        changed_rgb=None,
    )
    background = dataclasses.replace(scene.background, kind="flat", rgb=(40.0, 40.0, 40.0))
    scene = dataclasses.replace(
        scene, objects=(item,), background=background, brightness=1.0, noise_level=0.0
    )
    return dataclasses.replace(spec, scenes=(scene, *spec.scenes[1:]))


def _with_item(spec, **changes):
    scene = spec.scenes[0]
    item = dataclasses.replace(scene.objects[0], **changes)
    scene = dataclasses.replace(scene, objects=(item,))
    return dataclasses.replace(spec, scenes=(scene, *spec.scenes[1:]))


def _frame(spec, seconds=1.0, size=SIZE):
    return render_frames([(spec, torch.tensor([seconds]))], size)[0].float()


def _mask(frame):
    return (frame - 40.0).abs().amax(dim=0) > 30.0


def _centroid(frame):
    mask = _mask(frame).float()
    height, width = mask.shape
    x = (mask.sum(0) * (torch.arange(width) + 0.5)).sum() / mask.sum() / width
    y = (mask.sum(1) * (torch.arange(height) + 0.5)).sum() / mask.sum() / height
    return x.item(), y.item()


def test_batched_equals_one_by_one_and_repeats():
    specs = [sample_video(seed) for seed in (0, 3, 7)]
    requests = [(spec, frame_seconds(spec, 1.0)) for spec in specs]
    together = render_frames(requests, SIZE)
    assert together.dtype == torch.uint8
    assert together.shape == (sum(len(seconds) for _, seconds in requests), 3, *SIZE)
    assert torch.equal(together, render_frames(requests, SIZE))
    assert torch.equal(together, painted_one_by_one(requests, SIZE))


def test_no_request_gives_no_frame():
    assert render_frames([], SIZE).shape == (0, 3, *SIZE)
    assert render_frames([(sample_video(0), torch.empty(0))], SIZE).shape == (0, 3, *SIZE)


def test_a_larger_picture_is_the_same_picture():
    for seed in range(4):
        spec = sample_video(seed)
        seconds = frame_seconds(spec, 0.5)
        small = render_frames([(spec, seconds)], (48, 64)).float()
        large = F.avg_pool2d(render_frames([(spec, seconds)], (192, 256)).float(), 4)
        assert (small - large).abs().mean() < 4.0  # sensor noise and edges


def test_times_outside_the_video_are_refused():
    spec = sample_video(0)
    with pytest.raises(InputError, match="leave the video; stay within 0 to"):
        render_frames([(spec, torch.tensor([spec.duration_seconds + 1.0]))], SIZE)
    with pytest.raises(InputError, match="pass one dimension"):
        render_frames([(spec, torch.zeros(1, 1))], SIZE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_an_object_has_its_colour_at_its_place(shape, colour):
    frame = _frame(_still_object(shape, colour, xy=(0.3, 0.6)))
    inside = _mask(frame)
    median = frame[:, inside].median(dim=1).values
    assert (median - torch.tensor(COLOURS[colour])).abs().max() <= 1.0
    x, y = _centroid(frame)
    assert x == pytest.approx(0.3, abs=0.015)
    # Triangles and hearts fill their box, so their centre of mass lies off its middle.
    assert y == pytest.approx(0.6, abs=0.045)
    rows = inside.any(dim=1).sum() / SIZE[0]
    assert 0.32 <= rows <= 0.48  # twice the radius of 0.2, each shape within its box


def test_every_shape_differs_from_every_other_even_when_small():
    masks = {s: _mask(_frame(_still_object(s, "white", radius=0.1))) for s in SHAPES}
    for one, other in itertools.combinations(SHAPES, 2):
        union = (masks[one] | masks[other]).sum()
        iou = (masks[one] & masks[other]).sum() / union
        assert iou < 0.88, (one, other, iou)


def test_colours_stay_apart():
    for one, other in itertools.combinations(COLOURS.values(), 2):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) >= 100


def test_a_moving_object_follows_its_path_and_rests_outside_its_motion():
    spec = _with_item(
        _still_object("circle", "red", radius=0.1),
        motion="right",
        start_xy=(0.2, 0.5),
        end_xy=(0.8, 0.5),
        motion_start_seconds=1.0,
        motion_end_seconds=3.0,
    )
    for seconds, x in ((0.5, 0.2), (1.0, 0.2), (1.5, 0.35), (2.0, 0.5), (3.0, 0.8), (3.5, 0.8)):
        centre = _centroid(_frame(spec, seconds))
        assert centre == pytest.approx((x, 0.5), abs=0.01)


def test_a_circling_object_keeps_its_distance_to_the_middle():
    spec = _with_item(
        _still_object("circle", "red", radius=0.1),
        motion="circle",
        orbit_radius=0.2,
        orbit_phase=0.0,
        orbit_turns=1.0,
        motion_start_seconds=0.0,
        motion_end_seconds=4.0,
    )
    for seconds, x, y in ((0.0, 0.7, 0.5), (1.0, 0.5, 0.7), (2.0, 0.3, 0.5), (3.0, 0.5, 0.3)):
        assert _centroid(_frame(spec, seconds)) == pytest.approx((x, y), abs=0.01)


def test_a_growing_object_grows():
    spec = _with_item(
        _still_object("square", "red", radius=0.1),
        motion="grow",
        end_radius=0.2,
        motion_start_seconds=0.0,
        motion_end_seconds=4.0,
    )
    areas = [_mask(_frame(spec, seconds)).sum().item() for seconds in (0.0, 2.0, 3.9)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[1] / areas[0] == pytest.approx(1.5**2, rel=0.15)


def test_appearing_changing_and_vanishing_happen_at_their_exact_times():
    spec = _with_item(
        _still_object("circle", "red"),
        appear_seconds=1.0,
        vanish_seconds=3.0,
        change_seconds=2.0,
        changed_colour="blue",
        changed_rgb=tuple(float(c) for c in COLOURS["blue"]),
    )
    middle = [_frame(spec, s)[:, 48, 48].tolist() for s in (0.96, 1.0, 1.96, 2.0, 2.96, 3.0)]
    grey, red, blue = (
        [40.0] * 3,
        list(map(float, COLOURS["red"])),
        list(map(float, COLOURS["blue"])),
    )
    assert middle == [grey, red, red, blue, blue, grey]


def test_a_blinking_object_goes_out_and_comes_back():
    spec = _with_item(_still_object("circle", "red"), motion="blink")
    seen = [bool(_mask(_frame(spec, s)).any()) for s in (0.0, 1.96, 2.0, 2.96, 3.0)]
    assert seen == [True, True, False, False, True]


def test_a_cut_changes_the_picture_at_its_exact_time():
    spec = sample_video(2)
    cut = spec.scenes[1].start_seconds
    before, at, after = (
        render_frames([(spec, torch.tensor([s], dtype=torch.float64))], SIZE)[0].float()
        for s in (cut - 0.04, cut, cut + 0.04)
    )
    assert (at - before).abs().mean() > 5 * (after - at).abs().mean()
