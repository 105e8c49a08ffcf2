"""Which vision tokens go on: pure functions on rows of different length."""

import pytest
import torch

from timevlm.llm import TransV
from timevlm.llm.state import compact_rows
from timevlm.llm.transv import (
    arriving_counts,
    kept_counts,
    top_mask,
    uniform_mask,
    uniform_positions,
)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1001, 160_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_uniform_positions_are_distinct_and_span_the_video(total, share):
    num_kept = int(total * share)
    positions = uniform_positions(total, num_kept)
    assert positions.shape == (num_kept,)
    assert bool((positions.diff() > 0).all())
    if num_kept > 1:
        assert (int(positions[0]), int(positions[-1])) == (0, total - 1)
        step = (total - 1) / (num_kept - 1)
        even = torch.arange(num_kept, dtype=torch.float64) * step
        assert float((positions - even).abs().max()) < 1.01  # whole positions, rounded down


def test_uniform_positions_are_what_linspace_says():
    assert uniform_positions(10, 4).tolist() == [0, 3, 6, 9]
    assert uniform_positions(10, 3).tolist() == torch.linspace(0, 9, 3).long().tolist()
    assert uniform_positions(5, 1).tolist() == [0]


@pytest.mark.parametrize("sizes", [[37], [1] * 37, [5, 0, 12, 20], [30, 7]])
def test_uniform_mask_does_not_depend_on_the_chunks(sizes):
    totals, kept = torch.tensor([37, 37, 37]), torch.tensor([18, 37, 0])
    seen = torch.zeros(3, dtype=torch.long)
    parts = []
    for size in sizes:
        parts.append(uniform_mask(totals, kept, seen, size, None))
        seen = seen + size
    mask = torch.cat(parts, dim=1)
    for row, num_kept in enumerate(kept.tolist()):
        expected = torch.zeros(37, dtype=torch.bool)
        expected[uniform_positions(37, num_kept)] = True
        assert torch.equal(mask[row], expected)


def test_uniform_mask_of_rows_with_different_lengths():
    totals, kept = torch.tensor([9, 4, 0]), torch.tensor([4, 4, 0])
    mask = uniform_mask(totals, kept, torch.zeros(3, dtype=torch.long), 9, totals)
    assert mask.sum(dim=1).tolist() == [4, 4, 0]
    assert not mask[1, 4:].any()


def test_uniform_mask_of_a_video_that_ends_early():
    # Frames that fail to decode never arrive: the places planned for them stay empty.
    totals, kept = torch.tensor([10]), torch.tensor([4])  # planned 0, 3, 6, 9
    mask = uniform_mask(totals, kept, torch.zeros(1, dtype=torch.long), 7, None)
    assert mask[0].nonzero().flatten().tolist() == [0, 3, 6]


def test_top_mask_takes_the_highest_valid_scores():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [0.9, 0.8, 0.1, 0.2]])
    valid = torch.tensor([[True] * 4, [False, True, True, True]])
    mask = top_mask(scores, torch.tensor([2, 2]), valid)
    assert mask.tolist() == [[False, True, False, True], [False, True, False, True]]


def test_top_mask_keeps_no_more_than_there_are():
    valid = torch.tensor([[True, False, False], [False] * 3])
    mask = top_mask(torch.rand(2, 3), torch.tensor([3, 0]), valid)
    assert mask.tolist() == [[True, False, False], [False] * 3]


def test_counts_run_through_the_compressions():
    transv = (
        TransV(layer=0, keep=0.5),
        TransV(layer=1, keep=0.25, max_keep=10),
        TransV(layer=2, keep=0.4),
    )
    original = torch.tensor([100, 20, 0])
    arriving = arriving_counts(transv, original)
    assert [n.tolist() for n in arriving] == [[100, 20, 0], [50, 10, 0], [10, 5, 0]]
    # A share is of the original tokens: 40 of 100 would be more than the 10 that arrive.
    assert kept_counts(transv[2], original, arriving[2]).tolist() == [10, 5, 0]


def test_compact_rows_moves_chosen_tokens_forward_in_order():
    x = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[False, True, False, True, True, False], [True] + [False] * 5])
    rows, counts = compact_rows(x, mask)
    assert counts.tolist() == [3, 1]
    assert rows.shape == (2, 3, 1)
    assert rows[0, :, 0].tolist() == [1, 3, 4]
    assert rows[1, 0, 0] == 6


@pytest.mark.parametrize("chosen", [0, 1, 6])
def test_compact_rows_of_equal_counts_needs_no_lengths(chosen):
    mask = torch.arange(6).expand(2, 6) < chosen
    rows, counts = compact_rows(torch.randn(2, 6, 3), mask)
    assert counts is None
    assert rows.shape == (2, chosen, 3)
