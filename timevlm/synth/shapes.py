"""Signed distances of the unit shapes, batched: negative inside, in units of the shape's radius.

`x` is `(n, 1, W)` and `y` `(n, H, 1)` (downward), both relative to the shape's centre: everything
that depends on one axis alone stays one dimensional, which makes painting several times cheaper
than on full grids. Distances are exact along edges; past a corner some are lower bounds, which
anti-aliasing cannot tell.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ROOT_HALF = math.sqrt(0.5)


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y) - 0.95


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.86


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    # Equilateral, corners on the circle of radius 1.1, moved down so that it fills its box.
    y = y - 0.2
    sides = x.abs() * math.sqrt(0.75) - 0.5 * y
    return torch.maximum(sides, y) - 0.57


def _star(x: Tensor, y: Tensor) -> Tensor:
    # A pentagram is where at least four of its five lines have the centre on their side: the
    # second largest distance.
    largest = second = None
    for corner in range(5):
        angle = math.pi / 2 + 2.0 * math.pi * corner / 5
        line = x * math.cos(angle) + y * math.sin(angle)
        if largest is None:
            largest = line
        elif second is None:
            largest, second = torch.maximum(largest, line), torch.minimum(largest, line)
        else:
            second = torch.maximum(second, torch.minimum(largest, line))
            largest = torch.maximum(largest, line)
    # Lines at 0.36 put the tips at 0.36 / cos(72 degrees) = 1.16 of the radius.
    return second - 0.36


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    upright = torch.maximum(x - 0.33, y - 0.98)
    lying = torch.maximum(x - 0.98, y - 0.33)
    return torch.minimum(upright, lying)


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    # A narrow rhombus, so that it is no square on its corner.
    width, height = 0.74, 1.1
    scale = 1.0 / math.hypot(1.0 / width, 1.0 / height)
    return (x.abs() / width + y.abs() / height - 1.0) * scale


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.sqrt(x * x + y * y) - 0.76).abs() - 0.22


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # A square on its corner, with a disc on each upper edge.
    half, x, y = 0.82, x.abs(), y - 0.1
    body = (x + y.abs() - half) * ROOT_HALF
    side, top = x - half / 2, y + half / 2
    lobe = torch.sqrt(side * side + top * top) - half * ROOT_HALF
    return torch.minimum(body, lobe)


SIGNED_DISTANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "diamond": _diamond,
    "ring": _ring,
    "heart": _heart,
}
