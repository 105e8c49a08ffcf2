"""When frames are: the decimal digits of a frame's time, told to each of its tokens.

A timestamp stands before every frame as text, but what a vision token has heard of it deep in a
small LLM is little: a linear probe read the tens from 63 % of them and the units from 27 %. An
answer that gives a time has to copy exactly these digits from the token it found.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_DIGITS = 6  # from tens of thousands of seconds to tenths: 27 hours


def time_digits(seconds: Tensor) -> Tensor:
    """Digits `(N, NUM_DIGITS)` of times in seconds `(N,)`, tenths first, as timestamps print."""
    tenths = (seconds.double() * 10).round().long()
    powers = 10 ** torch.arange(NUM_DIGITS, device=seconds.device)
    return tenths[:, None] // powers % 10


class TimeEmbedding(nn.Linear):
    """What a frame's tokens are told of its time: seconds (N,) -> (N, dim), a row a digit."""

    def __init__(self, dim: int) -> None:
        super().__init__(NUM_DIGITS * 10, dim, bias=False)

    def forward(self, seconds: Tensor) -> Tensor:
        """The sum of one vector a digit and place."""
        digits = F.one_hot(time_digits(seconds), 10).flatten(1)
        return super().forward(digits.to(self.weight.dtype))
