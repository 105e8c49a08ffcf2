"""MinConvLSTM, MinConvGRU and MinConvExpLSTM: recurrent cells without a recurrent convolution.

Horuz, Otte, Butz and Karlbauer 2025, "Minimal Convolutional RNNs Accelerate Spatiotemporal
Learning", arXiv 2508.03614. Gates and candidate come from one convolution of the input; the state
enters only through a weighted mean. So the convolution, which is nearly all of the work, runs for
all time steps at once, and what remains of the recurrence is a scan (recognizers/scan.py).

This module holds the cells, `build_cell` for these three and the two baselines, and the classifier
"minconv", a streaming recognizer: a strided stem, a stack of cells, a linear head on the hidden
states averaged over the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recognizers.base import State, StreamingRecognizer, register
from recognizers.convrnn import (
    ConvGRUCell,
    ConvLSTMCell,
    Norm,
    PaddedConv2d,
    Padding,
    RecurrentCell,
    RecurrentStack,
    convolve,
    steps_per_block,
    to_frames,
)
from recognizers.errors import ConfigError, StateError, WeightsError
from recognizers.scan import NUM_PROJECTIONS, SCANS, Gate, forget_logits, scan_fast, scan_joined

CellName = Literal["minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru"]
ScanName = Literal["fast", "log", "reference"]


class MinConvCell(RecurrentCell):
    """What the three cells share: a convolution of the input, then a scan.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels of the hidden state.
        kernel_size: odd, in pixels.
        padding: beyond the border: "zeros", "circular" or "cylinder".
        bias: whether the convolution has one.
        scan: "fast"; "log", the published form; "reference", a loop. One result.
    """

    gate: ClassVar[Gate]
    channels_last = True

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        kernel_size: int = 3,
        padding: Padding = "zeros",
        bias: bool = True,
        scan: ScanName = "fast",
    ) -> None:
        super().__init__(in_channels, hidden_channels)
        if scan not in SCANS:
            raise ConfigError(f"scan {scan!r}: allowed are {', '.join(SCANS)}")
        self.scan = SCANS[scan]
        self.conv = PaddedConv2d(
            in_channels,
            NUM_PROJECTIONS[self.gate] * hidden_channels,
            kernel_size=kernel_size,
            padding_kind=padding,
            bias=bias,
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `RecurrentCell.forward`; the convolution runs for all time steps at once."""
        self.check(x, state)
        if self.scan is scan_fast:
            hidden, last = self._fast(x, state["hidden"])
        else:
            projected = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            hidden, last = self.scan(projected, state["hidden"], self.gate)
        return hidden, {"hidden": last}

    def _fast(self, x: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        """Weights are joined where d is linear in two outputs: a third less to convolve."""
        weight, bias = self._joined(self.conv.weight), self.conv.bias
        padded, zeros = self.conv.pad(x.flatten(0, 1))
        joined = convolve(padded, weight, None if bias is None else self._joined(bias), zeros)
        return scan_joined(joined.unflatten(0, x.shape[:2]), initial)

    def _joined(self, parameter: Tensor) -> Tensor:
        """Weight or bias of the forget logits and of the candidate."""
        if self.gate == "lstm":
            return parameter
        *gates, candidate = parameter.chunk(NUM_PROJECTIONS[self.gate])
        return torch.cat([*forget_logits(gates, self.gate), candidate])


class MinConvLSTMCell(MinConvCell):
    """Sigmoid forget and input gates, normalised to sum to one (section 3.2)."""

    gate = "lstm"


class MinConvGRUCell(MinConvCell):
    """One update gate: h = (1 - z) h + z g (section 3.1)."""

    gate = "gru"


class MinConvExpLSTMCell(MinConvCell):
    """Exponential forget and input gates, normalised to sum to one (section 3.3)."""

    gate = "explstm"


MINCONV_CELLS: dict[str, type[MinConvCell]] = {
    "minconvlstm": MinConvLSTMCell,
    "minconvgru": MinConvGRUCell,
    "minconvexplstm": MinConvExpLSTMCell,
}


def build_cell(
    name: CellName,
    in_channels: int,
    hidden_channels: int,
    *,
    padding: Padding = "zeros",
    scan: ScanName = "fast",
) -> RecurrentCell:
    """A cell by name; `scan` concerns the MinConv cells alone. ConfigError for unknown names."""
    if name in MINCONV_CELLS:
        return MINCONV_CELLS[name](in_channels, hidden_channels, padding=padding, scan=scan)
    if name == "convlstm":
        return ConvLSTMCell(in_channels, hidden_channels, padding=padding)
    if name == "convgru":
        return ConvGRUCell(in_channels, hidden_channels, padding=padding)
    raise ConfigError(f"cell {name!r}: allowed are {', '.join(get_args(CellName))}")


# Published parameter names of a cell to ours: convolution 1 follows a padding layer, as the
# published cells have it for a cylinder.
PUBLISHED_NAMES: dict[str, tuple[str, Padding]] = {
    "conv.0.": ("conv.", "zeros"),
    "conv.1.": ("conv.", "cylinder"),
}


def cell_from_published(
    name: CellName,
    weights: Mapping[str, Tensor],
    *,
    padding: Padding | None = None,
    scan: ScanName = "fast",
) -> MinConvCell:
    """A MinConv cell with the published implementation's weights.

    Args:
        name: "minconvlstm", "minconvgru" or "minconvexplstm".
        weights: the cell's state dict, under its published names (`conv.0.weight`, ...).
        padding: of the convolution; names do not tell zeros from circular, default zeros
            (cylinder for `conv.1`).
        scan: as for `MinConvCell`.

    Raises:
        ConfigError: another cell. WeightsError: names or shapes that no such cell has.
    """
    if name not in MINCONV_CELLS:
        raise ConfigError(f"cell {name!r}: allowed are {', '.join(MINCONV_CELLS)}")
    kind = MINCONV_CELLS[name]
    prefix = next((p for p in PUBLISHED_NAMES if f"{p}weight" in weights), None)
    strays = [key for key in weights if prefix is None or not key.startswith(prefix)]
    if prefix is None or strays:
        raise WeightsError(
            f"tensors {', '.join(sorted(strays)) or 'none'} for a {name} cell: "
            "give conv.0.weight and conv.0.bias alone"
        )
    ours, named_padding = PUBLISHED_NAMES[prefix]
    shape = tuple(weights[f"{prefix}weight"].shape)
    if len(shape) != 4:
        raise WeightsError(
            f"{prefix}weight of shape {shape}: give (outputs, inputs, height, width)"
        )
    projected, in_channels, kernel_size, _ = shape
    cell = kind(
        in_channels,
        projected // NUM_PROJECTIONS[kind.gate],
        kernel_size=kernel_size,
        padding=padding or named_padding,
        bias=f"{prefix}bias" in weights,
        scan=scan,
    )
    renamed = {ours + key.removeprefix(prefix): value for key, value in weights.items()}
    try:
        cell.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"weights do not fit a {name} cell ({reason}): give the weights of that cell"
        ) from error
    return cell


# --- The classifier -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class MinConvConfig:
    """Sizes of the classifier."""

    num_classes: int
    cell: CellName = "minconvexplstm"
    stem_channels: tuple[int, ...] = (16, 32, 48)  # each halves height and width
    num_layers: int = 2  # recurrent layers, as wide as the stem's last convolution
    norm: Norm = "group"

    def __post_init__(self) -> None:
        if self.num_classes < 1 or self.num_layers < 1:
            raise ConfigError(
                f"{self.num_classes} classes, {self.num_layers} layers: give at least one each"
            )
        if not self.stem_channels or min(self.stem_channels) < 1:
            raise ConfigError(f"stem channels {self.stem_channels}: give one or more, positive")


class MinConvClassifier(StreamingRecognizer):
    """Classes of a video stream from the hidden states of a stack of cells.

    The stem brings 96 x 96 pixels down to 12 x 12 before anything recurrent happens; it is the same
    for every frame, so it runs for all frames of a call at once. Any height and width will do.
    """

    family = "minconv"
    config_class = MinConvConfig
    config: MinConvConfig
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, config: MinConvConfig, labels: Sequence[str] | None = None) -> None:
        super().__init__(config, labels)
        widths = (3, *config.stem_channels)
        self.stem = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.stem_norms = nn.ModuleList(nn.GroupNorm(1, width) for width in config.stem_channels)
        width = config.stem_channels[-1]
        cells = [build_cell(config.cell, width, width) for _ in range(config.num_layers)]
        self.stack = RecurrentStack(cells, norm=config.norm)
        self.head = nn.Linear(config.num_layers * width, config.num_classes)

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the hidden states for frames of height x width pixels."""
        for _ in self.stem:
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Zero hidden states {"0.hidden": (B, C, H', W'), ...}, float32 (float64 for float64)."""
        return self.stack.init_state(
            batch_size, *self.feature_size(height, width), device=device, dtype=dtype
        )

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """See `StreamingRecognizer.step`; T time steps cost T times one, memory a block's."""
        self.check_frames(frames)
        batch_size, num_steps, _, height, width = frames.shape
        size = self.feature_size(height, width)
        for name, leaf in state.items():
            if leaf.shape[0] != batch_size or leaf.shape[2:] != size:
                raise StateError(
                    f"state {name!r} of shape {tuple(leaf.shape)} for {batch_size} streams of "
                    f"{height}x{width}: make it with init_state for that size"
                )
        # The first convolution has the widest output.
        widest = batch_size * self.config.stem_channels[0] * (height // 2 + 1) * (width // 2 + 1)
        logits = []
        for part in frames.split(steps_per_block(num_steps, widest, frames.device), dim=1):
            block_logits, state = self._block(part, state)
            logits.append(block_logits)
        return torch.cat(logits, dim=1), state

    def _block(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        x = to_frames(self.normalize(frames))
        for conv, norm in zip(self.stem, self.stem_norms, strict=True):
            x = F.silu(norm(conv(x)))
        _, hidden, state = self.stack(x.unflatten(0, frames.shape[:2]), state)
        pooled = torch.cat([h.mean(dim=(3, 4)) for h in hidden], dim=2)
        return self.head(pooled), state


# Frames of 96 x 96: about 40 MMACs each; "minconv" is the cell that the paper finds best.
for _name, _cell in (
    ("minconv", "minconvexplstm"),
    ("minconv-explstm", "minconvexplstm"),
    ("minconv-lstm", "minconvlstm"),
    ("minconv-gru", "minconvgru"),
):
    register(_name, "minconv", MinConvConfig(num_classes=2, cell=_cell))
