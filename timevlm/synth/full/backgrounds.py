"""Backgrounds of level "full" as textures larger than the picture, for a camera to move over.

A texture is one channel that mixes the background's two colours; it covers the world from `LOW` to
`HIGH` on both axes and has a fixed number of texels, so a video has no resolution.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.synth.full.motion import Views
from timevlm.synth.spec import Background

LOW, HIGH = -0.25, 1.25
_TEXELS = 96
_CLOUD_CELLS = 7
_OCTAVE_CELLS = (5, 10, 20, 40)
_NUM_POLYGONS = 7


def mix_textures(backgrounds: Sequence[Background], device: torch.device) -> Tensor:
    """Shares of the second colour in [0, 1], `(n, 1, texels, texels)`."""
    textures = torch.zeros((len(backgrounds), 1, _TEXELS, _TEXELS))
    for index, background in enumerate(backgrounds):
        if background.kind != "flat":
            textures[index, 0] = _TEXTURES[background.kind](background)
    return textures.to(device)


def world_axes(views: Views, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """World columns `(n, W)` and rows `(n, H)` of the pixels that a camera sees."""
    height, width = size
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height - 0.5
    zoom = views.zoom.double()[:, None]
    x = views.x.double()[:, None] + columns / zoom
    y = views.y.double()[:, None] + rows / zoom
    return x.float(), y.float()


def look_at(textures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Textures `(n, C, t, t)` seen at world columns `x` `(n, W)` and rows `y` `(n, H)`.

    Returns `(n, C, H, W)`.
    """
    to_grid = 2.0 / (HIGH - LOW)
    columns = ((x - LOW) * to_grid - 1.0)[:, None, :].expand(-1, y.shape[1], -1)
    rows = ((y - LOW) * to_grid - 1.0)[:, :, None].expand(-1, -1, x.shape[1])
    grid = torch.stack([columns, rows], dim=-1)
    return F.grid_sample(textures, grid, padding_mode="border", align_corners=False)


def _axis() -> Tensor:
    return LOW + (HIGH - LOW) * (torch.arange(_TEXELS) + 0.5) / _TEXELS


def _generator(background: Background) -> torch.Generator:
    # Drawn on the CPU, so that every device paints the same video.
    return torch.Generator().manual_seed(background.noise_seed)


def _gradient(background: Background) -> Tensor:
    x, y = _axis() - 0.5, (_axis() - 0.5)[:, None]
    angle = background.angle
    return 0.5 + (x * math.cos(angle) + y * math.sin(angle)) * math.sqrt(0.5)


def value_noise(cells: int, generator: torch.Generator, texels: int = _TEXELS) -> Tensor:
    """Smooth noise `(texels, texels)`, mostly in [0, 1], with so many random values a side."""
    coarse = torch.rand((1, 1, cells, cells), generator=generator)
    fine = F.interpolate(coarse, size=(texels, texels), mode="bicubic", align_corners=False)
    return fine[0, 0]


def _clouds(background: Background) -> Tensor:
    return value_noise(_CLOUD_CELLS, _generator(background)).clamp(0.0, 1.0)


def _fractal(background: Background) -> Tensor:
    """Octaves of value noise with amplitudes that fall like one over the frequency."""
    generator = _generator(background)
    total = torch.zeros((_TEXELS, _TEXELS))
    for octave, cells in enumerate(_OCTAVE_CELLS):
        total += (value_noise(cells, generator) - 0.5) * 0.66**octave
    return (0.5 + 0.75 * total).clamp(0.0, 1.0)


def _polygons(background: Background) -> Tensor:
    """Triangles with soft edges, each in its own mix of the two colours."""
    generator = _generator(background)
    x, y = _axis(), _axis()[:, None]
    mix = torch.full((_TEXELS, _TEXELS), 0.5)
    numbers = torch.rand((_NUM_POLYGONS, 7), generator=generator).tolist()
    for rank, (centre_x, centre_y, size, turn, shade, squeeze, soft) in enumerate(numbers):
        dx = x - (LOW + (HIGH - LOW) * centre_x)
        dy = y - (LOW + (HIGH - LOW) * centre_y)
        reach = 0.16 + 0.22 * size
        distance = None
        for corner in range(3):
            angle = 2.0 * math.pi * (turn + corner / 3.0) + 0.6 * squeeze * corner
            side = dx * math.cos(angle) + dy * math.sin(angle) - reach
            distance = side if distance is None else torch.maximum(distance, side)
        coverage = torch.sigmoid(-distance / (0.008 + 0.03 * soft))
        # Far mixes in turn: neighbours would melt into one.
        target = 0.35 * shade if rank % 2 else 1.0 - 0.35 * shade
        mix = torch.lerp(mix, torch.tensor(target), coverage)
    return mix


_TEXTURES = {
    "gradient": _gradient,
    "noise": _clouds,
    "fractal": _fractal,
    "polygons": _polygons,
}
