import dataclasses

import pytest
import torch
import torch.nn.functional as F

from tests.synth.painting import painted_one_by_one
from timevlm.synth.full.compression import through_jpeg
from timevlm.synth.full.font import text_mask
from timevlm.synth.full.palette import COLOURS, OVERLAY_WORDS, PATTERNS
from timevlm.synth.full.spec import CameraMove, LightChange, Overlay, Transition
from timevlm.synth.palette import SHAPES
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video

SIZE = (96, 96)
GREY = 90.0


def _plain(num_scenes=1):
    """A full video of clean scenes of 8 s: one resting red disc on flat grey."""
    spec = sample_video(0, level="full")
    scene = spec.scenes[0]
    item = dataclasses.replace(
        scene.objects[0],
        shape="circle",
        colour="red",
        rgb=tuple(map(float, COLOURS["red"])),
        size="medium",
        motion="still",
        pattern="plain",
        start_xy=(0.5, 0.5),
        end_xy=(0.5, 0.5),
        start_radius=0.15,
        end_radius=0.15,
        orbit_radius=0.0,
        orbit_turns=0.0,
        spin_turns=0.0,
        bounce_height=0.0,
        num_bounces=0,
        num_blinks=0,
        change_seconds=None,
        changed_colour=None,
        changed_rgb=None,
    )
    background = dataclasses.replace(scene.background, kind="flat", rgb=(GREY, GREY, GREY))
    scenes = []
    for number in range(num_scenes):
        start, end = 8.0 * number, 8.0 * number + 8.0
        times = {
            "appear_seconds": start,
            "vanish_seconds": end,
            "motion_start_seconds": start,
            "motion_end_seconds": end,
        }
        scenes.append(
            dataclasses.replace(
                scene,
                start_seconds=start,
                end_seconds=end,
                background=background,
                objects=(dataclasses.replace(item, **times),),
                brightness=1.0,
                noise_level=0.0,
                camera=None,
                light=None,
                overlay=None,
                transition=None,
                pair=None,
                blur=0.0,
            )
        )
    return dataclasses.replace(
        spec, scenes=tuple(scenes), duration_seconds=8.0 * num_scenes, jpeg_scale=None
    )


def _edit(spec, index=0, item=None, **changes):
    scenes = list(spec.scenes)
    if item is not None:
        changes["objects"] = (dataclasses.replace(scenes[index].objects[0], **item),)
    scenes[index] = dataclasses.replace(scenes[index], **changes)
    return dataclasses.replace(spec, scenes=tuple(scenes))


def _frame(spec, seconds, size=SIZE):
    times = torch.tensor([seconds], dtype=torch.float64)
    return render_frames([(spec, times)], size)[0].float()


def _red(frame):
    return (frame[0] - frame[1]) > 60.0


def _centre(frame):
    mask = _red(frame).float()
    ys, xs = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    return tuple(float((mask * axis).sum() / mask.sum() / 96) for axis in (xs, ys))


def test_batched_equals_one_by_one_and_repeats():
    specs = [sample_video(seed, level="full") for seed in (0, 1, 2, 4, 7)]
    assert any(spec.jpeg_scale for spec in specs)
    requests = [(spec, frame_seconds(spec, 0.7)) for spec in specs]
    together = render_frames(requests, SIZE)
    assert together.dtype == torch.uint8
    assert torch.equal(together, render_frames(requests, SIZE))
    assert torch.equal(together, painted_one_by_one(requests, SIZE))


def test_painting_never_mixes_devices():
    # Operations between the meta device and the CPU are refused, as between a GPU and the CPU.
    for seed in range(6):
        spec = dataclasses.replace(sample_video(seed, level="full"), jpeg_scale=None)
        seconds = frame_seconds(spec, 1.0)
        frames = render_frames([(spec, seconds)], SIZE, "meta")
        assert (frames.device.type, frames.shape) == ("meta", (len(seconds), 3, *SIZE))


def test_both_levels_go_into_one_batch():
    basic, full = sample_video(2), sample_video(2, level="full")
    requests = [(full, frame_seconds(full, 0.3)), (basic, frame_seconds(basic, 0.3))]
    apart = [render_frames([request], SIZE) for request in requests]
    assert torch.equal(render_frames(requests, SIZE), torch.cat(apart))


def test_a_larger_picture_is_the_same_picture():
    for seed in range(5):
        spec = dataclasses.replace(sample_video(seed, level="full"), jpeg_scale=None)
        seconds = frame_seconds(spec, 0.4)
        small = render_frames([(spec, seconds)], (64, 64)).float()
        large = F.avg_pool2d(render_frames([(spec, seconds)], (256, 256)).float(), 4)
        assert (small - large).abs().mean() < 6.0  # sensor noise, edges, whole dots of text


def test_a_picture_may_have_any_sides():
    spec = sample_video(3, level="full")
    assert render_frames([(spec, frame_seconds(spec, 0.3))], (50, 71)).shape[2:] == (50, 71)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_has_its_colour_place_and_size(shape):
    frame = _frame(_edit(_plain(), item={"shape": shape, "start_xy": (0.3, 0.6)}), 1.0)
    inside = (frame - GREY).abs().amax(dim=0) > 30.0
    assert (frame[:, inside].median(dim=1).values - torch.tensor(COLOURS["red"])).abs().max() <= 1
    assert inside.any(dim=1).sum() / 96 == pytest.approx(0.30, abs=0.07)


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_a_pattern_darkens_a_part_of_its_object(pattern):
    plain = _red(_frame(_plain(), 1.0)).sum()
    spec = _edit(_plain(), item={"pattern": pattern})
    share = float(_red(_frame(spec, 1.0)).sum() / plain)
    assert 0.4 < share < 0.8


def test_patterns_differ():
    frames = [_frame(_edit(_plain(), item={"pattern": name}), 1.0) for name in PATTERNS]
    for i, one in enumerate(frames):
        for other in frames[:i]:
            assert (one - other).abs().mean() > 1.0


def test_a_spinning_object_turns_and_comes_back():
    spec = _edit(
        _plain(),
        item={"shape": "heart", "motion": "spin", "spin_turns": 1.0, "motion_end_seconds": 8.0},
    )
    start, half = _frame(spec, 0.0), _frame(spec, 4.0)
    assert (half - start).abs().mean() > 2.0
    # Half a turn of the picture around the object's centre.
    assert (half.flip(1, 2) - start).abs().mean() < 1.0
    assert (_frame(spec, 7.999) - start).abs().mean() < 0.5


def test_a_bouncing_object_comes_down_as_often_as_it_should():
    spec = _edit(
        _plain(),
        item={
            "motion": "bounce",
            "num_bounces": 2,
            "bounce_height": 0.3,
            "start_xy": (0.5, 0.8),
            "end_xy": (0.5, 0.8),
        },
    )
    heights = [_centre(_frame(spec, t))[1] for t in (0.0, 2.0, 4.0, 6.0)]
    assert heights == pytest.approx([0.8, 0.5, 0.8, 0.5], abs=0.01)


def test_a_blinking_object_goes_out_as_often_as_it_should():
    item = {
        "motion": "blink",
        "num_blinks": 2,
        "motion_start_seconds": 1.0,
        "motion_end_seconds": 7.0,
    }
    spec = _edit(_plain(), item=item)
    lit = [bool(_red(_frame(spec, t)).any()) for t in (0.5, 2.5, 3.5, 4.5, 6.5, 7.5)]
    assert lit == [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("kind", "dx", "dy"),
    [("pan left", 1, 0), ("pan right", -1, 0), ("tilt up", 0, 1), ("tilt down", 0, -1)],
)
def test_what_rests_moves_against_the_camera(kind, dx, dy):
    move = CameraMove(kind=kind, start_seconds=2.0, end_seconds=6.0, amount=0.2)
    spec = _edit(_plain(), camera=move)
    (x0, y0), (x1, y1) = _centre(_frame(spec, 1.0)), _centre(_frame(spec, 7.0))
    assert (x1 - x0, y1 - y0) == pytest.approx((0.2 * dx, 0.2 * dy), abs=0.01)
    assert _centre(_frame(spec, 4.0)) == pytest.approx((0.5, 0.5), abs=0.01)


@pytest.mark.parametrize(("kind", "sizes"), [("zoom in", (1.0, 1.5)), ("zoom out", (1.5, 1.0))])
def test_a_zoom_scales_the_picture(kind, sizes):
    move = CameraMove(kind=kind, start_seconds=2.0, end_seconds=6.0, amount=1.5)
    spec = _edit(_plain(), camera=move)
    area = float(_red(_frame(_plain(), 1.0)).sum())
    found = [float(_red(_frame(spec, t)).sum()) for t in (1.0, 7.0)]
    assert found == pytest.approx([area * size**2 for size in sizes], rel=0.05)


def test_a_background_moves_with_its_objects_under_a_pan():
    move = CameraMove(kind="pan left", start_seconds=0.0, end_seconds=8.0, amount=0.25)
    spec = sample_video(0, level="full")
    textured = dataclasses.replace(
        spec.scenes[0].background, kind="polygons", rgb=(20.0,) * 3, second_rgb=(200.0,) * 3
    )
    spec = _edit(_plain(), camera=move, background=textured, objects=())
    first, last = _frame(spec, 0.0), _frame(spec, 7.9999)
    assert (last[:, :, 24:] - first[:, :, :-24]).abs().mean() < 1.0
    assert (last - first).abs().mean() > 10.0


def test_a_shake_is_there_only_in_its_time():
    move = CameraMove(kind="shake", start_seconds=2.0, end_seconds=6.0, amount=0.03)
    spec = _edit(_plain(), camera=move)
    rest = _frame(spec, 1.0)
    assert torch.equal(_frame(spec, 7.0), rest)
    assert not torch.equal(_frame(spec, 3.1), rest)


def _two(kind, seconds):
    spec = _edit(_plain(2), transition=Transition(kind=kind, duration_seconds=seconds))
    other = dataclasses.replace(spec.scenes[1].background, rgb=(160.0, 160.0, 160.0))
    return _edit(spec, 1, background=other, objects=())


def test_a_cut_is_sharp():
    spec = _two("cut", 0.0)
    assert [_frame(spec, t)[0, 5, 5] for t in (7.96, 8.0)] == [90.0, 160.0]


def test_a_fade_goes_to_black_and_comes_back():
    spec = _two("fade", 2.0)
    levels = [float(_frame(spec, t)[0, 5, 5]) for t in (6.9, 7.5, 8.0, 8.5, 9.0)]
    assert levels == pytest.approx([90.0, 45.0, 0.0, 80.0, 160.0], abs=1.0)


def test_a_flash_is_white_at_the_cut():
    spec = _two("flash", 1.0)
    levels = [float(_frame(spec, t)[0, 5, 5]) for t in (7.4, 8.0, 8.5)]
    assert levels == pytest.approx([90.0, 255.0, 160.0], abs=1.0)


def test_a_dissolve_shows_both_scenes():
    spec = _two("dissolve", 2.0)
    levels = [float(_frame(spec, t)[0, 5, 5]) for t in (6.9, 7.5, 8.0, 8.5, 9.0)]
    assert levels == pytest.approx([90.0, 107.5, 125.0, 142.5, 160.0], abs=1.0)
    middle = _frame(spec, 8.5)[:, 48, 48]
    assert float(middle[0] - middle[1]) == pytest.approx(0.25 * (222 - 28), abs=2.0)


def test_a_black_screen_is_black_until_the_cut():
    spec = _two("black", 2.0)
    assert [float(_frame(spec, t).max()) for t in (6.0, 7.96)] == [0.0, 0.0]
    assert float(_frame(spec, 5.96)[0, 5, 5]) == 90.0
    assert float(_frame(spec, 8.0)[0, 5, 5]) == 160.0


def test_a_freeze_stops_everything_noise_included():
    spec = _edit(_two("freeze", 3.0), noise_level=4.0)
    frozen = _frame(spec, 5.0)
    assert torch.equal(_frame(spec, 7.5), frozen)
    assert not torch.equal(_frame(spec, 4.9), frozen)


def test_light_changes_in_its_time():
    change = LightChange(
        kind="darker", start_seconds=2.0, end_seconds=4.0, start_gain=1.0, end_gain=0.5
    )
    spec = _edit(_plain(), light=change)
    levels = [float(_frame(spec, t)[0, 5, 5]) for t in (1.0, 3.0, 5.0)]
    assert levels == pytest.approx([90.0, 67.5, 45.0], abs=1.0)
    flicker = dataclasses.replace(change, kind="flicker", end_seconds=6.0)
    spec = _edit(_plain(), light=flicker)
    levels = [float(_frame(spec, t)[0, 5, 5]) for t in (2.5, 3.5, 4.5, 5.5, 6.5)]
    assert levels == pytest.approx([90.0, 45.0, 90.0, 45.0, 90.0], abs=1.0)


def test_blur_softens_and_keeps_the_mean():
    sharp, soft = _frame(_plain(), 1.0), _frame(_edit(_plain(), blur=0.008), 1.0)
    assert float((sharp - soft).mean()) == pytest.approx(0.0, abs=0.3)
    steepest = [float((f[0, :, 1:] - f[0, :, :-1]).abs().max()) for f in (sharp, soft)]
    assert steepest[1] < 0.8 * steepest[0]


@pytest.mark.parametrize("side", ["top", "bottom"])
def test_a_text_can_be_read_in_its_time(side):
    # "Reading" is template matching: of all texts, the right one fits the pixels best.
    texts = [*OVERLAY_WORDS, "10", "47", "74", "88", "89"]
    for text in ("moon", "47", "89"):
        overlay = Overlay(
            text=text,
            start_seconds=2.0,
            end_seconds=5.0,
            side=side,
            x=0.5,
            rgb=(250.0, 250.0, 250.0),
            boxed=True,
        )
        spec = _edit(_plain(), overlay=overlay)
        assert torch.equal(_frame(spec, 1.9), _frame(spec, 5.0))
        bright = (_frame(spec, 3.0).mean(dim=0) / 250.0 * (_frame(spec, 3.0)[1] > 100)).clamp(0, 1)
        fits = {t: _best_overlap(bright, text_mask(t, 14)) for t in texts}
        assert max(fits, key=fits.get) == text


def _best_overlap(picture, mask):
    """The best normalised correlation of a mask anywhere in a picture."""
    dots = F.conv2d(picture[None, None], mask[None, None])
    energy = F.conv2d(picture[None, None] ** 2, torch.ones_like(mask)[None, None])
    missed = float((picture**2).sum()) - energy
    return float((dots / (energy.clamp_min(1e-6) * (mask**2).sum()).sqrt() - missed / 1e3).max())


def test_jpeg_adds_artefacts_but_keeps_the_picture():
    spec = dataclasses.replace(sample_video(0, level="full"), jpeg_scale=None)
    frames = render_frames([(spec, frame_seconds(spec, 0.3))], SIZE)
    fine, coarse = through_jpeg(frames, 2), through_jpeg(frames, 20)
    assert coarse.shape == frames.shape
    errors = [float((f.float() - frames.float()).abs().mean()) for f in (fine, coarse)]
    assert 0.0 < errors[0] < errors[1] < 12.0
    assert torch.equal(through_jpeg(frames[1:2], 20)[0], coarse[1])


def test_jpeg_accepts_odd_sides():
    frames = torch.full((2, 3, 33, 47), 128, dtype=torch.uint8)
    assert (through_jpeg(frames, 8).int() - 128).abs().max() <= 3
