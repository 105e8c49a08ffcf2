"""Parameters and operations of a MoViNet, from its configuration alone.

One multiply-add is counted once, as the paper does: its "GFLOPs" of a clip are these divided by
1e9. Norms, activations and pooling are left out; norms fold into the convolutions, the rest is
below a hundredth.
"""

import math
from dataclasses import dataclass

import torch

from recognizers.movinet.config import SQUEEZE_RATIO, MoViNetConfig, make_divisible
from recognizers.movinet.model import MoViNet


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a network holds and what a clip costs."""

    parameters: int  # learned ones
    checkpoint_bytes: int  # float32, with the norms' running statistics
    multiply_adds: int  # of the clip
    state_bytes: int  # float32, of one stream; 0 where the network cannot stream


def count(config: MoViNetConfig, num_frames: int, height: int, width: int) -> Cost:
    """Cost of a clip of num_frames pictures of height x width; logits once, at the clip's end."""
    with torch.device("meta"):
        model = MoViNet(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.ndim)
    state_bytes = 0
    if config.causal:
        shapes = model.state_shapes(height, width).values()
        state_bytes = 4 * sum(math.prod(shape) for shape in shapes)
    return Cost(
        parameters=parameters,
        checkpoint_bytes=4 * (parameters + statistics),
        multiply_adds=_multiply_adds(config, num_frames, height, width),
        state_bytes=state_bytes,
    )


def _multiply_adds(config: MoViNetConfig, num_frames: int, height: int, width: int) -> int:
    height, width = (height + 1) // 2, (width + 1) // 2
    per_frame = height * width * 27 * config.stem_channels
    squeezes = num_frames if config.causal else 1
    per_clip = config.hidden_channels * (config.head_channels + config.num_classes)
    for block in config.blocks:
        channels, (time, space) = block.expand_channels, block.kernel
        before = height * width
        if block.stride == 2:
            height, width = (height + 1) // 2, (width + 1) // 2
        after = height * width
        taps = time * space**2
        if config.conv_type == "2plus1d" and time > 1:
            taps = time + space**2
        per_frame += before * block.in_channels * channels
        per_frame += after * channels * (taps + block.out_channels)
        if block.has_skip_projection:
            per_frame += after * block.in_channels * block.out_channels
        if config.squeeze_type != "none":
            inputs = channels * (2 if config.squeeze_type == "2plus3d" else 1)
            per_clip += squeezes * make_divisible(SQUEEZE_RATIO * inputs) * (inputs + channels)
    per_frame += height * width * config.blocks[-1].out_channels * config.head_channels
    return num_frames * per_frame + per_clip
