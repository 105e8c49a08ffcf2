"""Where objects are: one formula for every motion, for any number of objects and times at once.

The sampler uses it to keep objects apart and the renderer to paint them, so both always agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timevlm.synth.palette import BLINK_ON_SECONDS, BLINK_PERIOD_SECONDS, SHAPES
from timevlm.synth.spec import ObjectSpec

# One row of numbers an object; an absent object is a row of zeros (it vanishes as it appears).
_COLUMNS = [
    "shape",
    "x0",
    "y0",
    "x1",
    "y1",
    "radius0",
    "radius1",
    "orbit",
    "phase",
    "turns",
    "motion_start",
    "motion_end",
    "appear",
    "vanish",
    "blinks",
    "change",
    "r0",
    "g0",
    "b0",
    "r1",
    "g1",
    "b1",
]
NUM_COLUMNS = len(_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Objects at times: tensors `(...)`, the shape of rows and seconds; `rgb` `(..., 3)` 0..255."""

    shape_index: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    visible: Tensor
    rgb: Tensor


def object_row(item: ObjectSpec) -> list[float]:
    """The numbers of one object, in the order that `object_poses` reads."""
    return [
        float(SHAPES.index(item.shape)),
        *item.start_xy,
        *item.end_xy,
        item.start_radius,
        item.end_radius,
        item.orbit_radius,
        item.orbit_phase,
        item.orbit_turns,
        item.motion_start_seconds,
        item.motion_end_seconds,
        item.appear_seconds,
        item.vanish_seconds,
        float(item.motion == "blink"),
        math.inf if item.change_seconds is None else item.change_seconds,
        *item.rgb,
        *(item.rgb if item.changed_rgb is None else item.changed_rgb),
    ]


def object_table(objects: Sequence[ObjectSpec], num_slots: int) -> Tensor:
    """Float64 rows `(num_slots, NUM_COLUMNS)` of a scene's objects; empty slots are zeros."""
    rows = [object_row(item) for item in objects]
    rows += [[0.0] * NUM_COLUMNS] * (num_slots - len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def object_poses(table: Tensor, seconds: Tensor) -> Poses:
    """Poses of rows `(..., NUM_COLUMNS)` at `seconds` `(...)`, float64, broadcast together."""
    column = dict(zip(_COLUMNS, table.unbind(-1), strict=True))
    x, y, radius = _places(column, seconds)
    appear = column["appear"]
    inside = (seconds >= appear) & (seconds < column["vanish"])
    blink_phase = torch.remainder(seconds - appear, BLINK_PERIOD_SECONDS)
    lit = (column["blinks"] == 0) | (blink_phase < BLINK_ON_SECONDS)
    before = torch.stack([column["r0"], column["g0"], column["b0"]], dim=-1)
    after = torch.stack([column["r1"], column["g1"], column["b1"]], dim=-1)
    changed = (seconds >= column["change"]).unsqueeze(-1)
    return Poses(
        shape_index=column["shape"].long().expand_as(inside),
        x=x,
        y=y,
        radius=radius,
        visible=inside & lit,
        rgb=torch.where(changed, after, before),
    )


def object_places(table: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The centres x, y and the radii alone, for the shapes of `object_poses`."""
    return _places(dict(zip(_COLUMNS, table.unbind(-1), strict=True)), seconds)


def _places(column: dict[str, Tensor], seconds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    start, end = column["motion_start"], column["motion_end"]
    progress = ((seconds - start) / (end - start).clamp_min(1e-9)).clamp(0.0, 1.0)
    angle = column["phase"] + 2.0 * math.pi * column["turns"] * progress
    x = torch.lerp(column["x0"], column["x1"], progress) + column["orbit"] * torch.cos(angle)
    y = torch.lerp(column["y0"], column["y1"], progress) + column["orbit"] * torch.sin(angle)
    return x, y, torch.lerp(column["radius0"], column["radius1"], progress)
