"""When frames are: the decimal digits of a frame's time, told to each of its tokens.

A timestamp stands before every frame as text, but what a vision token has heard of it deep in a
small LLM is little: a linear probe read the tens from 63 % of them and the units from 27 %. What
is told here lets layers compare times; to tell them, answers point at frames (`pointer.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_DIGITS = 6  # from tens of thousands of seconds to tenths: 27 hours
NUM_PAIRS = 3  # of digits before the point: 277 hours
NONE = 100  # the second and third pair of a time that is too short for them
WORDS_PER_TIME = NUM_PAIRS + 1  # and tenths
# Half a tenth is rounded up, as timestamps are; the nearest binary number may lie a hair below.
_HALF_UP = 0.5 + 1e-6


def time_digits(seconds: Tensor) -> Tensor:
    """Digits `(N, NUM_DIGITS)` of times in seconds `(N,)`, tenths first, as timestamps print."""
    powers = 10 ** torch.arange(NUM_DIGITS, device=seconds.device)
    return _tenths(seconds)[:, None] // powers % 10


def _tenths(seconds: Tensor) -> Tensor:
    return (seconds.double() * 10 + _HALF_UP).floor().long()


def timestamp_words(seconds: Tensor) -> Tensor:
    """The words that write the times `(N,)`: pairs of digits, first one first, and tenths, (N, 4).

    1234.5 s is 12, 34, NONE, 5; 234.5 s is 2, 34, NONE, 5; 34.5 s is 34, NONE, NONE, 5.
    """
    tenths = _tenths(seconds)
    pairs = torch.stack([tenths // (10 * 100**k) % 100 for k in range(NUM_PAIRS)], dim=1)
    place = torch.arange(NUM_PAIRS, device=seconds.device)
    num_pairs = 1 + (place * (pairs > 0)).amax(dim=1, keepdim=True)
    written = pairs.gather(1, (num_pairs - 1 - place).clamp(min=0))
    written = written.masked_fill(place >= num_pairs, NONE)
    return torch.cat([written, tenths[:, None] % 10], dim=1)


def written_seconds(words: Tensor) -> Tensor:
    """The times (...) in seconds, float64, that `timestamp_words` (..., 4) write."""
    *pairs, tenths = words.double().unbind(-1)
    seconds = pairs[0]
    for pair in pairs[1:]:
        seconds = torch.where(pair == NONE, seconds, 100 * seconds + pair)
    return seconds + tenths / 10


class TimeEmbedding(nn.Linear):
    """What a frame's tokens are told of its time: seconds (N,) -> (N, dim), a row a digit."""

    def __init__(self, dim: int) -> None:
        super().__init__(NUM_DIGITS * 10, dim, bias=False)

    def forward(self, seconds: Tensor) -> Tensor:
        """The sum of one vector a digit and place."""
        digits = F.one_hot(time_digits(seconds), 10).flatten(1)
        return super().forward(digits.to(self.weight.dtype))
