"""Data prepared ahead by other processes is the data of the step, whoever prepares it."""

import multiprocessing

import pytest
import torch

from tests.helpers import batch_tensors, tiny_processor
from timevlm.errors import InputError
from timevlm.training.batches import Batch, BatchConfig, make_batch, sample_videos
from timevlm.training.kinds import FULL
from timevlm.training.labels import patch_labels
from timevlm.training.pieces import Piece, Pieces, draw_frames, prepare_piece, shows_text

CONFIG = BatchConfig(num_videos=2, turns_per_video=4, max_frames=6)
GRID = 2


def assert_same_tensors(one: Batch, other: Batch) -> None:
    expected = batch_tensors(other)
    for name, tensor in batch_tensors(one).items():
        assert torch.equal(tensor, expected[name]), name


def assert_equal(one: Piece, other: Piece) -> None:
    assert one.samples[0].spec == other.samples[0].spec
    assert [s.timestamps for s in one.frames] == [s.timestamps for s in other.frames]
    assert_same_tensors(one.batch, other.batch)
    for labels in ("labels", "frame_labels"):
        pairs = zip(getattr(one, labels), getattr(other, labels), strict=True)
        assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_piece_is_the_batch_of_the_step():
    piece = prepare_piece(CONFIG, tiny_processor(), GRID, 3)
    samples = sample_videos(CONFIG, 3)
    whole = make_batch(CONFIG, tiny_processor(), samples, size=(32, 32), seed=3)
    batch = piece.batch.with_frames(piece.samples, (32, 32), "cpu")
    assert_same_tensors(batch, whole)
    for mine, theirs in zip(piece.labels, patch_labels(samples, GRID, outline=False), strict=True):
        assert torch.equal(mine, theirs)
    assert sum(len(sample.seconds) for sample in piece.frames) <= 32


def test_frames_are_drawn_in_order_from_several_videos():
    drawn = draw_frames(5, 96)
    assert len(drawn) == len({sample.spec.seed for sample in drawn}) == 12
    for sample in drawn:
        assert len(sample.seconds) <= 8
        assert (sample.seconds.diff() > 0).all()


def test_frames_with_a_text_are_preferred():
    drawn = draw_frames(5, 96, FULL)
    with_text = [sum(shows_text(s.spec, t) for t in s.seconds.tolist()) for s in drawn]
    assert sum(with_text) > 0.25 * sum(len(sample.seconds) for sample in drawn)  # not an eighth


@pytest.mark.slow
def test_workers_prepare_the_same_pieces():
    expected = {step: prepare_piece(CONFIG, tiny_processor(), GRID, step) for step in range(12)}
    with Pieces(tiny_processor(), GRID, num_workers=2, stride=2) as pieces:
        for step in (0, 2, 4, 8, 10, 3):  # a gap, and back
            assert_equal(pieces.take(step, CONFIG), expected[step])
    with Pieces(tiny_processor(), GRID) as pieces:
        assert_equal(pieces.take(7, CONFIG), expected[7])


@pytest.mark.slow
def test_workers_start_with_the_first_piece():
    running = len(multiprocessing.active_children())
    with Pieces(tiny_processor(), GRID, num_workers=1) as pieces:
        assert len(multiprocessing.active_children()) == running
        pieces.take(0, CONFIG)
        assert len(multiprocessing.active_children()) == running + 1
    assert len(multiprocessing.active_children()) == running


def test_a_number_of_workers_is_not_negative():
    with pytest.raises(InputError, match="workers"):
        Pieces(tiny_processor(), GRID, num_workers=-1)
