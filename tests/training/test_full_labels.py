"""Labels of level "full" against the pictures themselves and against the raw specs."""

import dataclasses
import math

import pytest
import torch

from timevlm.synth.full.motion import place_at
from timevlm.synth.full.palette import COLOURS, LIGHT_CHANGES, STRAIGHT, TRANSITIONS
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.batches import VideoSample
from timevlm.training.kinds import FULL, kinds_of
from timevlm.training.labels import MASK_SIDE, NOT_YET, patch_labels

SIDE, GRID = 96, 6
GREY = 70.0


def clean(seed, **changes):
    """A video of which nothing but objects, camera and transitions is left, on flat grey."""
    spec = sample_video(seed, level="full")
    scenes = []
    for scene in spec.scenes:
        background = dataclasses.replace(scene.background, kind="flat", rgb=(GREY,) * 3)
        objects = tuple(dataclasses.replace(item, pattern="plain") for item in scene.objects)
        plain = {"light": None, "overlay": None, "brightness": 1.0, "noise_level": 0.0, "blur": 0.0}
        scenes.append(
            dataclasses.replace(scene, background=background, objects=objects, **plain, **changes)
        )
    return dataclasses.replace(spec, scenes=tuple(scenes), jpeg_scale=None)


def sample_of(spec, fps=1.0):
    return VideoSample(spec=spec, seconds=frame_seconds(spec, fps), shift=0.0)


def labelled(sample):
    frames = render_frames([(sample.spec, sample.seconds)], (SIDE, SIDE)).float()
    return frames, patch_labels([sample], GRID)


def in_transition(sample):
    """Whether each frame is inside a transition that blends or hides pictures."""
    windows = [
        scene.transition_window
        for scene in sample.spec.scenes
        if scene.transition_kind in ("fade", "dissolve", "flash", "black")
    ]
    return [any(s <= t < e for s, e in windows) for t in sample.seconds.tolist()]


def test_the_pixel_at_an_objects_centre_has_its_colour():
    """Under every camera move, spin, bounce and change of colour."""
    table = torch.tensor([COLOURS[name] for name in FULL.colours], dtype=torch.float32)
    checked, cameras = 0, set()
    for seed in range(20):
        sample = sample_of(clean(seed))
        frames, labels = labelled(sample)
        met = {i for i, scene in enumerate(sample.spec.scenes) if scene.pair is not None}
        hazy = in_transition(sample)
        for frame, pixels in enumerate(frames):
            if hazy[frame] or int(labels.scenes[frame]) in met:
                continue
            for patch in range(GRID * GRID):
                shape = int(labels.shapes[frame, patch])
                if shape == len(FULL.shapes) or FULL.shapes[shape] == "ring":
                    continue
                x, y, _ = labels.places[frame, patch].tolist()
                found = pixels[:, int(y * SIDE), int(x * SIDE)]
                expected = table[int(labels.colours[frame, patch])]
                # Colours are drawn within 8 levels of the palette's.
                assert float((found - expected).abs().max()) <= 10, (seed, frame, patch)
                checked += 1
                cameras.add(int(labels.happenings[frame, 0]))
    assert checked > 1000
    assert len(cameras) > 5


def test_outlines_lie_where_the_picture_differs_from_the_background():
    shared = union = 0
    for seed in range(8):
        sample = sample_of(clean(seed), 0.4)
        labels = patch_labels([sample], GRID)
        frames = render_frames([(sample.spec, sample.seconds)], (4 * SIDE, 4 * SIDE)).float()
        at = ((torch.arange(GRID * MASK_SIDE) + 0.5) * 4 * SIDE / (GRID * MASK_SIDE)).long()
        points = frames[:, :, at][:, :, :, at]
        seen = (points - GREY).abs().amax(dim=1) > 25
        blocks = seen.view(-1, GRID, MASK_SIDE, GRID, MASK_SIDE).transpose(2, 3)
        blocks = blocks.reshape(-1, GRID * GRID, MASK_SIDE**2)
        clear = ~torch.tensor(in_transition(sample))
        shared += int((blocks & labels.masks)[clear].sum())
        union += int((blocks | labels.masks)[clear].sum())
    assert union > 5_000
    assert shared / union > 0.95


def test_hidden_pictures_have_no_labels_and_dissolves_those_of_the_stronger_scene():
    seen = dict.fromkeys(("black", "fade", "flash", "dissolve", "freeze"), 0)
    background = len(FULL.shapes)
    for seed in range(40):
        spec = sample_video(seed, level="full")
        for number, scene in enumerate(spec.scenes):
            kind = scene.transition_kind
            if kind not in seen or seen[kind] >= 3:
                continue
            seen[kind] += 1
            start, end = scene.transition_window
            times = {
                "black": [(start + end) / 2],
                "fade": [scene.end_seconds],
                "flash": [scene.end_seconds],
                "dissolve": [start, end - 0.02],
                "freeze": [start, end - 0.02],
            }[kind]
            seconds = torch.tensor(times, dtype=torch.float64)
            labels = patch_labels([VideoSample(spec=spec, seconds=seconds, shift=0.0)], GRID)
            if kind in ("black", "fade", "flash"):
                assert (labels.shapes == background).all()
            elif kind == "dissolve":
                assert labels.scenes.tolist() == [number, number + 1]
            else:
                assert torch.equal(labels.places[0], labels.places[1])
                assert labels.scenes.tolist() == [number, number]
            assert all(FULL.transitions[i] == kind for i in labels.happenings[:, 2].tolist())
    assert min(seen.values()) >= 2, seen


def test_happenings_are_what_the_spec_has_since_the_frame_before():
    lights = set()
    for seed in range(20):
        sample = sample_of(sample_video(seed, level="full"))
        labels = patch_labels([sample], GRID, outline=False)
        times, numbers = sample.seconds.tolist(), labels.scenes.tolist()
        for frame, t in enumerate(times):
            scene = sample.spec.scenes[numbers[frame]]
            is_first = frame == 0 or numbers[frame - 1] != numbers[frame]
            camera, light, _, _ = labels.happenings[frame].tolist()
            for event, names, found in (
                (scene.camera, FULL.cameras, camera),
                (scene.light, FULL.lights, light),
            ):
                shows = not is_first and event is not None
                # A frozen picture shows the same again.
                frozen = scene.transition_kind == "freeze" and t > scene.transition_window[0]
                if shows and not frozen:
                    shows = event.start_seconds < t and event.end_seconds > times[frame - 1]
                assert frozen or found == (names.index(event.kind) if shows else len(names))
            lights.add(light)
    assert lights == set(range(len(LIGHT_CHANGES) + 1))


def test_the_first_frame_after_a_cut_is_labelled():
    num_cuts = 0
    for seed in range(20):
        sample = sample_of(sample_video(seed, level="full"), 0.5)
        spec, seconds = sample.spec, sample.seconds
        labels = patch_labels([sample], GRID, outline=False)
        cuts = [s.end_seconds for s in spec.scenes if s.transition_kind == "cut"]
        expected = [min(t for t in seconds.tolist() if t >= cut) for cut in cuts]
        assert seconds[labels.happenings[:, 3] == 0].tolist() == expected
        num_cuts += len(cuts)
    assert num_cuts > 10


def with_overlay(spec, number, overlay):
    scenes = list(spec.scenes)
    scenes[number] = dataclasses.replace(scenes[number], overlay=overlay)
    return dataclasses.replace(spec, scenes=tuple(scenes))


def test_texts_are_labelled_where_they_are_written():
    seen = set()
    for seed in range(40):
        spec = sample_video(seed, level="full")
        for number, scene in enumerate(spec.scenes):
            if scene.overlay is None:
                continue
            seconds = torch.tensor([(scene.overlay.start_seconds + scene.overlay.end_seconds) / 2])
            sample = VideoSample(spec=spec, seconds=seconds.double(), shift=0.0)
            texts = patch_labels([sample], GRID).texts[0]
            is_word = texts[:, 0] < len(FULL.texts[0])
            is_number = texts[:, 1] < len(FULL.texts[1])
            assert bool(is_word.any()) != bool(is_number.any())
            for w, t, o in texts[is_word | is_number].tolist():
                spelt = FULL.texts[0][w] if w < 18 else FULL.texts[1][t] + FULL.texts[2][o]
                assert spelt == scene.overlay.text
            letters = dataclasses.replace(scene.overlay, boxed=False)
            with_text, without = (
                render_frames([(with_overlay(spec, number, text), sample.seconds)], (SIDE, SIDE))
                for text in (letters, None)
            )
            changed = ((with_text.float() - without.float())[0].abs().amax(dim=0) > 40).float()
            share = torch.nn.functional.avg_pool2d(changed[None], SIDE // GRID).flatten()
            labelled = is_word | is_number
            assert share[labelled].sum() > 0.5 * share.sum()
            assert share[labelled].mean() > 0.1
            seen.add("word" if bool(is_word.any()) else "number")
    assert seen == {"word", "number"}


def test_patterns_sizes_motions_and_colours_are_those_of_the_object():
    counted, turned = 0, 0
    for seed in range(15):
        sample = sample_of(sample_video(seed, level="full"), 0.5)
        labels = patch_labels([sample], GRID, outline=False)
        for frame, patch in (labels.shapes < len(FULL.shapes)).nonzero().tolist():
            scene = sample.spec.scenes[int(labels.scenes[frame])]
            found = (
                FULL.shapes[int(labels.shapes[frame, patch])],
                FULL.patterns[int(labels.patterns[frame, patch])],
                FULL.sizes[int(labels.sizes[frame, patch])],
            )
            motion = int(labels.motions[frame, patch])
            does = (
                {o.motion for o in scene.objects} if motion == NOT_YET else {FULL.motions[motion]}
            )
            same = [
                o
                for o in scene.objects
                if (o.shape, o.pattern, o.size) == found and o.motion in does
            ]
            colour, earlier = (
                int(each[frame, patch]) for each in (labels.colours, labels.earlier_colours)
            )
            names = (*FULL.colours[earlier : earlier + 1], FULL.colours[colour])
            assert any(names == o.colours[: len(names)] for o in same), (names, same)
            turned += len(names) == 2
            counted += found[1] != "plain"
    assert counted > 100
    assert turned > 20


def test_a_motion_is_told_once_it_has_begun_and_acts_while_it_goes_on():
    seen = {"before": 0, "during": 0, "after": 0, "never": 0}
    for seed in range(12):
        for scene in (spec := clean(seed, camera=None)).scenes:
            if len(scene.objects) > 1:
                continue  # of several, one may stand before another
            (item,) = scene.objects
            seconds = torch.arange(*scene.shown, 0.5, dtype=torch.float64)
            labels = patch_labels([VideoSample(spec=spec, seconds=seconds, shift=0.0)], GRID)
            on_object = labels.shapes < len(FULL.shapes)
            start, end = item.motion_start_seconds, item.motion_end_seconds
            for frame, time in enumerate(seconds.tolist()):
                motions = set(labels.motions[frame][on_object[frame]].tolist())
                acts = {FULL.acts[i] for i in labels.acts[frame][on_object[frame]].tolist()}
                if not motions or abs(time - start) < 0.01 or abs(time - end) < 0.01:
                    continue
                own = FULL.motions.index(item.motion)
                if item.motion == "still":
                    phase, expected = "never", (own, "rests")
                elif time < start:
                    phase, expected = "before", (NOT_YET, "rests")
                else:
                    phase = "during" if time < end else "after"
                    expected = (own, "acts" if time < end else "rests")
                seen[phase] += 1
                assert (motions, acts) == ({expected[0]}, {expected[1]}), (seed, item, time)
    assert min(seen.values()) > 5, seen


def test_the_lists_of_a_level_begin_with_those_of_basic():
    basic, full = kinds_of("basic"), kinds_of("full")
    for name in ("shapes", "colours", "sizes", "motions"):
        assert getattr(full, name)[: len(getattr(basic, name))] == getattr(basic, name)
    assert basic.track_sizes == (9, 9, 4, 10, 9, 7)  # what checkpoints of level basic hold
    assert full.track_sizes[:6] == (9, 12, 4, 13, 12, 7)
    assert set(full.transitions) == set(TRANSITIONS) - {"cut"}


def test_patches_of_what_is_under_way_have_its_speed():
    checked = 0
    for seed in range(12):
        for scene in (spec := clean(seed, camera=None)).scenes:
            for item in scene.objects:
                if item.motion not in STRAIGHT:
                    continue
                seconds = (item.motion_start_seconds + item.motion_end_seconds) / 2
                times = [item.motion_start_seconds - 0.2, seconds - 0.1, seconds]
                times = torch.tensor(times).double()
                labels = patch_labels([VideoSample(spec=spec, seconds=times, shift=0.0)], GRID)
                x, y, _ = place_at(item, seconds)
                patch = int(y * GRID) * GRID + int(x * GRID)
                if FULL.shapes[labels.shapes[2, patch] % len(FULL.shapes)] != item.shape:
                    continue  # another object is in front
                x2, y2, _ = place_at(item, seconds + 0.01)
                expected = math.hypot(x2 - x, y2 - y) / 0.01
                assert float(labels.speeds[2, patch]) == pytest.approx(expected, rel=1e-3)
                own = labels.shapes[0] == FULL.shapes.index(item.shape)
                moving = [o for o in scene.objects if o is not item and o.shape == item.shape]
                assert moving or not labels.speeds[0, own].any()  # it has not begun to move
                checked += 1
    assert checked > 20
