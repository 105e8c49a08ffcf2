"""Forecasting fields frame by frame with a recurrent network, and training such a network.

The network of Horuz et al. 2025 (section 4): a 1 x 1 convolution in, layers of recurrent cells with
residual and norm, a 1 x 1 convolution out. After each frame it predicts the next one. While true
frames are given (teacher forcing) a MinConv network reads all of them at once; then it runs in
closed loop on its own predictions, one step at a time. Both are the same network from the same
kind of state:

    predictions, state = network(fields, state)          # truth in, one prediction per frame
    future = network.forecast(fields, num_steps)         # then on its own predictions

One difference from the published networks: their norm has weights for every pixel of one picture
size; ours has one group and weights per channel, so that any height and width will do.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recognizers.base import State, write_atomically
from recognizers.convrnn import (
    Norm,
    Padding,
    RecurrentStack,
    pointwise,
    steps_per_block,
    to_frames,
)
from recognizers.errors import ConfigError, WeightsError
from recognizers.minconv import CellName, ScanName, build_cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastConfig:
    """Sizes of the network."""

    cell: CellName = "minconvexplstm"
    field_channels: int = 1
    hidden_channels: int = 16
    num_layers: int = 2
    padding: Padding = "circular"  # the flows live on a torus
    norm: Norm = "group"
    scan: ScanName = "fast"

    def __post_init__(self) -> None:
        if min(self.field_channels, self.hidden_channels, self.num_layers) < 1:
            raise ConfigError(
                f"{self.field_channels} field and {self.hidden_channels} hidden channels, "
                f"{self.num_layers} layers: give at least one of each"
            )


class ForecastNetwork(nn.Module):
    """Encoder, recurrent layers, decoder; see the module's docstring."""

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_channels
        self.encoder = nn.Conv2d(config.field_channels, width, 1)
        self.stack = RecurrentStack(
            [
                build_cell(config.cell, width, width, padding=config.padding, scan=config.scan)
                for _ in range(config.num_layers)
            ],
            norm=config.norm,
        )
        self.decoder = nn.Conv2d(width, config.field_channels, 1)

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state before the first frame: zeros."""
        return self.stack.init_state(batch_size, height, width, device=device, dtype=dtype)

    def forward(self, fields: Tensor, state: State) -> tuple[Tensor, State]:
        """Teacher forcing: for each frame of fields (B, T, C, H, W), the prediction of the next.

        Returns:
            Predictions (B, T, C, H, W), and the state after the last frame.
        """
        batch_size, num_steps, _, height, width = fields.shape
        # The widest activation is a cell's projection: gates and candidate.
        widest = 4 * batch_size * self.config.hidden_channels * height * width
        predictions = []
        for part in fields.split(steps_per_block(num_steps, widest, fields.device), dim=1):
            x = pointwise(to_frames(part), self.encoder).unflatten(0, part.shape[:2])
            x, _, state = self.stack(x, state)
            prediction = pointwise(x.flatten(0, 1), self.decoder)
            predictions.append(prediction.unflatten(0, part.shape[:2]))
        return torch.cat(predictions, dim=1), state

    def forecast(self, fields: Tensor, num_steps: int, state: State | None = None) -> Tensor:
        """Predictions after each given frame, then `num_steps` more in closed loop.

        Args:
            fields: true frames (B, T, C, H, W), T at least 1.
            num_steps: frames to predict beyond the one that follows the last true frame.
            state: to begin with; zeros if None.

        Returns:
            (B, T + num_steps, C, H, W): entry t is the prediction of frame t + 1.
        """
        if state is None:
            batch_size, _, _, height, width = fields.shape
            state = self.init_state(batch_size, height, width, device=fields.device)
        given, state = self(fields, state)
        predictions = [given]
        for _ in range(num_steps):
            newest, state = self(predictions[-1][:, -1:], state)
            predictions.append(newest)
        return torch.cat(predictions, dim=1)


def count_parameters(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def with_parameters(config: ForecastConfig, budget: int) -> ForecastConfig:
    """The same config, with the number of hidden channels whose parameter count is nearest."""
    best = config
    best_miss = math.inf
    for channels in range(1, 4096):
        candidate = replace(config, hidden_channels=channels)
        with torch.device("meta"):
            miss = count_parameters(ForecastNetwork(candidate)) - budget
        if abs(miss) < best_miss:
            best, best_miss = candidate, abs(miss)
        if miss > 0:
            break
    return best


# --- Training -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a forecaster is trained."""

    num_steps: int = 1000
    batch_size: int = 8
    given_frames: int = 20  # teacher forcing
    closed_frames: int = 5  # then this many predictions fed back
    learning_rate: float = 3e-3  # falls to zero as a cosine, after `warmup_steps`
    warmup_steps: int = 20
    input_noise: float = 0.01  # standard deviation, added to true frames
    max_gradient_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_steps, self.batch_size, self.given_frames) < 1 or self.closed_frames < 0:
            raise ConfigError(
                f"{self.num_steps} steps, batch {self.batch_size}, {self.given_frames} given and "
                f"{self.closed_frames} closed frames: only closed frames may be 0"
            )

    @property
    def num_frames(self) -> int:
        """Frames of a training sequence: inputs, and the targets one later."""
        return self.given_frames + self.closed_frames + 1


class Trainer:
    """Trains one network on sequences (S, L, C, H, W); can be saved, loaded and carried on.

    Every step draws its batch from a generator seeded by the step's number, so a run that was
    stopped and carried on is the run that was not.
    """

    def __init__(self, network: ForecastNetwork, sequences: Tensor, config: TrainConfig) -> None:
        if sequences.ndim != 5 or sequences.shape[1] < config.num_frames:
            raise ConfigError(
                f"sequences of shape {tuple(sequences.shape)}: give (sequences, at least "
                f"{config.num_frames} frames, channels, height, width)"
            )
        self.network = network
        self.sequences = sequences
        self.config = config
        self.step = 0
        self.seconds = 0.0  # spent in steps
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

    def learning_rate(self) -> float:
        """Of the next step."""
        config = self.config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        return (
            config.learning_rate * warm * (1 + math.cos(math.pi * self.step / config.num_steps)) / 2
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """Noisy input frames and true targets of the next step."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        count, length = self.sequences.shape[:2]
        rows = torch.randint(count, (config.batch_size,), generator=generator)
        starts = torch.randint(
            length - config.num_frames + 1, (config.batch_size, 1), generator=generator
        )
        frames = self.sequences[rows[:, None], starts + torch.arange(config.num_frames)]
        given = frames[:, : config.given_frames]
        noise = torch.randn(given.shape, generator=generator).to(given)
        return given + config.input_noise * noise, frames[:, 1:]

    def train_step(self) -> float:
        """One optimizer step; its loss, the mean squared error of all predictions."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        given, target = self.batch()
        loss = (self.network.forecast(given, self.config.closed_frames) - target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        value = float(loss.detach())
        self.step += 1
        self.seconds += time.perf_counter() - started
        return value

    def run(
        self,
        *,
        until: Callable[[], bool] = lambda: False,
        report: Callable[[int, float], None] = lambda step, loss: None,
    ) -> bool:
        """Train to the configured number of steps; True when they are done.

        Args:
            until: asked before each step; training stops when it says True.
            report: given each step's number (from 1) and loss.
        """
        self.network.train()
        while self.step < self.config.num_steps and not until():
            loss = self.train_step()
            report(self.step, loss)
        return self.step >= self.config.num_steps

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, optimizer and step as one safetensors file, atomically."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for index, leaf in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{k}": v for k, v in leaf.items()})
        tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
        metadata = {"step": str(self.step), "seconds": repr(self.seconds)}
        write_atomically(Path(path), lambda partial: save_file(tensors, partial, metadata))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Carry on from what `save` wrote. WeightsError if it does not fit this network."""
        try:
            tensors = load_file(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            step, seconds = int(metadata["step"]), float(metadata["seconds"])
            prefix = "network."
            names = [name for name in tensors if name.startswith(prefix)]
            weights = {name.removeprefix(prefix): tensors[name] for name in names}
            self.network.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"{path} does not fit this run ({reason}): train in another folder"
            ) from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, leaf = rest.partition(".")
                state.setdefault(int(index), {})[leaf] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.seconds = step, seconds


# --- Measuring ------------------------------------------------------------------------------------


@torch.no_grad()
def closed_loop_error(
    network: ForecastNetwork, sequences: Tensor, given_frames: int, *, batch_size: int = 32
) -> Tensor:
    """Mean squared error of each predicted frame, (L - given_frames,), over all sequences.

    Entry 0 is the frame after the last given one, which still follows a true frame; from entry 1
    on the network reads its own predictions.
    """
    network.eval()
    errors = []
    for part in sequences.split(batch_size):
        future = part.shape[1] - given_frames
        predicted = network.forecast(part[:, :given_frames], future - 1)[:, given_frames - 1 :]
        errors.append((predicted - part[:, given_frames:]).square().mean(dim=(2, 3, 4)))
    return torch.cat(errors).mean(dim=0)


def persistence_error(sequences: Tensor, given_frames: int) -> Tensor:
    """What `closed_loop_error` would be for repeating the last given frame."""
    last = sequences[:, given_frames - 1 : given_frames]
    return (last - sequences[:, given_frames:]).square().mean(dim=(0, 2, 3, 4))
