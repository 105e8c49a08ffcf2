"""A batch of decoded pictures with the second that each one was shown."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FrameBatch:
    """Pictures in time order.

    pixels: uint8 (N, 3, H, W), RGB; seconds: float64 (N,), presentation timestamps, ascending.
    """

    pixels: torch.Tensor
    seconds: torch.Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise ValueError(
                f"pixels must be uint8 (N, 3, H, W), got {self.pixels.dtype} "
                f"{tuple(self.pixels.shape)}"
            )
        if self.seconds.dtype != torch.float64 or self.seconds.ndim != 1:
            raise ValueError(
                f"seconds must be float64 (N,), got {self.seconds.dtype} "
                f"{tuple(self.seconds.shape)}"
            )
        if self.pixels.shape[0] != self.seconds.shape[0]:
            raise ValueError(
                f"{self.pixels.shape[0]} pictures but {self.seconds.shape[0]} timestamps"
            )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def __repr__(self) -> str:
        return f"FrameBatch(pixels={tuple(self.pixels.shape)}, seconds={tuple(self.seconds.shape)})"
