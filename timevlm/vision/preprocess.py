"""Decoded frames -> what a vision tower expects, on the device where the frames lie."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.errors import InputError


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 frames (N, 3, H, W) to `size` (height, width): antialiased bicubic, uint8.

    The result is rounded to whole levels on every device, as image libraries do, so that a frame
    looks the same to the tower wherever it was resized. Frames of that size come back as they are.
    """
    if pixels.shape[-2:] == torch.Size(size) or pixels.shape[0] == 0:
        return pixels.new_empty(0, *pixels.shape[1:2], *size) if not len(pixels) else pixels
    if pixels.device.type == "cpu":
        return F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    resized = F.interpolate(pixels.float(), size=size, mode="bicubic", antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def preprocess(
    pixels: Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Frames uint8 (N, 3, H, W) -> `(pixels / 255 - mean) / std`, (N, 3, *size) of `dtype`.

    `mean` and `std` hold one value a colour channel, in [0, 1]. The result lies on the device of
    `pixels`. Raises `InputError` when `pixels` is not a batch of uint8 colour frames.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise InputError(
            f"frames of type {pixels.dtype} and shape {tuple(pixels.shape)} cannot be encoded; "
            "give uint8 pixels (frames, 3, height, width)"
        )
    channel_std = torch.tensor(std, dtype=torch.float64)
    channel_mean = torch.tensor(mean, dtype=torch.float64)
    scale = (1 / (255 * channel_std)).to(pixels.device, torch.float32)[:, None, None]
    shift = (-channel_mean / channel_std).to(pixels.device, torch.float32)[:, None, None]
    frames = resize(pixels, size).to(torch.float32)
    return torch.addcmul(shift, frames, scale).to(dtype)
