"""Answers that compare: what is bigger, faster or longer in view, and which side of which it is on.

As with orders (`pointer.py`), each word of the question that names a thing looks at that thing, and
no later layer sees the video: a single answer word cannot look at two things and compare them. So
what the words of the question see is measured and compared here, and the model only says, from
where its answer stands, in which respect and which way round that counts.

Four values are read from what attention hands on of each vision token (`MEASURES`); training asks
the tokens of things for them. How long a thing is in view shows in how many frames the looks at it
are at, and whether it is there at all in how well its word matches what it looks at. How many
seconds something lasts is told in the same way, by the frames that the answer itself looks at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.attention import Looks
from timevlm.llm.state import valid_mask
from timevlm.pointer import (
    counted,
    elapsed_seconds,
    first_and_last,
    more_than_others,
    raise_numbers,
    raise_words,
)

# Read from vision tokens. Places are in shares of the frame, from its top left; the radius, in the
# same, and the speed, in frame sides a second, as natural logarithms.
MEASURES = ("x", "y", "log radius", "log speed")
_AVERAGE = (0.5, 0.5, -1.9, -2.3)
SLOWEST = 0.02  # added to speeds before the logarithm
COMPARED = ("log radius", "log speed", "log seconds", "match")
# Differences that count half: a third of what is clearly more.
_NEAR = (0.08, 0.13, 0.13, 1.0)
_NEAR_PLACE = 0.06
_NEAR_SECONDS = 1.0
_ONE_FRAME_SECONDS = 1.0  # of a video with nothing to compare its only frame with
_SAME_FRAME_SECONDS = 0.05  # times are written in tenths
_LEAST_SHARE = 1e-9


class Comparison(NamedTuple):
    """What the things that a prompt names measure, compared with each other.

    more (B, N, len(COMPARED)): by how much each named word's thing is above the mean of all that
    are asked for; apart (B, 2): how far to the right of and below the last of them the first is.
    """

    more: Tensor
    apart: Tensor


class ComparePointer(nn.Module):
    """Raises words that name things by their measures, and words for sides by places.

    `named_ids` are the token ids of all words that name things, `side_ids` those of left, right,
    above and below; `value_size` numbers are handed on of a vision token.
    """

    def __init__(
        self,
        named_ids: Sequence[int],
        side_ids: Sequence[int],
        value_size: int,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.named_ids, self.side_ids = list(named_ids), list(side_ids)
        # Begins with what things measure on average: from random measures, errors of many times
        # that would push aside all else that is learnt.
        self.read = nn.Linear(value_size, len(MEASURES))
        nn.init.zeros_(self.read.weight)
        self.read.bias.data.copy_(torch.tensor(_AVERAGE))
        self.weight = nn.Parameter(torch.zeros(len(COMPARED), hidden_size))
        self.side_weight = nn.Parameter(torch.zeros(2, hidden_size))

    def compare(self, stands: Tensor, looks: Looks, marks: tuple[Tensor, Tensor]) -> Comparison:
        """What the words of prompts see, compared.

        stands (B, N): where each named word asks (`asked_words`); looks: what L tokens look at
        among K vision tokens; marks: the times (B, K, 4) of these, of which (B,) count.
        """
        shares, matches, values = looks
        measured = shares @ self.read(values.to(self.read.weight.dtype)).to(shares.dtype)
        others = torch.stack([seconds_seen(shares, marks).log(), matches], dim=-1)
        compared = torch.cat([measured[..., 2:], others], dim=-1)
        ends = first_and_last(stands, shares.shape[1])
        places = measured[..., :2].gather(1, ends[..., None].expand(-1, -1, 2))
        apart = (places[:, 0] - places[:, 1]) * (stands > 0).any(dim=1, keepdim=True)
        return Comparison(more_than_others(compared, stands), apart)

    def forward(self, logits: Tensor, hidden: Tensor, compared: Comparison) -> Tensor:
        """Next-token logits (B, L, V) of hidden states (B, L, D), with words raised."""
        more = F.softsign(compared.more.float() / logits.new_tensor(_NEAR))
        by = counted(hidden, self.weight) @ more.transpose(1, 2)
        logits = raise_words(logits, self.named_ids, by)
        apart = F.softsign(compared.apart.float() / _NEAR_PLACE)[:, None]
        right, below = (counted(hidden, self.side_weight) * apart).unbind(-1)
        return raise_words(logits, self.side_ids, torch.stack([-right, right, -below, below], -1))


class LengthPointer(nn.Module):
    """Raises the words for numbers of seconds near to how long what is looked at is seen.

    `number_ids` are the token ids of zero, one, two and so on. Looks are never quite even: what is
    seen in them is a little too short, and `stretch` makes up for it.
    """

    def __init__(self, number_ids: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self.number_ids = list(number_ids)
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.stretch = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, logits: Tensor, hidden: Tensor, looks: Tensor, marks: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Next-token logits (B, L, V) of hidden states (B, L, D), with numbers raised.

        looks (B, L, K) are at vision tokens with the times marks (B, K, 4), of which (B,) count.
        """
        length = self.stretch * seconds_seen(looks, marks)
        counts = counted(hidden, self.weight)
        return raise_numbers(logits, self.number_ids, length, counts, _NEAR_SECONDS)


def seconds_seen(looks: Tensor, marks: tuple[Tensor, Tensor]) -> Tensor:
    """How long what each of looks (B, L, K) is at is seen, in seconds: (B, L).

    marks are the times (B, K, 4) of the K vision tokens, in order, of which (B,) count. That is how
    many frames are looked at times the seconds from one to the next. Their number is the perplexity
    of the looks at frames, as large where these are even: a few stray looks count as a few frames,
    wherever they are, while a deviation from the mean would count how far they have strayed.
    """
    elapsed = elapsed_seconds(*marks).to(looks.dtype)
    gaps = elapsed.diff(dim=1, prepend=elapsed[:, :1])
    begins = (gaps > _SAME_FRAME_SECONDS) & valid_mask(marks[1], elapsed.shape[1])
    frame = begins.long().cumsum(dim=1)[:, None].expand_as(looks)
    shares = torch.zeros_like(looks).scatter_add(2, frame, looks)
    num_frames = (-shares * shares.clamp(min=_LEAST_SHARE).log()).sum(dim=2).exp()
    step = gaps.masked_fill(~begins, torch.inf).amin(dim=1, keepdim=True)
    return num_frames * step.masked_fill(step.isinf(), _ONE_FRAME_SECONDS)
