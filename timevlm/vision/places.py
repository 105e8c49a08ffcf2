"""Where merged tokens are: the mean position of the patches that a token stands for.

Merging adds tokens that look alike, so a merged token no longer tells where it was; large towers
hide positions in their features, small ones do not. Motion cannot be seen without it.
"""

import torch
from torch import Tensor, nn


def patch_centres(rows: int, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres `(rows * columns, 2)` of patches in row-major order: x and y from -0.5 to 0.5."""
    y = (torch.arange(rows, device=device) + 0.5) / rows - 0.5
    x = (torch.arange(columns, device=device) + 0.5) / columns - 0.5
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)


class PlaceEmbedding(nn.Linear):
    """Adds to a token what its place and size are: (..., 3) -> (..., dim), without a constant.

    The inputs are the mean x and y of the token's patches (-0.5 to 0.5) and its share of them.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(3, dim, bias=False)
