"""Footage: what its specs say is what its pictures do."""

import dataclasses

import pytest
import torch

from tests.synth.painting import painted_one_by_one
from timevlm.synth.full.footage import (
    FootageScene,
    FootageVideo,
    drifter_places,
    drifter_table,
    leaves_picture,
    sample_footage,
)
from timevlm.synth.full.spec import CameraMove
from timevlm.synth.render import render_frames
from timevlm.synth.spec import crop_scenes
from timevlm.synth.world import frame_seconds, sample_video

SIZE = (48, 48)


def quiet_shot(**changes) -> FootageVideo:
    """One shot of which nothing moves, without noise and light."""
    spec = next(v for v in map(footage, range(50)) if v.scenes[0].drifters)
    spec = crop_scenes(spec, 0, 1)
    plain = {"noise_level": 0.0, "blur": 0.0, "brightness": 1.0, "tremble": 0.0, "drifters": ()}
    nothing = {"camera": None, "light": None, "overlay": None}
    shot = dataclasses.replace(spec.scenes[0], **{**plain, **nothing, **changes})
    return dataclasses.replace(spec, scenes=(shot,), jpeg_scale=None)


def footage(seed: int) -> FootageVideo:
    return sample_footage(seed, "train")


def frames_of(spec, *seconds: float) -> torch.Tensor:
    return render_frames([(spec, torch.tensor(seconds, dtype=torch.float64))], SIZE).float()


def change(spec, first: float, second: float) -> float:
    one, other = frames_of(spec, first, second)
    return float((one - other).abs().mean())


def test_a_seed_is_a_video_and_splits_differ():
    assert footage(3) == footage(3)
    assert footage(3) != sample_footage(3, "val")
    assert len({footage(seed).scenes[0].leaves_seed for seed in range(20)}) == 20


def test_nothing_in_it_has_a_name():
    for seed in range(30):
        spec = footage(seed)
        assert isinstance(spec, FootageVideo)
        assert all(isinstance(shot, FootageScene) for shot in spec.scenes)
        assert all(shot.objects == () and shot.pair is None for shot in spec.scenes)


def test_shots_of_a_video_share_colours_and_come_back():
    pairs = [
        (one, other)
        for seed in range(80)
        for one, other in zip(footage(seed).scenes, footage(seed).scenes[1:], strict=False)
    ]
    same = sum(one.palette == other.palette for one, other in pairs) / len(pairs)
    assert 0.4 < same < 0.8
    assert all(one.leaves_seed != other.leaves_seed for one, other in pairs)
    again = [footage(seed).scenes for seed in range(80) if len(footage(seed).scenes) > 2]
    assert any(shots[0].leaves_seed == shots[2].leaves_seed for shots in again)


def test_a_frame_is_the_same_alone_and_among_others():
    videos = [footage(seed) for seed in range(3)] + [sample_video(1, level="full")]
    requests = [(video, frame_seconds(video, 0.5)) for video in videos]
    assert torch.equal(render_frames(requests, SIZE), painted_one_by_one(requests, SIZE))


def test_painting_never_mixes_devices():
    for seed in range(6):
        spec = dataclasses.replace(footage(seed), jpeg_scale=None)
        seconds = frame_seconds(spec, 1.0)
        frames = render_frames([(spec, seconds)], SIZE, "meta")
        assert (frames.device.type, frames.shape) == ("meta", (len(seconds), 3, *SIZE))


def test_a_shot_in_which_nothing_moves_stays_the_same():
    spec = quiet_shot()
    assert change(spec, 0.0, spec.duration_seconds - 0.1) == 0.0
    picture = frames_of(spec, 0.0)
    assert float(picture.std()) > 5.0  # and there is something to see


@pytest.mark.parametrize("kind", ["pan left", "tilt up", "zoom in"])
def test_a_camera_moves_over_the_leaves(kind):
    move = CameraMove(
        kind=kind, start_seconds=1.0, end_seconds=3.0, amount=1.4 if kind == "zoom in" else 0.2
    )
    spec = quiet_shot(camera=move)
    assert change(spec, 0.0, 1.0) == 0.0
    assert change(spec, 1.0, 3.0) > 3.0


def test_a_tripod_trembles_by_less_than_a_camera_moves():
    trembling = quiet_shot(tremble=0.004)
    shaken = quiet_shot(
        camera=CameraMove(kind="shake", start_seconds=0.0, end_seconds=4.0, amount=0.03)
    )
    changes = [
        max(change(spec, 0.0, second) for second in (0.1, 0.2, 0.3, 0.4))
        for spec in (trembling, shaken)
    ]
    assert 0.0 < changes[0] < 0.5 * changes[1]


def test_a_drifter_moves_in_its_time_and_stays_where_it_came_to():
    drifter = next(d for s in range(50) for shot in footage(s).scenes for d in shot.drifters)
    drifter = dataclasses.replace(
        drifter,
        axes=(0.15, 0.15),
        start_xy=(0.2, 0.5),
        end_xy=(0.8, 0.5),
        start_seconds=1.0,
        end_seconds=3.0,
        tint=(0.3, 0.3, 0.3),
        sway=0.0,
    )
    spec, without = quiet_shot(drifters=(drifter,)), quiet_shot()
    assert change(spec, 0.0, 1.0) == change(spec, 3.0, 3.5) == 0.0
    for seconds, x in ((0.5, 0.2), (2.0, 0.5), (3.5, 0.8)):
        covered = (frames_of(spec, seconds) - frames_of(without, seconds))[0].abs().sum(dim=0)
        columns = covered.sum(dim=0)
        middle = float((columns * (torch.arange(48) + 0.5)).sum() / columns.sum()) / 48
        assert middle == pytest.approx(x, abs=0.05)
    place = drifter_places(drifter_table([drifter])[:1], torch.tensor([2.0], dtype=torch.float64))
    assert place[0].tolist() == pytest.approx([0.5, 0.5])


def test_leaves_follow_from_their_seed_and_have_the_colours_of_their_palette():
    red = ((200.0, 20.0, 20.0), (120.0, 10.0, 10.0))
    picture = leaves_picture(5, red)
    assert torch.equal(picture, leaves_picture(5, red))
    assert not torch.equal(picture, leaves_picture(6, red))
    assert bool((picture[0] >= picture[1]).all())
    assert float(picture.amin()) >= 0.0
    assert float(picture.amax()) <= 255.0


def test_a_picture_has_detail_at_every_scale():
    """Contrast between neighbouring cells stays, however small these are, as in photographs."""
    picture = torch.stack(
        [leaves_picture(seed, footage(seed).scenes[0].palette) for seed in range(8)]
    )
    luma = picture.mean(dim=1, keepdim=True)
    contrasts = []
    for cell in (4, 8, 16, 32):
        small = torch.nn.functional.avg_pool2d(luma, cell)
        contrasts.append(float((small[..., 1:] - small[..., :-1]).abs().mean()))
    assert min(contrasts) > 0.4 * max(contrasts)


def test_a_shot_is_the_same_when_it_is_cut_out():
    spec = next(v for v in map(footage, range(50)) if len(v.scenes) > 1 and v.scenes[1].drifters)
    plain = {"noise_level": 0.0, "tremble": 0.0, "transition": None}
    shots = tuple(dataclasses.replace(shot, **plain) for shot in spec.scenes)
    spec = dataclasses.replace(spec, scenes=shots, jpeg_scale=None)
    start, end = spec.scenes[1].start_seconds, spec.scenes[1].end_seconds
    seconds = torch.linspace(start, end - 0.1, 7, dtype=torch.float64)
    alone = render_frames([(crop_scenes(spec, 1, 1), seconds - start)], SIZE)
    within = render_frames([(spec, seconds)], SIZE)
    assert float((alone.float() - within.float()).abs().max()) <= 1.0  # rounded times
