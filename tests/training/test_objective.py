"""Losses against slow twins: row by row, patch by patch."""

from itertools import pairwise

import pytest
import torch

from tests.helpers import FRAME_SIDE, batch_tensors, tiny_model, tiny_processor
from timevlm.training.batches import (
    IGNORE_INDEX,
    BatchConfig,
    make_batch,
    pad_rows,
    sample_videos,
)
from timevlm.training.objective import (
    AnswerObjective,
    length_buckets,
)

CONFIG = BatchConfig(num_videos=2, turns_per_video=4, max_frames=5, history_share=0.5)


def small_batch(seed: int = 0):
    samples = sample_videos(CONFIG, seed)
    size = (FRAME_SIDE, FRAME_SIDE)
    return samples, make_batch(CONFIG, tiny_processor(), samples, size=size, seed=seed)


def objective_of(model, length_power: float = 0.5) -> AnswerObjective:
    return AnswerObjective(model, tiny_processor().prefix_ids(), length_power=length_power)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_answer_loss_equals_monolithic_rows(power):
    samples, batch = small_batch()
    model = tiny_model()
    loss, *lessons, predicted, counted = objective_of(model, power)(batch)
    assert [float(lesson) for lesson in lessons] == [0.0] * 5  # no labels were given
    counts = [len(sample.seconds) for sample in samples]
    videos, times = batch.pixels.split(counts), batch.frame_seconds.split(counts)
    total = weights = 0.0
    for row, video in enumerate(batch.row_video.tolist()):
        length = int(batch.text_lengths[row])
        text, labels = batch.text_ids[row, :length], batch.labels[row, :length]
        head = [*tiny_processor().prefix_ids(), *batch.video_ids[video].tolist()]
        head = head[: 2 + int(batch.video_lengths[video])]
        ids = torch.cat([torch.tensor(head), text])[None]
        full = torch.cat([torch.full((len(head),), IGNORE_INDEX), labels])[None]
        with torch.no_grad():
            out = model(
                input_ids=ids,
                pixel_values_videos=videos[video],
                frame_seconds=times[video],
                labels=full,
            )
        number = int((labels != IGNORE_INDEX).sum())
        total += float(out.loss) * number**power
        weights += number**power
        answers = labels != IGNORE_INDEX
        places = answers.nonzero().flatten() - 1
        assert torch.equal(counted[row].nonzero().flatten(), places)
        assert torch.equal(predicted[row, places], out.logits[0, places].argmax(-1))
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
    expected = batch_tensors(again)
    for name, tensor in batch_tensors(first).items():
        assert torch.equal(tensor, expected[name]), name
    assert not torch.equal(first.pixels[:1], other.pixels[:1])


def test_clocks_are_shifted_and_frames_bounded():
    config = BatchConfig(num_videos=30, max_frames=20, late_clock_share=0.5)
    samples = sample_videos(config, 0)
    shifted = [s for s in samples if s.shift]
    assert 5 < len(shifted) < 25
    for sample in samples:
        assert len(sample.seconds) <= 20
        assert sample.timestamps == (sample.seconds + sample.shift).tolist()


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
