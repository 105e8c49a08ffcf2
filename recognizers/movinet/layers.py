"""MoViNet's layers, written to be read next to the paper; `fused.py` holds the fast ones.

Frames are folded into the batch, (B * T, C, H, W), wherever a layer looks at one frame alone; only
the temporal convolutions and the cumulative averages see time. What a layer keeps for the next
frames is an argument and a return value.

Legend: B streams, T frames of this call, C channels, H x W picture, k temporal kernel extent.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizers.movinet.config import (
    SQUEEZE_RATIO,
    BlockConfig,
    MoViNetConfig,
    make_divisible,
)

NORM_EPSILON = 1e-3


class HardSigmoid(nn.Module):
    """Keras' hard sigmoid, clip(0.2 x + 0.5, 0, 1), with which the streams were trained.

    torch's own has the slope 1/6.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x, values in [0, 1]."""
        return (0.2 * x + 0.5).clamp(0.0, 1.0)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "swish": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": HardSigmoid,
    "none": nn.Identity,
}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side, so that ceil(size / stride) outputs remain, as TensorFlow
    pads: the odd one goes after."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """x (..., H, W) with `same_padding` on both sides of the picture."""
    top, bottom = same_padding(x.shape[-2], kernel, stride)
    left, right = same_padding(x.shape[-1], kernel, stride)
    return F.pad(x, (left, right, top, bottom)) if top + bottom + left + right else x


def average_pool_by_two(x: Tensor) -> Tensor:
    """3x3 mean at stride 2, (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)).

    TensorFlow's "same" mean: the padding is not counted. An even side is padded after only, which
    is ceil mode without padding; each side is treated on its own, so pictures need not be square.
    """
    padding = (x.shape[-2] % 2, x.shape[-1] % 2)
    return F.avg_pool2d(
        x, kernel_size=3, stride=2, padding=padding, ceil_mode=True, count_include_pad=False
    )


def cumulative_mean(x: Tensor, total: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over all frames so far, after each frame: CGAP (section 3.2).

    Args:
        x: (B, T, C), already averaged over the picture.
        total: (B, C) float32, sum over the frames before; float32 also in bf16, where a sum of
            some hundred frames would stop growing.
        counts: (B, T), how many frames each stream has seen at each frame, itself included.

    Returns:
        The mean (B, T, C) in x's type, and the new sum.
    """
    sums = x.float() if x.shape[1] == 1 else x.float().cumsum(dim=1)
    totals = sums + total[:, None]
    return (totals / counts[..., None]).to(x.dtype), totals[:, -1]


def frame_counts(num_frames: Tensor, length: int) -> Tensor:
    """(B, length) counts for cumulative_mean, of streams that have seen num_frames (B,) before."""
    return num_frames[:, None] + torch.arange(1, length + 1, device=num_frames.device)


def position_encoding(positions: Tensor, channels: int) -> Tensor:
    """Sinusoids of the frame index, positions (B, T) -> (B, T, channels) float32.

    Sines first, then cosines; `channels` is even, wavelengths run from 2 pi to 10000 * 2 pi.
    """
    even = torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None] * 10_000.0 ** (-even / channels)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ConvNorm(nn.Module):
    """Convolution of each frame with "same" padding, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: MoViNetConfig,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: str = "none",
    ) -> None:
        super().__init__()
        groups = in_channels if depthwise else 1
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=NORM_EPSILON, momentum=config.norm_momentum)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        return self.activation(self.norm(self.conv(x)))


class TemporalConv(nn.Module):
    """Depthwise convolution over time, or time and picture, with batch norm and activation.

    Causal: the k - 1 frames before are read from the stream buffer, F_i = f(B_i (+) x_i),
    B_{i+1} = (B_i (+) x_i)[-(k - 1):] (section 3.2). Else time is padded on both sides.
    """

    def __init__(
        self, channels: int, config: MoViNetConfig, kernel: tuple[int, int], stride: int = 1
    ) -> None:
        super().__init__()
        time, space = kernel
        self.conv = nn.Conv3d(
            channels,
            channels,
            (time, space, space),
            stride=(1, stride, stride),
            groups=channels,
            bias=False,
        )
        self.norm = nn.BatchNorm3d(channels, eps=NORM_EPSILON, momentum=config.norm_momentum)
        self.activation = ACTIVATIONS[config.activation]()
        self.causal = config.causal

    @property
    def num_buffered(self) -> int:
        """Frames that the stream buffer holds."""
        return self.conv.kernel_size[0] - 1 if self.causal else 0

    def forward(self, x: Tensor, buffer: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convolve x (B, T, C, H, W) after the buffer (B, k - 1, C, H, W) of a causal stream.

        Returns:
            Output (B, T, C, H', W') and the buffer for the next frames (None without one).
        """
        if self.num_buffered:
            x = torch.cat([buffer, x], dim=1)
            buffer = x[:, -self.num_buffered :]
        x = pad_same(x, self.conv.kernel_size[-1], self.conv.stride[-1]).transpose(1, 2)
        past = 0 if self.causal else self.conv.kernel_size[0] // 2
        x = F.conv3d(
            x, self.conv.weight, stride=self.conv.stride, padding=(past, 0, 0), groups=x.shape[1]
        )
        return self.activation(self.norm(x)).transpose(1, 2), buffer


class SqueezeExcite(nn.Module):
    """Channel gates from averages; CausalSE where the network is causal (section 3.2)."""

    def __init__(self, channels: int, config: MoViNetConfig) -> None:
        super().__init__()
        width = 2 if config.squeeze_type == "2plus3d" else 1
        hidden = make_divisible(SQUEEZE_RATIO * channels * width)
        self.reduce = nn.Linear(width * channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.activation = ACTIVATIONS[config.activation]()
        self.gate = ACTIVATIONS[config.gate]()
        self.causal = config.causal
        self.squeeze_type = config.squeeze_type
        # As the residual branches, the encoding starts from nothing.
        self.position_scale = (
            nn.Parameter(torch.zeros(())) if config.position_encoding and config.causal else None
        )

    def forward(self, x: Tensor, total: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Gate x (B, T, C, H, W); `total` (B, C) and `counts` (B, T) as in cumulative_mean.

        Returns:
            The gated x, and the new total.
        """
        gates, total = self.gates(x.mean(dim=(3, 4)), total, counts)
        return x * gates[..., None, None], total

    def gates(self, space: Tensor, total: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Gates (B, T, C) of frames whose averages over the picture are `space` (B, T, C)."""
        pooled, total = self.pool(space, total, counts)
        return self.gate(self.expand(self.activation(self.reduce(pooled)))), total

    def pool(self, space: Tensor, total: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """What the gates are computed from: averages over time, over space, or both (B, T, C')."""
        pooled = space
        if self.squeeze_type != "2d":
            if self.causal:
                pooled, total = cumulative_mean(space, total, counts)
            else:
                pooled = space.mean(dim=1, keepdim=True).expand_as(space)
            if self.squeeze_type == "2plus3d":
                pooled = torch.cat([pooled, space], dim=-1)
        if self.position_scale is not None:
            encoding = position_encoding(counts - 1, pooled.shape[-1])
            pooled = pooled + (self.position_scale * encoding).to(pooled.dtype)
        return pooled, total


class Block(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, squeeze-excite, project, plus skip."""

    def __init__(self, block: BlockConfig, config: MoViNetConfig, drop_rate: float) -> None:
        super().__init__()
        channels, (time, space) = block.expand_channels, block.kernel
        self.expand = ConvNorm(block.in_channels, channels, config, activation=config.activation)
        factorised = config.conv_type == "2plus1d" or time == 1
        self.spatial = (
            ConvNorm(
                channels,
                channels,
                config,
                kernel=space,
                stride=block.stride,
                depthwise=True,
                activation=config.activation,
            )
            if factorised
            else None
        )
        if not factorised:
            self.temporal = TemporalConv(channels, config, (time, space), block.stride)
        else:
            self.temporal = TemporalConv(channels, config, (time, 1)) if time > 1 else None
        self.squeeze = SqueezeExcite(channels, config) if config.squeeze_type != "none" else None
        self.project = ConvNorm(channels, block.out_channels, config)
        self.skip = (
            ConvNorm(block.in_channels, block.out_channels, config)
            if block.has_skip_projection
            else None
        )
        # ReZero: the branch starts switched off, the network as its skips.
        self.scale = nn.Parameter(torch.zeros(()))
        self.stride = block.stride
        self.drop_rate = drop_rate

    def forward(
        self, x: Tensor, buffer: Tensor | None, total: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """x (B, T, C, H, W) -> output, the stream buffer and the running sum for the next call."""
        batch = x.shape[:2]
        frames = x.flatten(0, 1)
        branch = self.expand(frames)
        if self.spatial is not None:
            branch = self.spatial(branch)
        branch = branch.unflatten(0, batch)
        if self.temporal is not None:
            branch, buffer = self.temporal(branch, buffer)
        if self.squeeze is not None:
            branch, total = self.squeeze(branch, total, counts)
        branch = self.scale * self.project(branch.flatten(0, 1)).unflatten(0, batch)
        if self.training and self.drop_rate:
            keep = 1 - self.drop_rate
            branch = branch * (torch.rand(len(x), 1, 1, 1, 1, device=x.device) < keep) / keep
        skip = average_pool_by_two(frames) if self.stride == 2 else frames
        if self.skip is not None:
            skip = self.skip(skip)
        return branch + skip.unflatten(0, batch), buffer, total
