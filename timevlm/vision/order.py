"""In which order a frame's tokens stand: the most distinct ones where even dropping leaves them.

Merging leaves its tokens in an order of its own, and dropping that is even in time takes every
second of them: in frames of one layout always the same places. What stood in those, for all of a
scene, was gone. So tokens are ranked by how little they resemble their frame, and the ranks are
interlaced like the lines of an interlaced picture: every even half, quarter or eighth of the places
holds the highest ranks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def interlaced_order(tokens: Tensor, sizes: Tensor) -> Tensor:
    """Which token stands at which place: indices (N, K) for tokens (N, K, C) of `sizes (N, K)`.

    Distinct is what has a small cosine with the mean of the frame's patches, of which `sizes`
    counts each token's share.
    """
    with torch.no_grad():
        x = tokens.float()
        mean = (x * sizes[..., None]).sum(dim=1, keepdim=True)
        likeness = F.cosine_similarity(x, mean, dim=-1)
        ranked = likeness.argsort(dim=1, stable=True)
        return ranked[:, interlaced_ranks(tokens.shape[1], tokens.device)]


def interlaced_ranks(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Which rank stands at each of `count` places (count,): 0 4 2 6 1 5 3 7 for eight.

    Places are filled in the order of their numbers with the bits turned around.
    """
    place = torch.arange(count, device=device)
    num_bits = (count - 1).bit_length()
    turned = torch.zeros_like(place)
    for bit in range(num_bits):
        turned |= (place >> bit & 1) << (num_bits - 1 - bit)
    return turned.argsort().argsort()


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Rows of `x (N, K, ...)` at the indices `order (N, K)`."""
    shape = order.shape + (1,) * (x.dim() - 2)
    return x.gather(1, order.reshape(shape).expand(-1, -1, *x.shape[2:]))
