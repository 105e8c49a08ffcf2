"""The slow twin of painting many frames at once."""

from collections.abc import Sequence

import torch

from timevlm.synth.render import render_frames
from timevlm.synth.spec import VideoSpec


def painted_one_by_one(
    requests: Sequence[tuple[VideoSpec, torch.Tensor]], size: tuple[int, int]
) -> torch.Tensor:
    """The frames of `render_frames`, each from a call of its own."""
    singles = [
        render_frames([(spec, second[None])], size)
        for spec, seconds in requests
        for second in seconds
    ]
    return torch.cat(singles)
