"""Which vision tokens go on, and what becomes of the others (TimeViper, section 3.3).

Pure functions on right-padded rows. `uniform` keeps tokens evenly spaced in time and does not
look at the question; `attention` keeps those that the last prompt token attends to most.
"""

import torch
from torch import Tensor

from timevlm.llm.config import TransV


def uniform_positions(total: int, num_kept: int, device: torch.device | None = None) -> Tensor:
    """Positions of `num_kept` evenly spaced tokens among `total`, first and last included."""
    return torch.linspace(0, total - 1, num_kept, dtype=torch.long, device=device)


def uniform_mask(
    totals: Tensor, kept: Tensor, seen: Tensor, num_tokens: int, lengths: Tensor | None
) -> Tensor:
    """Mask (B, num_tokens) of the tokens of one chunk that uniform dropping keeps.

    Row i has `totals[i]` tokens in all, of which `kept[i]` go on; `seen[i]` came before this
    chunk. The answer for a token depends on its place in the whole video alone, so any chunking
    keeps the same ones.
    """
    mask = torch.zeros(totals.shape[0], num_tokens, dtype=torch.bool, device=totals.device)
    arriving = [num_tokens] * totals.shape[0] if lengths is None else lengths.tolist()
    rows = zip(totals.tolist(), kept.tolist(), seen.tolist(), arriving, strict=True)
    for i, (total, num_kept, start, count) in enumerate(rows):
        if num_kept >= total:
            mask[i, :count] = True
            continue
        positions = uniform_positions(total, num_kept, totals.device) - start
        mask[i, positions[(positions >= 0) & (positions < count)]] = True
    return mask


def top_mask(scores: Tensor, kept: Tensor, valid: Tensor | None) -> Tensor:
    """Mask (B, T) of the `kept[i]` highest `scores (B, T)` of each row, among the valid ones."""
    if valid is not None:
        scores = scores.masked_fill(~valid, -torch.inf)
    most = int(kept.max())
    order = scores.topk(most, dim=1).indices
    chosen = torch.arange(most, device=scores.device) < kept[:, None]
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, chosen)
    return mask if valid is None else mask & valid


def kept_counts(compression: TransV, original: Tensor, current: Tensor) -> Tensor:
    """`TransV.num_kept` for every row: (B,) counts from (B,) counts."""
    pairs = zip(original.tolist(), current.tolist(), strict=True)
    counts = [compression.num_kept(before, now) for before, now in pairs]
    return torch.tensor(counts, dtype=torch.long, device=original.device)


def arriving_counts(transv: tuple[TransV, ...], original: Tensor) -> list[Tensor]:
    """(B,) vision tokens that reach each compression, in order."""
    counts, current = [], original
    for compression in transv:
        counts.append(current)
        current = kept_counts(compression, original, current)
    return counts
