"""Poses of level "full": where objects are in the world, and where the camera puts them.

The same formulas as in level "basic", with bounces, spins and counted blinks. `place_at` is their
plain twin for one object and one time, which the sampler uses to keep objects apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from timevlm.synth.full.palette import (
    BLINK_ON_SECONDS,
    BLINK_PERIOD_SECONDS,
    COLOURS,
    FLICKER_PERIOD_SECONDS,
    PATTERNS,
)
from timevlm.synth.full.spec import CameraMove, FullObject, FullScene, LightChange
from timevlm.synth.palette import SHAPES

_COLOUR_INDEX = {name: index for index, name in enumerate(COLOURS)}
_COLUMNS = (
    *("shape", "pattern", "x0", "y0", "x1", "y1", "radius0", "radius1"),
    *("orbit", "phase", "turns", "spin", "height", "bounces", "blinks"),
    *("motion_start", "motion_end", "appear", "vanish", "change"),
    *("r0", "g0", "b0", "r1", "g1", "b1", "colour0", "colour1"),
)
# Two rates without a common period, fast enough that no frame rate follows them.
_SHAKE_RATES = (2.3, 3.1)  # turns a second
_TAU = 2.0 * math.pi


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Objects at times: tensors `(...)`; `rgb` `(..., 3)` in 0..255; `angle` in radians.

    `colour_index` counts in `COLOURS`, `pattern_index` in `PATTERNS`.
    """

    shape_index: Tensor
    pattern_index: Tensor
    colour_index: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    visible: Tensor
    rgb: Tensor

    def select(self, rows: Tensor | slice) -> "Poses":
        """The poses of some rows of the first dimension."""
        return Poses(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def object_table(objects: Sequence[FullObject], num_slots: int) -> Tensor:
    """Float64 rows `(num_slots, columns)` of a scene's objects; empty slots are zeros."""
    rows = [_object_row(item) for item in objects]
    rows += [[0.0] * len(_COLUMNS)] * (num_slots - len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def object_poses(table: Tensor, seconds: Tensor) -> Poses:
    """Poses in the world of rows `(..., columns)` at `seconds` `(...)`, float64, broadcast."""
    column = dict(zip(_COLUMNS, table.unbind(-1), strict=True))
    start, end = column["motion_start"], column["motion_end"]
    progress = ((seconds - start) / (end - start).clamp_min(1e-9)).clamp(0.0, 1.0)
    angle = column["phase"] + _TAU * column["turns"] * progress
    hop = column["height"] * torch.sin(math.pi * column["bounces"] * progress).abs()
    x = torch.lerp(column["x0"], column["x1"], progress) + column["orbit"] * torch.cos(angle)
    y = torch.lerp(column["y0"], column["y1"], progress) + column["orbit"] * torch.sin(angle) - hop
    inside = (seconds >= column["appear"]) & (seconds < column["vanish"])
    in_motion = (seconds >= start) & (seconds < end)
    phase = torch.remainder(seconds - start, BLINK_PERIOD_SECONDS)
    out = (column["blinks"] > 0) & in_motion & (phase >= BLINK_ON_SECONDS)
    changed = seconds >= column["change"]
    before = torch.stack([column["r0"], column["g0"], column["b0"]], dim=-1)
    after = torch.stack([column["r1"], column["g1"], column["b1"]], dim=-1)
    return Poses(
        shape_index=column["shape"].long().expand_as(inside),
        pattern_index=column["pattern"].long().expand_as(inside),
        colour_index=torch.where(changed, column["colour1"], column["colour0"]).long(),
        x=x,
        y=y,
        radius=torch.lerp(column["radius0"], column["radius1"], progress),
        angle=_TAU * column["spin"] * progress,
        visible=inside & ~out,
        rgb=torch.where(changed.unsqueeze(-1), after, before),
    )


def place_at(item: FullObject, seconds: float) -> tuple[float, float, float]:
    """Centre x, y and radius of one object in the world at a time: `object_poses` in plain words.

    The camera is left out.
    """
    start, end = item.motion_start_seconds, item.motion_end_seconds
    progress = min(1.0, max(0.0, (seconds - start) / max(end - start, 1e-9)))
    angle = item.orbit_phase + _TAU * item.orbit_turns * progress
    hop = item.bounce_height * abs(math.sin(math.pi * item.num_bounces * progress))
    x = item.start_xy[0] + progress * (item.end_xy[0] - item.start_xy[0])
    y = item.start_xy[1] + progress * (item.end_xy[1] - item.start_xy[1])
    radius = item.start_radius + progress * (item.end_radius - item.start_radius)
    return (
        x + item.orbit_radius * math.cos(angle),
        y + item.orbit_radius * math.sin(angle) - hop,
        (radius),
    )


@dataclass(frozen=True, kw_only=True)
class Views:
    """Cameras at times: the world point in the middle of the picture and the zoom, `(N,)` each."""

    x: Tensor
    y: Tensor
    zoom: Tensor

    def select(self, rows: Tensor) -> "Views":
        """The cameras of some frames."""
        return Views(x=self.x[rows], y=self.y[rows], zoom=self.zoom[rows])

    def apply(self, poses: Poses) -> Poses:
        """Poses `(N, slots)` of the world as they lie on the picture."""
        x, y, zoom = self.x[:, None], self.y[:, None], self.zoom[:, None]
        moved = {
            "x": (poses.x - x) * zoom + 0.5,
            "y": (poses.y - y) * zoom + 0.5,
            "radius": poses.radius * zoom,
        }
        return Poses(**{f.name: moved.get(f.name, getattr(poses, f.name)) for f in fields(poses)})


def camera_views(scenes: Sequence[FullScene], scene_index: Tensor, seconds: Tensor) -> Views:
    """Views `(N,)` of the scenes' cameras at `seconds` `(N,)`, float64."""
    rows = torch.tensor([_camera_row(s.camera) for s in scenes], dtype=torch.float64)
    start, end, dx, dy, zoom0, zoom1, shake = rows[scene_index].unbind(-1)
    progress = ((seconds - start) / (end - start)).clamp(0.0, 1.0)
    shaking = shake * ((seconds >= start) & (seconds < end))
    wobble_x = shaking * torch.sin(_TAU * _SHAKE_RATES[0] * (seconds - start))
    wobble_y = shaking * torch.sin(_TAU * _SHAKE_RATES[1] * (seconds - start))
    return Views(
        x=0.5 + dx * (progress - 0.5) + wobble_x,
        y=0.5 + dy * (progress - 0.5) + wobble_y,
        zoom=torch.lerp(zoom0, zoom1, progress),
    )


def light_gains(scenes: Sequence[FullScene], scene_index: Tensor, seconds: Tensor) -> Tensor:
    """Factors `(N,)` of the light: the scene's brightness times its light change, float64."""
    rows = torch.tensor([_light_row(s.light) for s in scenes], dtype=torch.float64)
    start, end, gain0, gain1, flickers = rows[scene_index].unbind(-1)
    progress = ((seconds - start) / (end - start)).clamp(0.0, 1.0)
    phase = torch.remainder(seconds - start, FLICKER_PERIOD_SECONDS)
    dim = (seconds >= start) & (seconds < end) & (phase >= FLICKER_PERIOD_SECONDS / 2)
    gain = torch.where(
        flickers > 0, torch.where(dim, gain1, gain0), torch.lerp(gain0, gain1, progress)
    )
    brightness = torch.tensor([s.brightness for s in scenes], dtype=torch.float64)
    return gain * brightness[scene_index]


def screen_poses(scenes: Sequence[FullScene], scene_index: Tensor, seconds: Tensor) -> Poses:
    """Poses `(N, slots)` on the picture of the scenes' objects: what a label of a patch needs."""
    num_slots = max([1, *(len(scene.objects) for scene in scenes)])  # footage has no objects
    table = torch.stack([object_table(scene.objects, num_slots) for scene in scenes])
    poses = object_poses(table[scene_index], seconds[:, None])
    return camera_views(scenes, scene_index, seconds).apply(poses)


def _object_row(item: FullObject) -> list[float]:
    changed = item.changed_colour or item.colour
    return [
        float(SHAPES.index(item.shape)),
        float(PATTERNS.index(item.pattern)),
        *item.start_xy,
        *item.end_xy,
        item.start_radius,
        item.end_radius,
        item.orbit_radius,
        item.orbit_phase,
        item.orbit_turns,
        item.spin_turns,
        item.bounce_height,
        float(item.num_bounces),
        float(item.num_blinks),
        item.motion_start_seconds,
        item.motion_end_seconds,
        item.appear_seconds,
        item.vanish_seconds,
        math.inf if item.change_seconds is None else item.change_seconds,
        *item.rgb,
        *(item.rgb if item.changed_rgb is None else item.changed_rgb),
        float(_COLOUR_INDEX[item.colour]),
        float(_COLOUR_INDEX[changed]),
    ]


def _camera_row(move: CameraMove | None) -> list[float]:
    """start, end, way of the centre in x and y, zoom before and after, width of the shake."""
    if move is None:
        return [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    times, amount = [move.start_seconds, move.end_seconds], move.amount
    return (
        times
        + {
            "pan left": [-amount, 0.0, 1.0, 1.0, 0.0],
            "pan right": [amount, 0.0, 1.0, 1.0, 0.0],
            "tilt up": [0.0, -amount, 1.0, 1.0, 0.0],
            "tilt down": [0.0, amount, 1.0, 1.0, 0.0],
            "zoom in": [0.0, 0.0, 1.0, amount, 0.0],
            "zoom out": [0.0, 0.0, amount, 1.0, 0.0],
            "shake": [0.0, 0.0, 1.0, 1.0, amount],
        }[move.kind]
    )


def _light_row(change: LightChange | None) -> list[float]:
    if change is None:
        return [0.0, 1.0, 1.0, 1.0, 0.0]
    flickers = float(change.kind == "flicker")
    return [
        change.start_seconds,
        change.end_seconds,
        change.start_gain,
        change.end_gain,
        flickers,
    ]
