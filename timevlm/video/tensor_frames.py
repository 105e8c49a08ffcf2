"""Frames that are already in memory, behind the same iteration as a file's."""

from collections.abc import Iterator

import torch
from torch import Tensor

from timevlm.errors import InputError
from timevlm.video.frames import FrameBatch


class TensorFrames:
    """A stream of `FrameBatch` over tensors: pixels uint8 (N, 3, H, W), seconds (N,) rising.

    Can be iterated any number of times. Raises `InputError` when counts or order are wrong.
    """

    def __init__(self, pixels: Tensor, seconds: Tensor, *, batch_size: int = 64) -> None:
        seconds = torch.as_tensor(seconds, dtype=torch.float64)
        if pixels.shape[0] != seconds.shape[0] or seconds.shape[0] == 0:
            raise InputError(
                f"{pixels.shape[0]} frames with {seconds.shape[0]} times; give as many of both, "
                "at least one"
            )
        if bool((seconds.diff() <= 0).any()):
            raise InputError("the frames' times do not rise; sort the frames by time")
        self.pixels = pixels
        self.planned_seconds = seconds
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[FrameBatch]:
        for start in range(0, len(self.planned_seconds), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield FrameBatch(self.pixels[part], self.planned_seconds[part])
