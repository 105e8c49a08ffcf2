"""Labels of patches against a slow twin that looks at one patch and one object at a time."""

import math

import torch

from timevlm.synth.motion import object_poses, object_table
from timevlm.synth.palette import COLOURS, MOTIONS, SHAPES, SIZES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.world import sample_video
from timevlm.training.batches import VideoSample
from timevlm.training.labels import MASK_SIDE, NOT_ASKED, patch_labels


def test_patch_labels_equal_a_loop_over_patches():
    grid = 3
    seconds = torch.tensor([0.4, 3.3, 6.1, 9.7, 11.9], dtype=torch.float64)
    samples = [VideoSample(spec=sample_video(s), seconds=seconds, shift=0.0) for s in range(4)]
    labels = patch_labels(samples, grid)
    frame = on_object = has_turned = 0
    for sample in samples:
        for t in seconds.tolist():
            (scene,) = [s for s in sample.spec.scenes if s.start_seconds <= t < s.end_seconds]
            for patch in range(grid * grid):
                expected = slow_patch(scene.objects, t, patch, grid)
                shape, colour, size, motion, earlier, place, mask = expected
                assert int(labels.shapes[frame, patch]) == shape
                assert int(labels.colours[frame, patch]) == colour
                assert int(labels.sizes[frame, patch]) == size
                assert int(labels.motions[frame, patch]) == motion
                assert int(labels.earlier_colours[frame, patch]) == earlier
                has_turned += 0 <= earlier < len(COLOURS)
                torch.testing.assert_close(labels.places[frame, patch], torch.tensor(place))
                assert labels.masks[frame, patch].tolist() == mask
                on_object += shape < len(SHAPES)
            assert sample.spec.scenes[int(labels.scenes[frame])] is scene
            frame += 1
    assert on_object > 10
    assert has_turned > 0


def slow_patch(objects, t: float, patch: int, grid: int) -> tuple:
    """Classes, place and mask of one patch, from one object after the other."""
    row, column = divmod(patch, grid)
    y, x = (row + 0.5) / grid, (column + 0.5) / grid
    shape, colour, place = len(SHAPES), len(COLOURS), [0.0, 0.0, 0.0]
    size, motion, earlier = len(SIZES), len(MOTIONS), NOT_ASKED
    mask = [False] * MASK_SIDE**2
    for item in objects:
        pose = object_poses(object_table([item], 1)[0], torch.tensor(t, dtype=torch.float64))
        if not bool(pose.visible):
            continue
        px, py, radius = float(pose.x), float(pose.y), float(pose.radius)
        if math.hypot(px - x, py - y) < max(radius, 0.6 / grid):
            shape = SHAPES.index(item.shape)
            colour = list(COLOURS).index(item.colour_at(t))
            size, motion = list(SIZES).index(item.size), list(MOTIONS).index(item.motion)
            before = item.colours[: item.colours.index(item.colour_at(t))]
            earlier = list(COLOURS).index(before[0]) if before else len(COLOURS)
            place = [px, py, radius]
        for i in range(MASK_SIDE**2):
            v, u = divmod(i, MASK_SIDE)
            point = [
                (column + (u + 0.5) / MASK_SIDE) / grid - px,
                (row + (v + 0.5) / MASK_SIDE) / grid - py,
            ]
            dx, dy = (torch.tensor([[[p / radius]]]) for p in point)
            mask[i] |= bool(SIGNED_DISTANCE[item.shape](dx, dy) < 0)
    return shape, colour, size, motion, earlier, place, mask


def test_moves_equal_a_loop_over_earlier_frames():
    seconds = torch.arange(0, 12, dtype=torch.float64)
    samples = [VideoSample(spec=sample_video(s), seconds=seconds, shift=0.0) for s in range(4)]
    labels = patch_labels(samples, 4, outline=False)
    moved = frame = 0
    for sample in samples:
        for t in seconds.tolist():
            (scene,) = [s for s in sample.spec.scenes if s.start_seconds <= t < s.end_seconds]
            for patch in range(16):
                move = labels.moves[frame, patch]
                shape = int(labels.shapes[frame, patch])
                place = labels.places[frame, patch]
                expected = torch.zeros(3)
                if shape < len(SHAPES):
                    earlier = [u for u in seconds.tolist() if scene.start_seconds <= u < t]
                    past = places_of(owner_of(scene, t, place), earlier)
                    if past:
                        expected = place - torch.tensor(past).mean(dim=0)
                torch.testing.assert_close(move, expected, atol=1e-5, rtol=0)
                moved += bool(expected.abs().sum() > 0.05)
            frame += 1
    assert moved > 10


def pose_of(item, t: float) -> list[float] | None:
    pose = object_poses(object_table([item], 1)[0], torch.tensor(t, dtype=torch.float64))
    return [float(pose.x), float(pose.y), float(pose.radius)] if bool(pose.visible) else None


def owner_of(scene, t: float, place: torch.Tensor):
    at = {i: pose_of(item, t) for i, item in enumerate(scene.objects)}
    near = [i for i, pose in at.items() if pose and torch.allclose(torch.tensor(pose), place)]
    return scene.objects[near[0]]


def places_of(item, times: list[float]) -> list[list[float]]:
    return [pose for pose in (pose_of(item, t) for t in times) if pose is not None]
