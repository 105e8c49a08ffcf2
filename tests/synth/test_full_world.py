import hashlib
import itertools
import json
import math

import pytest
import torch

from timevlm.errors import InputError
from timevlm.synth.full.motion import object_poses, object_table, place_at, screen_poses
from timevlm.synth.full.palette import (
    COLOURS,
    MOTIONS,
    PATTERNS,
    SOFT_TRANSITIONS,
    TRAVELLING,
    held_out_triples,
    is_held_out,
)
from timevlm.synth.palette import SHAPES
from timevlm.synth.spec import VideoSpec, crop_scenes
from timevlm.synth.world import LEVELS, sample_video

SPLITS = LEVELS["full"]
SPECS = [sample_video(seed, split=split, level="full") for split in SPLITS for seed in range(12)]
SCENES = [(spec, scene) for spec in SPECS for scene in spec.scenes]
ITEMS = [(scene, item) for _, scene in SCENES for item in scene.objects]


def test_the_full_world_of_version_1_stays_what_it_is():
    # ToyWorld-QA v1 is made of these videos: a change needs a new version, then a new digest.
    texts = [sample_video(seed, split="test", level="full").to_dict() for seed in range(5)]
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]
    assert digest == "53e4f42994e8deec"


def test_one_seed_is_one_video_and_splits_share_none():
    assert SPECS[3] == sample_video(3, level="full")
    assert len({json.dumps(spec.to_dict()["scenes"]) for spec in SPECS}) == len(SPECS)


def test_json_round_trip():
    for spec in SPECS:
        assert VideoSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_unknown_levels_and_splits_are_refused():
    with pytest.raises(InputError, match="level 'rich' is unknown; choose one of basic, full"):
        sample_video(0, level="rich")
    with pytest.raises(InputError, match="split 'compositional' is unknown; choose one of train"):
        sample_video(0, split="compositional")


def test_everything_that_was_asked_for_occurs():
    specs = [sample_video(seed, level="full") for seed in range(150)]
    scenes = [scene for spec in specs for scene in spec.scenes]
    items = [item for scene in scenes for item in scene.objects]
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4, 5}
    assert {len(spec.scenes) for spec in specs} == {1, 2, 3, 4, 5, 6}
    assert {item.colour for item in items} == set(COLOURS)
    assert {item.shape for item in items} == set(SHAPES)
    assert {item.motion for item in items} == set(MOTIONS)
    assert {item.pattern for item in items} == set(PATTERNS)
    assert {item.size for item in items} == {"small", "medium", "large"}
    kinds = {scene.camera.kind for scene in scenes if scene.camera}
    assert {kind.split()[0] for kind in kinds} == {"pan", "tilt", "zoom", "shake"}
    assert {scene.transition_kind for scene in scenes} >= {
        *("cut", "fade", "dissolve", "flash", "freeze", "black")
    }
    assert {s.light.kind for s in scenes if s.light} == {"brighter", "darker", "flicker"}
    assert {s.pair.kind for s in scenes if s.pair} == {"overtakes", "collides"}
    assert {s.background.kind for s in scenes} == {
        *("flat", "gradient", "noise", "fractal", "polygons")
    }
    texts = {scene.overlay.text for scene in scenes if scene.overlay}
    assert {text.isdigit() for text in texts} == {True, False}
    assert {bool(spec.jpeg_scale) for spec in specs} == {True, False}


def test_no_video_outside_the_compositional_split_shows_a_held_out_triple():
    assert 0.08 < len(held_out_triples()) / (len(COLOURS) * len(SHAPES) * len(MOTIONS)) < 0.16
    for spec in SPECS:
        expected = spec.split == "compositional"
        for scene in spec.scenes:
            for item in scene.objects:
                for colour in item.colours:
                    assert is_held_out(colour, item.shape, item.motion) == expected


def test_times_lie_inside_their_scenes():
    for spec, scene in SCENES:
        start, end = scene.start_seconds, scene.end_seconds
        assert end - start >= 4
        shown = scene.shown[1]
        for item in scene.objects:
            assert start <= item.appear_seconds < item.vanish_seconds <= shown
            assert item.appear_seconds <= item.motion_start_seconds
            assert item.motion_start_seconds < item.motion_end_seconds <= item.vanish_seconds
        for part in (scene.camera, scene.light, scene.overlay):
            if part is not None:
                assert start <= part.start_seconds < part.end_seconds <= scene.transition_window[0]
        if scene is spec.scenes[-1]:
            assert scene.transition is None
        else:
            assert scene.transition is not None


def test_objects_stay_in_the_picture_under_any_camera():
    for _, scene in SCENES:
        seconds = torch.linspace(*scene.shown, 40, dtype=torch.float64)[:-1]
        poses = screen_poses([scene], torch.zeros(len(seconds), dtype=torch.long), seconds)
        for axis in (poses.x, poses.y):
            assert (axis - 0.86 * poses.radius)[poses.visible].min() >= -1e-6
            assert (axis + 0.86 * poses.radius)[poses.visible].max() <= 1.0 + 1e-6


def test_objects_keep_apart_unless_they_collide_or_overtake():
    for _, scene in SCENES:
        pair = set() if scene.pair is None else {scene.pair.actor, scene.pair.target}
        for one, other in itertools.combinations(range(len(scene.objects)), 2):
            if {one, other} == pair:
                continue
            for i in range(30):
                seconds = scene.start_seconds + i / 30 * (scene.shown[1] - scene.start_seconds)
                x, y, r = place_at(scene.objects[one], seconds)
                u, v, s = place_at(scene.objects[other], seconds)
                assert math.hypot(x - u, y - v) >= 0.8 * (r + s)


def test_pairs_meet_at_their_moment():
    met = [(scene, scene.pair) for _, scene in SCENES if scene.pair is not None]
    assert len(met) > 10
    for scene, pair in met:
        actor, target = scene.objects[pair.actor], scene.objects[pair.target]
        x, y, r = place_at(actor, pair.moment_seconds)
        u, v, s = place_at(target, pair.moment_seconds)
        if pair.kind == "collides":
            assert math.hypot(x - u, y - v) == pytest.approx(0.9 * (r + s), abs=1e-3)
            assert actor.motion_end_seconds == target.motion_end_seconds == pair.moment_seconds
            continue
        along = 0 if actor.motion in ("left", "right") else 1
        sign = 1 if actor.motion in ("right", "down") else -1
        assert actor.motion == target.motion
        assert abs((x - u, y - v)[along]) < 0.02  # the moment is rounded to a tenth of a second
        before = sign * (actor.start_xy[along] - target.start_xy[along])
        after = sign * (actor.end_xy[along] - target.end_xy[along])
        assert before < -0.1
        assert after > 0.1


def test_poses_of_tensors_are_those_of_plain_numbers():
    for _, scene in SCENES[:40]:
        seconds = torch.linspace(scene.start_seconds, scene.end_seconds, 17, dtype=torch.float64)
        poses = object_poses(object_table(scene.objects, 5), seconds[:, None])
        for slot, item in enumerate(scene.objects):
            for row, time in enumerate(seconds.tolist()):
                found = [float(v[row, slot]) for v in (poses.x, poses.y, poses.radius)]
                assert found == pytest.approx(place_at(item, time), abs=1e-9)


def test_counted_motions_fill_their_time():
    for _, item in ITEMS:
        seconds = item.motion_end_seconds - item.motion_start_seconds
        assert (item.num_blinks > 0) == (item.motion == "blink")
        assert (item.num_bounces > 0) == (item.motion == "bounce")
        if item.num_blinks:
            assert seconds == pytest.approx(3.0 * item.num_blinks)
        if item.num_bounces:
            assert seconds / item.num_bounces >= 2.5 - 1e-9


def test_a_camera_that_travels_has_nothing_else_travelling():
    for scene, item in ITEMS:
        if scene.camera is not None and scene.camera.kind != "shake":
            assert item.motion not in TRAVELLING


def test_a_freeze_catches_something_in_motion():
    frozen = [scene for _, scene in SCENES if scene.transition_kind == "freeze"]
    assert frozen
    for scene in frozen:
        start = scene.transition_window[0]
        assert any(item.motion_end_seconds == start for item in scene.objects)
        assert all(
            item.motion_end_seconds <= start or item.motion == "still" for item in scene.objects
        )


def test_cropped_scenes_start_at_zero_and_keep_everything_else():
    spec = next(s for s in SPECS if len(s.scenes) >= 4)
    part = crop_scenes(spec, 1, 2)
    offset = spec.scenes[1].start_seconds
    assert part.scenes[0].start_seconds == 0.0
    assert part.duration_seconds == pytest.approx(spec.scenes[2].end_seconds - offset)
    assert part.scenes[-1].transition is None
    for ours, theirs in zip(part.scenes, spec.scenes[1:3], strict=True):
        assert ours.background == theirs.background
        assert len(ours.objects) == len(theirs.objects)
        for one, other in zip(ours.objects, theirs.objects, strict=True):
            assert one.appear_seconds == pytest.approx(other.appear_seconds - offset)
            assert one.motion_end_seconds == pytest.approx(other.motion_end_seconds - offset)
            assert one.start_xy == other.start_xy
        for name in ("camera", "light", "overlay"):
            if getattr(theirs, name) is not None:
                moved = getattr(theirs, name).start_seconds - offset
                assert getattr(ours, name).start_seconds == pytest.approx(moved)


def test_soft_transitions_leave_both_scenes_room():
    for spec in SPECS:
        for scene, following in itertools.pairwise(spec.scenes):
            start, end = scene.transition_window
            assert start >= scene.start_seconds + 3.5
            if scene.transition_kind in SOFT_TRANSITIONS:
                assert start < scene.end_seconds < end <= following.end_seconds - 3.5
