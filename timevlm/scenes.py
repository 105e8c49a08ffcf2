"""Answers that measure scenes: how long each lasts, and how many lie between two things.

As with what things measure (`comparing.py`), no later layer sees the video. Every vision token that
the deep attention sees tells in which scene it is, by what that attention hands on of it (training
asks for that), and each stands for the time around its own: that gives how long the scenes last.
The scenes in which the words of the question look at things tell how many lie between these. The
model only says, from where its answer stands, which of this counts.
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
    raise_numbers,
    raise_words,
)

# Differences that count half.
_NEAR_LENGTH = 0.2  # natural logarithm of seconds
_NEAR_COUNT = 0.3  # scenes
_CERTAIN = 0.5  # probability from which on a token shows that there is such a scene
_LEAST_SECONDS = 0.1


class Scenes(NamedTuple):
    """What a prompt is told of S scenes.

    longer (B, S): by how much each scene's length, as a natural logarithm, is above the mean of all
    that there are, 0 for those that there are not; between (B,): how many scenes lie between the
    first and the last thing that the prompt names.
    """

    longer: Tensor
    between: Tensor


class ScenePointer(nn.Module):
    """Raises ordinals by how long their scenes last, and numbers by how many scenes lie between.

    `ordinal_ids` are the token ids of first, second and so on, of as many scenes as are told apart,
    and `number_ids` those of zero, one, two; `value_size` numbers are handed on of a vision token.
    """

    def __init__(
        self,
        ordinal_ids: Sequence[int],
        number_ids: Sequence[int],
        value_size: int,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.ordinal_ids, self.number_ids = list(ordinal_ids), list(number_ids)
        # The last class is none of these scenes, or none at all.
        self.read = nn.Linear(value_size, len(self.ordinal_ids) + 1)
        nn.init.zeros_(self.read.weight)
        self.length_weight = nn.Parameter(torch.zeros(hidden_size))
        self.count_weight = nn.Parameter(torch.zeros(hidden_size))

    def watch(self, stands: Tensor, looks: Looks, marks: tuple[Tensor, Tensor]) -> Scenes:
        """What prompts are told of the scenes of K vision tokens.

        stands (B, N): where each word asks that names a thing (`asked_words`); marks: the times
        (B, K, 4) of the vision tokens, in order, of which (B,) count.
        """
        read = self.read(looks.values.to(self.read.weight.dtype)).float()
        scenes = read.softmax(dim=-1)[..., :-1]
        lengths = (scenes * seconds_around(*marks)[..., None]).sum(dim=1)
        valid = valid_mask(marks[1], scenes.shape[1])[..., None]
        there = ((scenes > _CERTAIN) & valid).any(dim=1)
        log_lengths = lengths.clamp(min=_LEAST_SECONDS).log() * there
        mean = log_lengths.sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1)
        number = torch.arange(scenes.shape[2], device=scenes.device, dtype=scenes.dtype)
        ends = first_and_last(stands, looks.shares.shape[1])
        at = looks.shares.float() @ (scenes @ number)[..., None]
        one, other = at.squeeze(-1).gather(1, ends).unbind(dim=1)
        return Scenes((log_lengths - mean) * there, (one - other).abs() - 1.0)

    def forward(self, logits: Tensor, hidden: Tensor, scenes: Scenes) -> Tensor:
        """Next-token logits (B, L, V) of hidden states (B, L, D), with words raised."""
        longer = F.softsign(scenes.longer / _NEAR_LENGTH)[:, None]
        by = counted(hidden, self.length_weight)[..., None] * longer
        logits = raise_words(logits, self.ordinal_ids, by)
        counts = counted(hidden, self.count_weight)
        between = scenes.between[:, None]
        return raise_numbers(logits, self.number_ids, between, counts, _NEAR_COUNT)


def seconds_around(marks: Tensor, num_marks: Tensor) -> Tensor:
    """The seconds that each of the times marks (B, K, 4), in order, stands for: float32 (B, K).

    From the middle between it and the time before to the middle between it and the next; those that
    do not count, of which (B,) do, stand for none.
    """
    elapsed = elapsed_seconds(marks, num_marks).float()
    there = valid_mask(num_marks, elapsed.shape[1])
    gaps = elapsed.diff(dim=1) * there[:, 1:]
    return (F.pad(gaps, (1, 0)) + F.pad(gaps, (0, 1))) / 2
