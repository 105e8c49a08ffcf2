"""What the picture as a whole does: its light, its colours, and how it moves from frame to frame.

Tokens are of patches, and what a camera, a light or a transition does is in no patch: it is the
same little change in all of them. Video codecs and cut detectors read it from few numbers of small
pictures, so tokens are told these. On frames of the world, five of them in a row told the kind of a
transition for 85 % of its frames and that of a camera move for 62 %, in place of 39 and 9 % by the
frame's median change alone (`docs/experiments.md`). Zooms are slow and shakes are small: moves are
searched far and coarsely, and near and finely. Whether anything moves at all is in the block that
changed most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.vision.changes import values_before
from timevlm.vision.moves import least_unlike, sureness

# Every value is scaled to be about 1 where something happens.
_MOVE_VALUES = (
    *("right", "down", "zoom", "unlikeness moved", "unlikeness at rest"),
    *("distance", "larger or smaller"),
)
PICTURE_VALUES = (
    *("brightness", "redness", "blueness", "contrast"),
    *("brightness change", "contrast change", "mean difference", "histogram change"),
    *("light change", "light change of the least tenth", "light change of the most tenth"),
    "largest change",
    *_MOVE_VALUES,
    *(f"finely {name}" for name in _MOVE_VALUES),
)
_SCALES = (
    *(2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 5.0, 5.0, 5.0, 0.5),
    *(10.0, 10.0, 10.0, 2.0, 2.0, 10.0, 10.0),
    *(40.0, 40.0, 40.0, 2.0, 2.0, 40.0, 20.0),
)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SIDE = 48  # pixels of the small pictures that everything is read from
_LEVELS = 4  # of a colour channel, in a histogram
_DARK = 0.05  # added to luma before ratios: what is nearly black says little about the light
_MOST_LIGHT = 0.7  # of the logarithm: half of the light or twice as much
_LIGHT_SHARES = (0.5, 0.1, 0.9)  # of the pixels that changed least
_BLOCKS = 12  # a side, of which the one that changed most is told,
_RESTING = 0.003  # where noise alone is about this much
_CHANGED = 0.03  # and what moves this much
_SOFT = 0.03  # differences of luma from which on pixels count as unlike, as far as noise goes


@dataclass(frozen=True, kw_only=True)
class MoveSearch:
    """Which moves of a picture are tried, on pictures of `side` pixels.

    `reach` pixels each way, each with all `zooms`, which rise around 1.
    """

    side: int
    reach: int
    zooms: tuple[float, ...]

    @property
    def at_rest(self) -> int:
        """Which zoom is none."""
        return self.zooms.index(1.0)


# Pans go a sixth of the frame in a second, zooms a few hundredths.
FAR = MoveSearch(side=24, reach=4, zooms=(0.9, 1.0, 1.1))
NEAR = MoveSearch(side=48, reach=2, zooms=(0.95, 1.0, 1.05))


class PictureEmbedding(nn.Linear):
    """Adds to all tokens of a frame what its picture does: (..., 26) -> (..., dim), no constant."""

    def __init__(self, dim: int) -> None:
        super().__init__(len(PICTURE_VALUES), dim, bias=False)


def picture_values(
    pixels: Tensor,
    frame_counts: Sequence[int] | Tensor | None = None,
    previous: Tensor | None = None,
) -> Tensor:
    """`PICTURE_VALUES` of frames uint8 (N, 3, H, W), float32 (N, 26).

    `frame_counts` and `previous` as `patch_shifts` takes them. The first frame of a video is
    compared with itself: it has changed nothing.
    """
    looks = _looks(pixels)
    earlier = [None] * len(looks)
    if previous is not None:
        earlier = [look[0] for look in _looks(previous[None].to(pixels.device))]
    luma, means, contrast, histogram, blocks = looks
    luma_before, means_before, contrast_before, histogram_before, blocks_before = (
        values_before(look, frame_counts, one) for look, one in zip(looks, earlier, strict=True)
    )
    brightness, red, blue = means.unbind(dim=1)
    values = [
        *(brightness - 0.5, red - brightness, blue - brightness, contrast),
        brightness - means_before[:, 0],
        contrast - contrast_before,
        (luma - luma_before).abs().mean(dim=(1, 2)),
        (histogram - histogram_before).abs().sum(dim=1) / 2,
        *light_changes(luma_before, luma).unbind(dim=1),
        largest_change(blocks_before, blocks),
        *picture_motion(luma_before, luma, FAR).unbind(dim=1),
        *picture_motion(luma_before, luma, NEAR).unbind(dim=1),
    ]
    return torch.stack(values, dim=1) * torch.tensor(_SCALES, device=pixels.device)


def _looks(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What frames (N, 3, H, W), 0..255, look like each by itself, read from small pictures.

    Luma (N, _SIDE, _SIDE); means of luma, red and blue (N, 3); contrast (N,); histogram (N, 64);
    colours of blocks (N, 3, _BLOCKS, _BLOCKS).
    """
    frames = F.adaptive_avg_pool2d(pixels.float(), _SIDE) / 255
    weights = torch.tensor(_LUMA, device=frames.device)
    luma = (frames * weights[:, None, None]).sum(dim=1)
    means = torch.stack([luma, frames[:, 0], frames[:, 2]], dim=1).mean(dim=(2, 3))
    blocks = F.adaptive_avg_pool2d(frames, _BLOCKS)
    return luma, means, luma.std(dim=(1, 2)), colour_histogram(frames), blocks


def light_changes(before: Tensor, after: Tensor) -> Tensor:
    """How much more light there is, as logarithms: luma (N, H, W) of both, 0..1 -> (N, 3).

    Light changes all pixels by one factor, and what moves only its own: the median tells them
    apart. Then what a tenth of the pixels are below, and above.
    """
    ratios = ((after + _DARK) / (before + _DARK)).flatten(1)
    shares = torch.tensor(_LIGHT_SHARES, device=ratios.device)
    changes = ratios.quantile(shares, dim=1, interpolation="lower").T
    return changes.log().clamp(-_MOST_LIGHT, _MOST_LIGHT)


def largest_change(before: Tensor, after: Tensor) -> Tensor:
    """How much the block that changed most has changed, as a logarithm: (N, 3, B, B) -> (N,).

    0 is a change of _CHANGED; where nothing moves, noise is left.
    """
    changes = (after - before).abs().mean(dim=1).flatten(1).amax(dim=1)
    return ((changes + _RESTING) / _CHANGED).log()


def colour_histogram(frames: Tensor) -> Tensor:
    """Share of the pixels of each coarse colour: (N, 3, H, W), 0..1 -> (N, 64)."""
    level = (frames * _LEVELS).long().clamp(max=_LEVELS - 1)
    code = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
    code = code.flatten(1)
    counts = frames.new_zeros(len(frames), _LEVELS**3)
    counts.scatter_add_(1, code, torch.ones_like(code, dtype=counts.dtype))
    return counts / code.shape[1]


def picture_motion(before: Tensor, after: Tensor, search: MoveSearch) -> Tensor:
    """How the picture moved, found by trying: luma (N, H, W) of both, 0..1 -> (N, 7).

    How far to the right and down (shares of the frame) and by how much larger it has become; how
    unlike the pictures still are if moved so, and if not at all (0..1); how far in any direction;
    how much more unlike it is to the first as small as is tried than as large. A move counts as far
    as it is sure (`sureness`).
    """
    costs = move_costs(_searched(before, search), _searched(after, search), search)
    of_zoom = costs.flatten(2).amin(dim=2)
    zoom = of_zoom.argmin(dim=1)
    right, down, best = least_unlike(costs[torch.arange(len(costs), device=costs.device), zoom])
    at_rest = costs[:, search.at_rest, search.reach, search.reach]
    sure = sureness(best, at_rest)
    right, down = right / search.side * sure, down / search.side * sure
    larger = (torch.tensor(search.zooms, device=costs.device)[zoom] - 1.0) * sure
    distance, slope = torch.hypot(right, down), of_zoom[:, 0] - of_zoom[:, -1]
    return torch.stack([right, down, larger, best, at_rest, distance, slope], dim=1)


def move_costs(before: Tensor, after: Tensor, search: MoveSearch) -> Tensor:
    """Unlikeness of two pictures (N, S, S) for every zoom and move of the first: (N, Z, M, M).

    Moves are in pixels, from `reach` up and left to as many down and right. A pixel counts by
    d / (d + _SOFT) of its difference d, so that objects with a way of their own weigh little.
    """
    side, reach = search.side, search.reach
    inner = after[:, reach : side - reach, reach : side - reach]
    every = []
    for zoom in search.zooms:
        grow = _zoom_matrix(zoom, side, before.device)
        windows = (grow @ before @ grow.T).unfold(1, inner.shape[1], 1).unfold(2, inner.shape[2], 1)
        # d / (d + s) as 1 - s / (d + s), in place: it is tried for hundreds of moves a frame.
        alike = (windows - inner[:, None, None]).abs_().add_(_SOFT).reciprocal_()
        every.append(1.0 - _SOFT * alike.mean(dim=(-2, -1)))
    # What stood a pixel further left has moved to the right.
    return torch.stack(every, dim=1).flip(2, 3)


def _searched(luma: Tensor, search: MoveSearch) -> Tensor:
    """Small pictures of mean 0: what gets brighter as a whole has not moved."""
    small = F.adaptive_avg_pool2d(luma[:, None], search.side)[:, 0]
    return small - small.mean(dim=(1, 2), keepdim=True)


def _zoom_matrix(zoom: float, side: int, device: torch.device) -> Tensor:
    """Linear interpolation that makes a row of pixels larger around its middle: (side, side)."""
    middle = (side - 1) / 2
    pixel = torch.arange(side, device=device)
    source = (middle + (pixel - middle) / zoom).clamp(0, side - 1)
    return (1.0 - (source[:, None] - pixel).abs()).clamp(min=0.0)
