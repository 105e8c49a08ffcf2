"""Losses against slow twins: row by row, patch by patch."""

import math
from itertools import pairwise

import pytest
import torch

from tests.helpers import FRAME_SIDE, tiny_model, tiny_processor
from timevlm.synth.motion import object_poses, object_table
from timevlm.synth.palette import COLOURS, SHAPES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.world import sample_video
from timevlm.training.batches import (
    IGNORE_INDEX,
    BatchConfig,
    VideoSample,
    crop_scenes,
    make_batch,
    pad_rows,
    sample_videos,
)
from timevlm.training.objective import (
    MASK_SIDE,
    AnswerObjective,
    PatchObjective,
    length_buckets,
    patch_labels,
)

CONFIG = BatchConfig(num_videos=2, turns_per_video=4, max_frames=5, history_share=0.5)


def small_batch(seed: int = 0):
    samples = sample_videos(CONFIG, seed)
    size = (FRAME_SIDE, FRAME_SIDE)
    return samples, make_batch(CONFIG, tiny_processor(), samples, size=size, seed=seed)


def objective_of(model) -> AnswerObjective:
    objective = AnswerObjective(model, tiny_processor().prefix_ids())
    return objective


def test_answer_loss_equals_monolithic_rows():
    samples, batch = small_batch()
    model = tiny_model()
    loss, predicted, counted = objective_of(model)(batch)
    counts = [len(sample.seconds) for sample in samples]
    videos = batch.pixels.split(counts)
    total = weights = 0.0
    for row, video in enumerate(batch.row_video.tolist()):
        length = int(batch.text_lengths[row])
        text, labels = batch.text_ids[row, :length], batch.labels[row, :length]
        head = [*tiny_processor().prefix_ids(), *batch.video_ids[video].tolist()]
        head = head[: 2 + int(batch.video_lengths[video])]
        ids = torch.cat([torch.tensor(head), text])[None]
        full = torch.cat([torch.full((len(head),), IGNORE_INDEX), labels])[None]
        with torch.no_grad():
            out = model(input_ids=ids, pixel_values_videos=videos[video], labels=full)
        number = int((labels != IGNORE_INDEX).sum())
        total += float(out.loss) * math.sqrt(number)
        weights += math.sqrt(number)
        answers = labels != IGNORE_INDEX
        places = answers.nonzero().flatten() - 1
        assert torch.equal(counted[row].nonzero().flatten(), places)
        assert torch.equal(predicted[row, places], out.logits[0, places].argmax(-1))
    # An answer of n tokens weighs as much as the square root of n.
    assert float(loss.detach()) == pytest.approx(total / weights, abs=1e-4)


def test_labels_are_the_answers():
    _, batch = small_batch()
    end = tiny_processor().end_token_id
    for row in range(len(batch.labels)):
        answer = batch.labels[row] != IGNORE_INDEX
        first, last = answer.nonzero().flatten()[[0, -1]].tolist()
        assert first == int(batch.rank_index[row]) + 1
        assert last == int(batch.text_lengths[row]) - 1
        assert int(batch.text_ids[row, first - 1]) == tiny_processor().assistant_token_id
        assert int(batch.labels[row, last]) == end
        assert torch.equal(batch.labels[row][answer], batch.text_ids[row][answer])


def test_batches_depend_on_the_step_alone():
    first, again, other = small_batch(3)[1], small_batch(3)[1], small_batch(4)[1]
    for name, tensor in vars(first).items():
        assert torch.equal(tensor, getattr(again, name)), name
    assert not torch.equal(first.pixels[:1], other.pixels[:1])


def test_clocks_are_shifted_and_frames_bounded():
    config = BatchConfig(num_videos=30, max_frames=20, shift_share=0.5)
    samples = sample_videos(config, 0)
    shifted = [s for s in samples if s.shift]
    assert 5 < len(shifted) < 25
    for sample in samples:
        assert len(sample.seconds) <= 20
        assert sample.timestamps == (sample.seconds + sample.shift).tolist()


def test_cropped_videos_show_the_same_scenes_earlier():
    spec = next(s for s in map(sample_video, range(99)) if len(s.scenes) > 3)
    part = crop_scenes(spec, 1, 2)
    start = spec.scenes[1].start_seconds
    assert part.scenes[0].start_seconds == 0.0
    assert part.duration_seconds == pytest.approx(spec.scenes[2].end_seconds - start)
    for old, new in zip(spec.scenes[1:3], part.scenes, strict=True):
        seconds = torch.linspace(old.start_seconds, old.end_seconds - 0.06, 9).double()[:, None]
        before = object_poses(object_table(old.objects, 3), seconds)
        after = object_poses(object_table(new.objects, 3), seconds - start)
        for name in ("x", "y", "radius"):
            torch.testing.assert_close(getattr(before, name), getattr(after, name))


def test_pad_rows():
    padded, lengths = pad_rows([[1, 2, 3], [4]], 9)
    assert padded.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert lengths.tolist() == [3, 1]


@pytest.mark.parametrize("lengths", [[5], [3, 3, 3], [40, 4, 5, 41, 6, 7, 90], list(range(1, 50))])
def test_length_buckets_hold_every_row_once_and_are_narrow(lengths):
    buckets = length_buckets(torch.tensor(lengths), ratio=1.5)
    assert sorted(torch.cat(buckets).tolist()) == list(range(len(lengths)))
    for rows in buckets:
        inside = [lengths[i] for i in rows.tolist()]
        assert max(inside) <= 1.5 * min(inside)
    shortest = [min(lengths[i] for i in rows.tolist()) for rows in buckets]
    assert all(after > 1.5 * before for before, after in pairwise(shortest))


def test_patch_labels_equal_a_loop_over_patches():
    grid = 3
    seconds = torch.tensor([0.4, 3.3, 6.1, 9.7, 11.9], dtype=torch.float64)
    samples = [VideoSample(spec=sample_video(s), seconds=seconds, shift=0.0) for s in range(4)]
    labels = patch_labels(samples, grid)
    frame = on_object = 0
    for sample in samples:
        for t in seconds.tolist():
            (scene,) = [s for s in sample.spec.scenes if s.start_seconds <= t < s.end_seconds]
            for patch in range(grid * grid):
                expected = slow_patch(scene.objects, t, patch, grid)
                shape, colour, offset, mask = expected
                assert int(labels.shapes[frame, patch]) == shape
                assert int(labels.colours[frame, patch]) == colour
                torch.testing.assert_close(labels.offsets[frame, patch], torch.tensor(offset))
                assert labels.masks[frame, patch].tolist() == mask
                on_object += shape < len(SHAPES)
            frame += 1
    assert on_object > 10


def slow_patch(objects, t: float, patch: int, grid: int) -> tuple:
    """Shape, colour, offset and mask of one patch, from one object after the other."""
    row, column = divmod(patch, grid)
    y, x = (row + 0.5) / grid, (column + 0.5) / grid
    shape, colour, offset = len(SHAPES), len(COLOURS), [0.0, 0.0, 0.0]
    mask = [False] * MASK_SIDE**2
    for item in objects:
        pose = object_poses(object_table([item], 1)[0], torch.tensor(t, dtype=torch.float64))
        if not bool(pose.visible):
            continue
        px, py, radius = float(pose.x), float(pose.y), float(pose.radius)
        if math.hypot(px - x, py - y) < max(radius, 0.6 / grid):
            shape = SHAPES.index(item.shape)
            colour = list(COLOURS).index(item.colour_at(t))
            offset = [px - x, py - y, radius]
        for i in range(MASK_SIDE**2):
            v, u = divmod(i, MASK_SIDE)
            point = [
                (column + (u + 0.5) / MASK_SIDE) / grid - px,
                (row + (v + 0.5) / MASK_SIDE) / grid - py,
            ]
            dx, dy = (torch.tensor([[[p / radius]]]) for p in point)
            mask[i] |= bool(SIGNED_DISTANCE[item.shape](dx, dy) < 0)
    return shape, colour, offset, mask


def test_patch_objective_falls_when_trained_on_its_labels():
    model = tiny_model()
    spec = sample_video(0)
    sample = VideoSample(spec=spec, seconds=torch.tensor([1.0, 2.0]).double(), shift=0.0)
    labels = patch_labels([sample], FRAME_SIDE // 16)
    from timevlm.synth.render import render_frames

    pixels = render_frames([(spec, sample.seconds)], (FRAME_SIDE, FRAME_SIDE), "cpu")
    objective = PatchObjective(model)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss, _, _ = objective(pixels, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < 0.7 * losses[0]
