"""Boxes of changed positions: how they grow through windows, merge, and come out of a mask.

A box is (top, bottom, left, right), half open, in positions of one map. A few boxes are all that
is kept of what changed: a box can be cut out of a map in one operation, while single positions
would be gathered one by one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """Rows top to bottom and columns left to right, half open."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of positions."""
        return (self.bottom - self.top) * (self.right - self.left)

    def union(self, other: "Box") -> "Box":
        """Smallest box around both."""
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


class Axis(NamedTuple):
    """Which inputs output i reads: i * stride - before to i * stride + after, both included."""

    stride: int
    before: int
    after: int

    def then(self, inner: "Axis") -> "Axis":
        """What this reads of `inner`'s input when `inner` makes what this reads."""
        return Axis(
            self.stride * inner.stride,
            self.before * inner.stride + inner.before,
            self.after * inner.stride + inner.after,
        )

    def touched(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Outputs, of `size`, that read any of the inputs from start to stop (half open)."""
        first = -((self.after - start) // self.stride)  # ceil((start - after) / stride)
        last = (stop - 1 + self.before) // self.stride + 1
        return max(first, 0), min(last, size)


SAME = Axis(1, 0, 0)


def touched_box(box: Box, rows: Axis, columns: Axis, size: tuple[int, int]) -> Box | None:
    """Outputs that read any position of `box`; None if there are none."""
    top, bottom = rows.touched(box.top, box.bottom, size[0])
    left, right = columns.touched(box.left, box.right, size[1])
    return Box(top, bottom, left, right) if top < bottom and left < right else None


def merge_boxes(boxes: Sequence[Box], cost: Callable[[Box], float]) -> list[Box]:
    """Fewer boxes around the same positions: two are joined where that makes the sum cheaper."""
    merged = list(dict.fromkeys(boxes))
    improved = True
    while improved and len(merged) > 1:
        improved = False
        for first in range(len(merged)):
            for second in range(first + 1, len(merged)):
                joined = merged[first].union(merged[second])
                if cost(joined) <= cost(merged[first]) + cost(merged[second]):
                    del merged[second], merged[first]
                    merged.append(joined)
                    improved = True
                    break
            if improved:
                break
    return merged


def boxes_of_mask(
    mask: Sequence[Sequence[bool]], *, value: bool = True, full_enough: float = 0.5
) -> list[Box]:
    """Boxes around the cells of a mask (rows of cells) that have a value, in cells.

    One box around all if they fill at least the share `full_enough` of it; else one for each group
    of cells that touch, corners included.
    """
    cells = {
        (y, x)
        for y, row in enumerate(mask)
        if value in row
        for x, cell in enumerate(row)
        if cell is value
    }
    if not cells:
        return []
    whole = _around(cells)
    if len(cells) >= full_enough * whole.area:
        return [whole]
    boxes = []
    while cells:
        group, frontier = set(), [cells.pop()]
        while frontier:
            y, x = frontier.pop()
            group.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & cells
            cells -= near
            frontier.extend(near)
        boxes.append(_around(group))
    return boxes


def _around(cells: set[tuple[int, int]]) -> Box:
    rows = [y for y, _ in cells]
    columns = [x for _, x in cells]
    return Box(min(rows), max(rows) + 1, min(columns), max(columns) + 1)
