"""Token merging (ToMe, arXiv 2210.09461, section 3; TimeViper, section 3.2) as pure functions.

Each round splits the tokens into those at even and at odd positions, pairs every even token with
the odd token most like it, and merges the best pairs; rounds repeat until `keep` tokens are left.
A merged token is the mean of all the original tokens in it, so it carries how many those are.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.errors import ModelError


def similarity_metric(x: Tensor, heads: int) -> Tensor:
    """Mean over `heads` equal slices of the channels: (B, T, C) -> (B, T, C / heads), float32.

    Raises `ModelError` when `heads` does not divide C.
    """
    batch, tokens, channels = x.shape
    if heads < 1 or channels % heads:
        raise ModelError(
            f"{heads} head slices do not divide {channels} channels; choose a divisor as tome_heads"
        )
    return x.float().reshape(batch, tokens, heads, channels // heads).mean(dim=2)


def bipartite_soft_matching(
    metric: Tensor, r: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Match even tokens to odd ones by cosine similarity of `metric (B, T, C)`; merge r pairs.

    Returns `(merge, unmerge)`. `merge` sums what is matched, (B, T, D) -> (B, T - r, D): first the
    even tokens that stay, the most similar first, then the odd ones in their order. `unmerge` puts
    every merged token back at all the places it came from, (B, T - r, D) -> (B, T, D).
    Raises `ModelError` when r is negative or more than half of the tokens.
    """
    num_tokens = metric.shape[1]
    if not 0 <= r <= num_tokens // 2:
        raise ModelError(
            f"cannot merge {r} of {num_tokens} tokens in one round; "
            f"the most is {num_tokens // 2}, so merge in several rounds"
        )
    with torch.no_grad():
        unit = F.normalize(metric, dim=-1)  # a zero vector stays zero: it is like nothing
        scores = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
        if r:
            best_score, best_odd = scores.max(dim=-1)
        else:  # a single token has no odd partner to look at
            best_score = best_odd = torch.zeros_like(metric[:, ::2, 0], dtype=torch.long)
        order = best_score.argsort(dim=-1, descending=True, stable=True)
        merged_even, kept_even = order[:, :r], order[:, r:]
        target = best_odd.gather(1, merged_even)

    def merge(x: Tensor) -> Tensor:
        even, odd = x[:, ::2], x[:, 1::2]
        odd = odd.scatter_add(1, _over(target, x), even.gather(1, _over(merged_even, x)))
        return torch.cat([even.gather(1, _over(kept_even, x)), odd], dim=1)

    def unmerge(x: Tensor) -> Tensor:
        num_kept = kept_even.shape[1]
        kept, odd = x[:, :num_kept], x[:, num_kept:]
        out = x.new_zeros(x.shape[0], num_tokens, x.shape[2])
        out[:, 1::2] = odd
        out = out.scatter(1, _over(2 * kept_even, x), kept)
        return out.scatter(1, _over(2 * merged_even, x), odd.gather(1, _over(target, x)))

    return merge, unmerge


def _over(index: Tensor, x: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, x.shape[2])


def merge_weighted(
    merge: Callable[[Tensor], Tensor], x: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean of the matched tokens weighted by `sizes (B, T)`, and the new sizes."""
    weights = sizes[..., None].to(x.dtype)
    total = merge(weights)
    return merge(x * weights) / total, total[..., 0]


def merge_rounds(num_tokens: int, keep: int) -> list[int]:
    """How many tokens each round removes to come from `num_tokens` to `keep`: at most half."""
    rounds = []
    while num_tokens > keep:
        rounds.append(min(num_tokens - keep, num_tokens // 2))
        num_tokens -= rounds[-1]
    return rounds


def merge_tokens(x: Tensor, keep: int, heads: int) -> tuple[Tensor, Tensor]:
    """Merge the tokens of every row of `x (B, T, C)` down to `keep`.

    Returns `(merged (B, keep, C), sizes (B, keep))`; the sizes of a row sum to T, and
    `(merged * sizes).sum(1)` is the sum of the row. `heads` is the number of channel slices that
    the similarity averages over. With `keep >= T` the tokens come back as they are.
    Raises `ModelError` when `keep` is not positive or `heads` does not divide C.
    """
    merged, sizes, _ = merge_with_companion(x, None, keep, heads)
    return merged, sizes


def merge_with_companion(
    x: Tensor, companion: Tensor | None, keep: int, heads: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `merge_tokens`, with a `companion (B, T, K)` that is averaged along, such as labels.

    Returns `(merged (B, keep, C), sizes (B, keep), companion (B, keep, K))`; the companion has no
    say in what is merged.
    """
    if keep < 1:
        raise ModelError(f"cannot keep {keep} tokens of a frame; keep at least 1")
    sizes = x.new_ones(x.shape[:2], dtype=torch.float32)
    dtype = x.dtype
    rounds = merge_rounds(x.shape[1], keep)
    if rounds:
        x = x.float()  # sums of many tokens, and sizes above 256, are not exact in half precision
    for r in rounds:
        merge, _ = bipartite_soft_matching(similarity_metric(x, heads), r)
        if companion is not None:
            companion, _ = merge_weighted(merge, companion, sizes)
        x, sizes = merge_weighted(merge, x, sizes)
    return x.to(dtype), sizes, companion
