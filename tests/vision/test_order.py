"""A frame's tokens stand so that dropping every second one leaves the most distinct."""

import pytest
import torch

from tests.helpers import FRAME_SIDE, tiny_config
from timevlm.llm.transv import uniform_positions
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision.order import interlaced_order, interlaced_ranks, reorder


def test_ranks_are_interlaced():
    assert interlaced_ranks(1).tolist() == [0]
    assert interlaced_ranks(4).tolist() == [0, 2, 1, 3]
    assert interlaced_ranks(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize("count", range(1, 20))
def test_every_rank_has_a_place_and_the_first_half_the_even_ones(count):
    ranks = interlaced_ranks(count).tolist()
    assert sorted(ranks) == list(range(count))
    assert sorted(ranks[::2]) == list(range((count + 1) // 2))


@pytest.mark.parametrize("num_frames", [1, 7, 100, 5000])
def test_even_dropping_keeps_the_most_distinct_half_of_every_frame(num_frames):
    ranks = interlaced_ranks(8).repeat(num_frames)
    kept = ranks[uniform_positions(8 * num_frames, 4 * num_frames)]
    # The last place of all is always kept, in place of the one before it.
    assert kept[:-1].max() <= 3
    expected = torch.tensor([num_frames] * 3 + [num_frames - 1])
    assert torch.equal(kept[:-1].bincount(minlength=4), expected)


def test_what_looks_least_like_the_frame_comes_first():
    background, object_ = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    likeness = torch.tensor([0.9, 0.1, 1.0, 0.5])
    tokens = likeness[:, None] * background + (1 - likeness)[:, None] * object_
    sizes = torch.tensor([1.0, 1.0, 30.0, 1.0])
    order = interlaced_order(tokens[None], sizes[None])
    assert order.tolist() == [[1, 0, 3, 2]]  # ranks 0 2 1 3
    assert torch.equal(reorder(sizes[None], order), sizes[order[0]][None])
    assert torch.equal(reorder(tokens[None], order), tokens[order[0]][None])


@pytest.mark.parametrize("told", [False, True])
def test_a_model_gives_the_same_tokens_in_that_order(told):
    torch.manual_seed(0)
    extra = {"place_embedding": told, "change_embedding": told}
    model = TimeVLMForConditionalGeneration(tiny_config(**extra)).eval()
    frames = torch.randint(0, 256, (3, 3, FRAME_SIDE, FRAME_SIDE), dtype=torch.uint8)
    with torch.no_grad():
        patches, changes = model.vision(frames), model.frame_changes(frames)
        plain, own = model.merge_patches(patches, patches[..., :5], changes)
        merged, sizes, _ = model._merge(patches, None)
        model.config.interlaced_order = True
        features, companion = model.merge_patches(patches, patches[..., :5], changes)
        alone, nothing = model.merge_patches(patches, None, changes)
    order = interlaced_order(merged, sizes)
    torch.testing.assert_close(features, reorder(plain, order))
    torch.testing.assert_close(companion, reorder(own, order))
    torch.testing.assert_close(alone, features)
    assert nothing is None
