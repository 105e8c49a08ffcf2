"""The same MoViNet for inference: fewer and cheaper operations, equal logits, the same state.

What is done, and why it is the same function:
- Batch norms are folded into the convolutions before them, a block's ReZero scale into its
  projection, a hard sigmoid's slope into the layer before: all are affine.
- Everything lies channels-last, (B, T, H, W, C): a pointwise convolution is then one matrix
  product, and depthwise kernels run on contiguous channels; activations and gates work in place on
  tensors that nothing else reads.
- Uneven "same" padding costs a copy of the picture. A kernel with a row or column of zeros before
  it, padded evenly, is the same convolution. The skip's average pool is a depthwise convolution
  as well.
- A temporal convolution is its definition, y_t = b + sum_j w_j x_{t - k + 1 + j}: a weighted sum of
  shifted frames, taken from the stream buffer where the shift reaches into the past. Nothing is
  concatenated, and a 3-D kernel is k spatial convolutions summed in the same way.

    fast = fused(model)
    logits, state = fast.step(frames, state)    # a state of the plain model will do, and back

Legend: B streams, T frames, C channels, H x W picture, k temporal kernel extent. "Frames" are
contiguous (B, T, H, W, C).
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizers.base import State
from recognizers.errors import RecognizerError
from recognizers.movinet.layers import (
    Block,
    ConvNorm,
    HardSigmoid,
    SqueezeExcite,
    TemporalConv,
    average_pool_by_two,
    cumulative_mean,
    frame_counts,
    same_padding,
)
from recognizers.movinet.model import (
    HEAD_TOTAL,
    NUM_FRAMES,
    MoViNet,
    MoViNetRecognizer,
    buffer_name,
    total_name,
)

_IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.SiLU: lambda x: F.silu(x, inplace=True),
    nn.Hardswish: lambda x: F.hardswish(x, inplace=True),
    nn.Identity: lambda x: x,
}


def fused(model: MoViNet) -> "FusedMoViNet":
    """The folded copy of a trained model, for inference only; the model is left as it is."""
    return FusedMoViNet(model).eval()


class FusedMoViNet(MoViNetRecognizer):
    """A MoViNet with its norms folded; build it with `fused`."""

    def __init__(self, model: MoViNet) -> None:
        super().__init__(model.config, model.labels)
        self.mean, self.std = model.mean, model.std
        self.stem = _Spatial(model.stem)
        self.blocks = nn.ModuleList(_FoldedBlock(block) for block in model.blocks)
        self.head = _Pointwise(model.head)
        self.dense = _frozen_linear(model.dense)
        self.classifier = _frozen_linear(model.classifier)

    @torch.no_grad()
    def features(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """See MoViNetRecognizer."""
        self.check_frames(frames)
        self.check_state(frames, state)
        counts = frame_counts(state[NUM_FRAMES], frames.shape[1])
        new_state = {NUM_FRAMES: counts[:, -1]}
        x = self.stem(self.normalize(frames).movedim(2, -1).contiguous())
        for index, block in enumerate(self.blocks):
            buffer, total = buffer_name(index), total_name(index)
            stream = _Stream(state.get(buffer), state[total], counts)
            x, new_buffer, new_state[total] = block(x, stream)
            if new_buffer is not None:
                new_state[buffer] = new_buffer
        x = self.head(x).mean(dim=(2, 3))
        x, new_state[HEAD_TOTAL] = cumulative_mean(x, state[HEAD_TOTAL], counts)
        return x, new_state

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """See MoViNetRecognizer."""
        return self.classifier(F.silu(self.dense(features), inplace=True))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Refused: the plain model is what is saved; folding it again takes milliseconds."""
        raise RecognizerError(
            f"a fused model cannot be saved to {folder}: save the model it was made from"
        )


class _Stream:
    """What a block reads from the state."""

    __slots__ = ("buffer", "counts", "total")

    def __init__(self, buffer: Tensor | None, total: Tensor, counts: Tensor) -> None:
        self.buffer, self.total, self.counts = buffer, total, counts


class _Pointwise(nn.Module):
    """1x1 convolution with bias and activation: one matrix product."""

    def __init__(self, layer: ConvNorm, scale: Tensor | None = None) -> None:
        super().__init__()
        weight, bias = _fold(layer.conv.weight, layer.norm, scale)
        self.weight, self.bias = _frozen(weight.flatten(1)), _frozen(bias)
        self.activation = _IN_PLACE[type(layer.activation)]

    def forward(self, x: Tensor) -> Tensor:
        """Frames to frames, a new tensor."""
        return self.activation(F.linear(x, self.weight, self.bias))


class _Spatial(nn.Module):
    """Convolution of each frame with bias and activation."""

    def __init__(self, layer: ConvNorm) -> None:
        super().__init__()
        weight, bias = _fold(layer.conv.weight, layer.norm)
        self.weight, self.bias = _frozen(weight), _frozen(bias)
        self.stride, self.groups = layer.conv.stride[0], layer.conv.groups
        self.activation = _IN_PLACE[type(layer.activation)]

    def forward(self, x: Tensor) -> Tensor:
        """Frames to frames, a new tensor; each side becomes ceil(side / stride)."""
        return self.activation(_convolve(x, self.weight, self.bias, self.stride, self.groups))


class _Temporal(nn.Module):
    """Depthwise convolution over time as a weighted sum of shifted frames."""

    def __init__(self, layer: TemporalConv) -> None:
        super().__init__()
        weight, bias = _fold(layer.conv.weight, layer.norm)
        self.length, self.kernel, _ = layer.conv.kernel_size
        self.stride = layer.conv.stride[-1]
        self.is_causal = layer.causal
        if self.kernel == 1:  # (k, C), to lie along the channels
            weight = weight.flatten(1).t()
        else:  # (k, C, 1, h, w): a spatial kernel for every shift
            weight = weight.movedim(2, 0)
        self.weight, self.bias = _frozen(weight.contiguous()), _frozen(bias)
        self.activation = _IN_PLACE[type(layer.activation)]

    def forward(self, x: Tensor, buffer: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Frames, and the stream buffer (B, k - 1, C, H, W) -> frames, and the next buffer."""
        past = None if buffer is None else buffer.movedim(2, -1)
        length = x.shape[1]
        newest = self.length - 1 if self.is_causal else self.length // 2
        taps = self.weight.unbind()
        out = self._weighted(x, taps[newest], None)
        for tap, weight in enumerate(taps):
            shift = newest - tap  # output t reads frame t - shift
            if shift == 0:
                continue
            inside = length - abs(shift)
            if inside > 0:
                source, target = max(-shift, 0), max(shift, 0)
                self._weighted(x.narrow(1, source, inside), weight, out.narrow(1, target, inside))
            if past is not None:
                outside = min(shift, length)
                self._weighted(past.narrow(1, tap, outside), weight, out.narrow(1, 0, outside))
        if past is not None:
            buffer = _advance(past, x).movedim(-1, 2)
        return self.activation(out), buffer

    def _weighted(self, x: Tensor, weight: Tensor, out: Tensor | None) -> Tensor:
        """Frames through one tap: added to `out` in place, or to the bias where there is none."""
        if self.kernel > 1:
            bias = self.bias if out is None else None
            y = _convolve(x, weight, bias, self.stride, x.shape[-1])
            return y if out is None else out.add_(y)
        if out is None:
            return torch.addcmul(self.bias, x, weight)
        return out.addcmul_(x, weight)


class _Gates(nn.Module):
    """Squeeze-excite without the gating itself; see layers.SqueezeExcite.gates."""

    def __init__(self, layer: SqueezeExcite) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer).requires_grad_(False)
        self.activation = _IN_PLACE[type(layer.activation)]
        self.is_hard = isinstance(layer.gate, HardSigmoid)
        if self.is_hard:  # clip(0.2 x + 0.5, 0, 1), the affine part folded
            self.layer.expand.weight.mul_(0.2)
            self.layer.expand.bias.mul_(0.2).add_(0.5)

    def forward(self, space: Tensor, total: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Averages over the picture (B, T, C) -> gates (B, T, C), and the new total."""
        pooled, total = self.layer.pool(space, total, counts)
        hidden = self.activation(self.layer.reduce(pooled))
        gates = self.layer.expand(hidden)
        return (gates.clamp_(0.0, 1.0) if self.is_hard else gates.sigmoid_()), total


class _FoldedBlock(nn.Module):
    """An inverted bottleneck; see layers.Block."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.expand = _Pointwise(block.expand)
        self.spatial = _Spatial(block.spatial) if block.spatial is not None else None
        self.temporal = _Temporal(block.temporal) if block.temporal is not None else None
        self.squeeze = _Gates(block.squeeze) if block.squeeze is not None else None
        self.project = _Pointwise(block.project, block.scale)
        self.skip = _Pointwise(block.skip) if block.skip is not None else None
        self.pool = None
        if block.stride == 2:
            channels = block.expand.conv.in_channels
            self.pool = _frozen(block.scale.new_full((channels, 1, 3, 3), 1 / 9))

    def forward(self, x: Tensor, stream: _Stream) -> tuple[Tensor, Tensor | None, Tensor]:
        """Frames -> frames, the stream buffer and the running sum for the next call."""
        branch = self.expand(x)
        if self.spatial is not None:
            branch = self.spatial(branch)
        buffer, total = stream.buffer, stream.total
        if self.temporal is not None:
            branch, buffer = self.temporal(branch, buffer)
        if self.squeeze is not None:
            pooled = branch.mean(dim=(2, 3))
            gates, total = self.squeeze(pooled, total, stream.counts)
            branch.mul_(gates[:, :, None, None])
        skip = x if self.pool is None else _average_pool_by_two(x, self.pool)
        if self.skip is not None:
            skip = self.skip(skip)
        return self.project(branch).add_(skip), buffer, total


def _advance(past: Tensor, x: Tensor) -> Tensor:
    """The last k - 1 frames of the past and x, as a tensor of that size alone."""
    kept = past.shape[1] - x.shape[1]
    if kept <= 0:
        return x[:, -past.shape[1] :].clone()
    return torch.cat([past[:, -kept:], x], dim=1)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """2-D convolution of frames with "same" padding."""
    kernel = weight.shape[-1]
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    if top != bottom or left != right:
        weight = F.pad(weight, (right - left, 0, bottom - top, 0))
    pictures = x.flatten(0, 1).permute(0, 3, 1, 2)  # a view that is channels-last
    y = F.conv2d(pictures, weight, bias, stride, (bottom, right), 1, groups)
    return y.permute(0, 2, 3, 1).contiguous().unflatten(0, x.shape[:2])


def _average_pool_by_two(x: Tensor, ninths: Tensor) -> Tensor:
    """layers.average_pool_by_two for frames: a sum of ninths, where a padded edge has a third
    fewer terms than nine."""
    height, width = x.shape[2:4]
    if min(height, width) < 2:
        pooled = average_pool_by_two(x.flatten(0, 1).permute(0, 3, 1, 2))
        return pooled.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
    pooled = _convolve(x, ninths, None, 2, x.shape[-1])
    pooled[:, :, -1] *= 1.5
    pooled[:, :, :, -1] *= 1.5
    if height % 2:
        pooled[:, :, 0] *= 1.5
    if width % 2:
        pooled[:, :, :, 0] *= 1.5
    return pooled


def _fold(
    weight: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does `scale * norm(conv(x))`, folded in float32."""
    factor = norm.weight.float() / (norm.running_var.float() + norm.eps).sqrt()
    bias = norm.bias.float() - norm.running_mean.float() * factor
    if scale is not None:
        factor, bias = factor * scale.float(), bias * scale.float()
    folded = weight.float() * factor.view(-1, *(1,) * (weight.ndim - 1))
    return folded.detach().to(weight.dtype), bias.detach().to(weight.dtype)


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def _frozen_linear(linear: nn.Linear) -> nn.Linear:
    return copy.deepcopy(linear).requires_grad_(False)
