"""Painting of many objects at once, each in a window of pixels around it."""

import math

import torch
from torch import Tensor

from timevlm.synth.full.motion import Poses
from timevlm.synth.full.palette import PATTERN_RGB, PATTERNS
from timevlm.synth.palette import SHAPES
from timevlm.synth.shapes import SIGNED_DISTANCE

# How far a shape reaches from its centre, in radii (the tips of a star at 1.16).
_REACH = 1.2
# Windows come in these sizes (shares of the shorter side), so that one large object among many
# small ones does not make all windows large.
_RADII = (0.13, 0.22, math.inf)


def paint_objects(frames: Tensor, poses: Poses) -> None:
    """Paint poses `(n, slots)` (on the CPU) over float frames `(n, 3, H, W)`, in place.

    Later slots lie over earlier ones.
    """
    smallest = 0.0
    radius = poses.radius / 1.0
    buckets = []
    for largest in _RADII:
        inside = poses.visible & (radius > smallest) & (radius <= largest)
        buckets.append(inside)
        smallest = largest
    for slot in range(poses.visible.shape[1]):
        for inside in buckets:
            rows = inside[:, slot].nonzero().squeeze(1)
            if len(rows):
                _paint_slot(frames, rows, _one_slot(poses, rows, slot))


def _one_slot(poses: Poses, rows: Tensor, slot: int) -> Poses:
    return Poses(**{name: value[rows, slot] for name, value in vars(poses).items()})


def _paint_slot(frames: Tensor, rows: Tensor, poses: Poses) -> None:
    """Paint one object into each of some rows; all their windows have one size."""
    device = frames.device
    height, width = frames.shape[-2:]
    short = min(height, width)
    radius = poses.radius * short
    side = math.ceil(2 * _REACH * float(radius.max())) + 3
    window = (min(side, height), min(side, width))
    x, y = poses.x * width, poses.y * height
    left = (x - window[1] / 2).floor().clamp(0, width - window[1])
    top = (y - window[0] / 2).floor().clamp(0, height - window[0])
    columns = (left.long()[:, None] + torch.arange(window[1])).to(device)
    lines = (top.long()[:, None] + torch.arange(window[0])).to(device)
    # Float32 on the device, from differences taken in float64.
    scale = radius.float().to(device).view(-1, 1, 1)
    across = (columns.double() + 0.5 - x.to(device)[:, None]).float()[:, None, :] / scale
    down = (lines.double() + 0.5 - y.to(device)[:, None]).float()[:, :, None] / scale
    coverage, dark = _cover(poses, across, down, scale)
    index = (rows.to(device)[:, None, None], slice(None), lines[:, :, None], columns[:, None, :])
    under = frames[index]  # (n, h, w, 3)
    colour = poses.rgb.float().to(device)[:, None, None, :]
    if dark is not None:
        pattern = torch.tensor(PATTERN_RGB, device=device)
        colour = torch.lerp(colour, pattern, dark.unsqueeze(-1))
    frames[index] = torch.lerp(under, colour, coverage.unsqueeze(-1))


def _cover(
    poses: Poses, across: Tensor, down: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor | None]:
    """How far each pixel is covered and (None: nowhere) darkened by a pattern, `(n, h, w)`.

    `across` `(n, 1, w)` and `down` `(n, h, 1)` are in radii from the centre, `radius` in pixels.
    """
    device = across.device
    coverage = torch.empty((len(across), down.shape[1], across.shape[2]), device=device)
    patterned = bool((poses.pattern_index > 0).any())
    dark = torch.zeros_like(coverage) if patterned else None
    turned = poses.angle != 0.0
    kinds = poses.shape_index * 2 + turned
    for kind in torch.unique(kinds).tolist():
        chosen = (kinds == kind).nonzero().squeeze(1)
        part = chosen.to(device)
        x, y, size = across[part], down[part], radius[part]
        if kind % 2:
            angle = poses.angle[chosen].float().to(device).view(-1, 1, 1)
            cos, sin = torch.cos(angle), torch.sin(angle)
            x, y = x * cos + y * sin, y * cos - x * sin
        distance = SIGNED_DISTANCE[SHAPES[kind // 2]](x, y)
        coverage[part] = (distance * -size).add_(0.5).clamp_(0.0, 1.0)
        if dark is None:
            continue
        for number, name in enumerate(PATTERNS[1:], start=1):
            here = (poses.pattern_index[chosen] == number).nonzero().squeeze(1).to(device)
            if len(here):
                dark[part[here]] = _PATTERN_DARKNESS[name](x[here], y[here], size[here])
    return coverage, dark


def _soft(distance: Tensor) -> Tensor:
    """Coverage from a distance in pixels, positive inside."""
    return (distance + 0.5).clamp(0.0, 1.0)


def _wave(x: Tensor, period: float) -> Tensor:
    """Distance from the middle of each period, from 0 to half a period."""
    return (torch.remainder(x, period) - period / 2).abs()


def _stripes(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    period = 0.6
    return _soft((0.21 * period - _wave((x + y) * math.sqrt(0.5), period)) * radius)


def _dots(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    period = 0.56
    away_x, away_y = _wave(x, period), _wave(y, period)
    return _soft((0.30 * period - torch.sqrt(away_x * away_x + away_y * away_y)) * radius)


def _checks(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    period = 0.88
    sign_x = ((_wave(x, period) - period / 4) * radius).clamp(-0.5, 0.5)
    sign_y = ((_wave(y, period) - period / 4) * radius).clamp(-0.5, 0.5)
    return 0.5 + 2.0 * sign_x * sign_y


_PATTERN_DARKNESS = {"striped": _stripes, "dotted": _dots, "checked": _checks}
