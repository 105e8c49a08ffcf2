"""Boxes: growth through windows, merging, and masks."""

import itertools

import pytest
import torch

from recognizers.rrm.regions import Axis, Box, boxes_of_mask, merge_boxes, touched_box


def positions(box):
    return set(itertools.product(range(box.top, box.bottom), range(box.left, box.right)))


@pytest.mark.parametrize("axis", [Axis(1, 1, 1), Axis(2, 1, 1), Axis(3, 0, 3), Axis(2, 5, 8)])
def test_touched_outputs_are_those_that_read_the_input(axis):
    size = 9
    for start, stop in itertools.combinations(range(20), 2):
        reading = [
            output
            for output in range(size)
            if any(
                output * axis.stride - axis.before <= place <= output * axis.stride + axis.after
                for place in range(start, stop)
            )
        ]
        first, last = axis.touched(start, stop, size)
        assert list(range(first, last)) == reading


def test_composed_axes_read_what_the_two_read_in_turn():
    outer, inner = Axis(2, 1, 3), Axis(3, 2, 0)
    both = outer.then(inner)
    middle = range(4 * outer.stride - outer.before, 4 * outer.stride + outer.after + 1)
    assert 4 * both.stride - both.before == middle[0] * inner.stride - inner.before
    assert 4 * both.stride + both.after == middle[-1] * inner.stride + inner.after


def test_box_beyond_the_last_output_touches_nothing():
    assert touched_box(Box(8, 9, 0, 1), Axis(4, 0, 0), Axis(1, 0, 0), (2, 9)) is None


def test_boxes_of_a_mask_cover_it_and_merging_loses_nothing():
    generator = torch.Generator().manual_seed(0)
    for share in (0.02, 0.1, 0.4, 0.9):
        mask = torch.rand(12, 9, generator=generator) < share
        boxes = boxes_of_mask(mask.tolist())
        covered = set().union(*map(positions, boxes)) if boxes else set()
        assert {tuple(cell) for cell in mask.nonzero().tolist()} <= covered
        merged = merge_boxes(boxes, lambda box: 5 + box.area)
        assert covered <= set().union(*map(positions, merged), set())
        assert sum(5 + box.area for box in merged) <= sum(5 + box.area for box in boxes)


def test_far_groups_stay_apart_and_near_ones_join():
    mask = [[False] * 10 for _ in range(10)]
    mask[0][0] = mask[1][1] = mask[9][9] = True
    assert sorted(boxes_of_mask(mask)) == [Box(0, 2, 0, 2), Box(9, 10, 9, 10)]
    assert boxes_of_mask([[False]]) == []
    near = [Box(0, 2, 0, 2), Box(2, 4, 0, 2)]
    assert merge_boxes(near, lambda box: 1 + box.area) == [Box(0, 4, 0, 2)]
