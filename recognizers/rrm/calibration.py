"""Find the threshold that gives a wanted error, on frames like those that will come."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from recognizers.errors import ConfigError
from recognizers.rrm.network import RRMConfig, StreamingNetwork

INPUT_SHARE = 0.5  # input threshold over the others, where the config does not say
# Above the largest a stream in which more happens than in the sample would hardly be read at all.
LEAST, LARGEST = 1e-3, 0.1


def relative_errors(outputs: Tensor, expected: Tensor) -> Tensor:
    """Distance of outputs (T, ...) from the expected ones over the length of these, (T,)."""
    outputs, expected = outputs.flatten(1).double(), expected.flatten(1).double()
    return (outputs - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30)


@torch.no_grad()
def plain_outputs(network: StreamingNetwork, frames: Tensor) -> Tensor:
    """The plain network on frames (T, C, H, W), one at a time: (T, ...)."""
    return torch.cat(
        [
            network.plain(frame[None].contiguous(memory_format=torch.channels_last))
            for frame in frames
        ]
    )


@torch.no_grad()
def calibrate(
    module: nn.Module,
    frames: Tensor,
    *,
    target_error: float = 0.01,
    config: RRMConfig | None = None,
    trials: int = 7,
) -> RRMConfig:
    """The config with the largest threshold found whose mean relative error is within the target.

    Args:
        module: the network that will be wrapped.
        frames: (T, C, H, W) consecutive frames, normalised, at the rate at which they will come;
            something should happen in them.
        target_error: mean over the frames of |sparse - plain| / |plain|, in (0, 1).
        config: other settings, and the share of the input threshold in the threshold.
        trials: runs over the frames; each halves the interval, on a logarithmic scale.

    Returns:
        `config` with both thresholds set; exact (thresholds 0) if even the least was too large.
    """
    if not 0 < target_error < 1 or trials < 1 or frames.ndim != 4 or len(frames) < 2:
        raise ConfigError(
            f"target_error {target_error}, trials {trials}, frames {tuple(frames.shape)}: give an "
            "error in (0, 1), one trial or more, and at least two frames (T, C, H, W)"
        )
    config = config or RRMConfig()
    share = config.threshold_of_input() / config.threshold if config.threshold else INPUT_SHARE
    exact = replace(config, threshold=0.0, input_threshold=None)
    expected = plain_outputs(StreamingNetwork(module, exact), frames)
    low, high = math.log(LEAST), math.log(LARGEST)
    best = exact
    for _ in range(trials):
        threshold = math.exp((low + high) / 2)
        candidate = replace(config, threshold=threshold, input_threshold=share * threshold)
        network = StreamingNetwork(module, candidate)
        outputs, _ = network.step(frames[None], network.init_state(1, *frames.shape[-2:]))
        if float(relative_errors(outputs[0], expected).mean()) <= target_error:
            best, low = candidate, math.log(threshold)
        else:
            high = math.log(threshold)
    return best
