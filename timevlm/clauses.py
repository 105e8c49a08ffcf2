"""Answers that order what happens: of the clauses that a question lists, which came first.

A word that names a thing is read before what happens to that thing is, so where it looks tells when
the thing was seen (`pointer.py`) and not when it stopped or turned blue. The last word of a clause
has read all of it. So each clause of a question gets the time at which that word looks, and the
words that stand in it are raised by how late that is, times a weight that the model reads from
where the answer stands.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.pointer import NEAR, counted


class ClausePointer(nn.Module):
    """Raises the words of the clauses of a question by when what they tell happens.

    `separator_ids` are the token ids of the marks that end clauses; there are `vocab_size` words.
    """

    def __init__(self, separator_ids: Sequence[int], vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.separator_ids, self.vocab_size = list(separator_ids), vocab_size
        self.weight = nn.Parameter(torch.zeros(hidden_size))

    def lateness(self, ids: Tensor, asks: Tensor, when: Tensor) -> Tensor:
        """How much later the clauses of each word are seen than all clauses on average: (B, V).

        asks (B, L) tells which of the ids (B, L) ask, when (B, L) when each of them looks
        (`when_seen`). A word of several clauses has their mean, one of no clause 0. What no mark
        ends is no clause.
        """
        ends = torch.isin(ids, ids.new_tensor(self.separator_ids)) & asks
        number = ends.cumsum(dim=1) - ends.long()  # of each token's clause
        inside = asks & ~ends & (number < ends.sum(dim=1, keepdim=True))
        last = inside & F.pad(ends[:, 1:], (0, 1))
        num_clauses = max(1, int(ends.sum(dim=1).max()))
        number = number.clamp(max=num_clauses - 1)
        empty = when.new_zeros(len(ids), num_clauses)
        late = empty.scatter_add(1, number, when * last)
        there = empty.scatter_add(1, number, last.to(when.dtype))
        mean = late.sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1)
        late = (late - mean) * there
        words = when.new_zeros(len(ids), num_clauses * self.vocab_size)
        index = number * self.vocab_size + ids
        words = words.scatter_reduce(1, index, inside.to(words.dtype), "amax")
        words = words.unflatten(1, (num_clauses, self.vocab_size))
        return (late[..., None] * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)

    def forward(self, logits: Tensor, hidden: Tensor, lateness: Tensor) -> Tensor:
        """Next-token logits (B, L, V) of hidden states (B, L, D), with words raised."""
        counts = counted(hidden, self.weight)
        return logits + counts[..., None] * F.softsign(lateness / NEAR)[:, None]
