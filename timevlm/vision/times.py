"""When frames are, told to each of their tokens: twice, as a number and as text.

A timestamp stands before every frame as text, but what a vision token has heard of it deep in a
small LLM is little: a linear probe read the tens from 63 % of them and the units from 27 %. So a
token is told the digits by their places as it enters, for layers that compare times; even of those
a probe found the units at only 47 % deep down. An answer has to copy a time from the token that it
found, character by character: where the tokens wait for a question, they are told the characters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_DIGITS = 6  # from tens of thousands of seconds to tenths: 27 hours
NUM_CHARACTERS = NUM_DIGITS + 1  # and the point
POINT, END = 10, 11  # what a character is that is no digit
# Half a tenth is rounded up, as timestamps are; the nearest binary number may lie a hair below.
_HALF_UP = 0.5 + 1e-6


def time_digits(seconds: Tensor) -> Tensor:
    """Digits `(N, NUM_DIGITS)` of times in seconds `(N,)`, tenths first, as timestamps print."""
    tenths = (seconds.double() * 10 + _HALF_UP).floor().long()
    powers = 10 ** torch.arange(NUM_DIGITS, device=seconds.device)
    return tenths[:, None] // powers % 10


def timestamp_characters(seconds: Tensor) -> Tensor:
    """Characters `(N, NUM_CHARACTERS)` of the timestamps of times `(N,)`, first one first.

    12.5 s is 1 2 POINT 5 END END END: as an answer writes it.
    """
    digits = time_digits(seconds)
    place = torch.arange(NUM_DIGITS, device=seconds.device)
    # Digits before the point: tenths do not count, a zero of seconds does.
    before = (place * (digits > 0)).amax(dim=1, keepdim=True).clamp(min=1)
    index = torch.arange(NUM_CHARACTERS, device=seconds.device)
    which = torch.where(index < before, before - index, 0)
    characters = digits.gather(1, which)
    characters = characters.masked_fill(index == before, POINT)
    return characters.masked_fill(index > before + 1, END)


class TimeEmbedding(nn.Linear):
    """What a frame's tokens are told of its time: seconds (N,) -> (N, dim), a row a digit."""

    def __init__(self, dim: int) -> None:
        super().__init__(NUM_DIGITS * 10, dim, bias=False)

    def forward(self, seconds: Tensor) -> Tensor:
        """The sum of one vector a digit and place."""
        digits = F.one_hot(time_digits(seconds), 10).flatten(1)
        return super().forward(digits.to(self.weight.dtype))


class TimestampEmbedding(nn.Linear):
    """What a frame's tokens are told deep in the LLM: seconds (N,) -> (N, dim).

    A row for every character at every place of the timestamp.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(NUM_CHARACTERS * (END + 1), dim, bias=False)

    def forward(self, seconds: Tensor) -> Tensor:
        """The sum of one vector a character."""
        characters = F.one_hot(timestamp_characters(seconds), END + 1).flatten(1)
        return super().forward(characters.to(self.weight.dtype))
