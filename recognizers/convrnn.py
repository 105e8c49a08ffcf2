"""Convolutional recurrent cells behind one interface, the ConvLSTM and ConvGRU baselines, a stack.

A cell reads a sequence and a state and returns its hidden states and the state after the last step;
it keeps nothing. `RecurrentLayer` adds the input back and normalises, `RecurrentStack` runs layers
over a sequence. Because a state is a value, a network on top of them is free to run a long sequence
a few steps at a time (`steps_per_block`): the result is the same, temporaries stay small however
long the sequence, and on a CPU they stay in its caches.

ConvLSTM: Shi et al. 2015, arXiv 1506.04214 (without peepholes, as in Horuz et al. 2025).
ConvGRU: Ballas et al. 2016, arXiv 1511.06432.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from recognizers.base import State
from recognizers.errors import ConfigError, FrameError, StateError
from recognizers.scan import state_dtype

Padding = Literal["zeros", "circular", "cylinder"]
Norm = Literal["group", "none"]

# Floats of a layer's widest activation for one block of time steps on a CPU (16 MiB): within a
# shared cache, large enough for a convolution to run at full speed on every core.
BLOCK_ELEMENTS = 1 << 22


class PaddedConv2d(nn.Conv2d):
    """A convolution that keeps height and width (odd kernel, stride 1).

    Args:
        padding_kind: what lies beyond the border. "zeros"; "circular" (a torus); "cylinder": the
            width wraps around, zeros above and below (longitude and latitude).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        padding_kind: Padding = "zeros",
        bias: bool = True,
    ) -> None:
        if padding_kind not in get_args(Padding):
            raise ConfigError(
                f"padding {padding_kind!r}: allowed are {', '.join(get_args(Padding))}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"kernel size {kernel_size}: give an odd number")
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.padding_kind = padding_kind

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H, W)."""
        padded, zeros = self.pad(x)
        return F.conv2d(padded, self.weight, self.bias, padding=zeros)

    def pad(self, x: Tensor) -> tuple[Tensor, int]:
        """x with what lies beyond its border, and how many zeros a convolution has still to add."""
        reach = self.kernel_size[0] // 2
        if self.padding_kind == "zeros":
            return x, reach
        vertical = reach if self.padding_kind == "circular" else 0
        x = F.pad(x, (reach, reach, vertical, vertical), mode="circular")
        if self.padding_kind == "cylinder":
            x = F.pad(x, (0, 0, reach, reach))
        return x, 0


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, zeros: int) -> Tensor:
    """A convolution that adds `zeros` zeros at each border; its gradients can be taken once."""
    if bias is None or x.device.type != "cpu":
        return F.conv2d(x, weight, bias, padding=zeros)
    return _Convolution.apply(x, weight, bias, zeros)


class _Convolution(torch.autograd.Function):
    """torch's, but that the bias's gradient is a plain sum: its own takes a third of the time."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, zeros: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.zeros = zeros
        return F.conv2d(x, weight, bias, padding=zeros)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype)
        padding = (ctx.zeros, ctx.zeros)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1),
            (*ctx.needs_input_grad[:2], False),
        )
        return grad_x, grad_weight, grad.sum(dim=(0, 2, 3)), None


class RecurrentCell(nn.Module, ABC):
    """One recurrent convolution: a sequence and a state in, hidden states and the new state out."""

    state_names: tuple[str, ...] = ("hidden",)
    # Whether the cell is faster on a CPU with channels last. Gates of single steps are not: their
    # channels are runs too short for vectors.
    channels_last: ClassVar[bool] = False

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        if in_channels < 1 or hidden_channels < 1:
            raise ConfigError(
                f"{in_channels} input and {hidden_channels} hidden channels: give at least one each"
            )
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Zeros (B, hidden, H, W) for each of `state_names`; float32 unless the cell is float64.

        Any other values of that shape are as good an initial state.
        """
        parameter = next(self.parameters())
        device = parameter.device if device is None else device
        dtype = state_dtype(parameter.dtype if dtype is None else dtype)
        shape = (batch_size, self.hidden_channels, height, width)
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in self.state_names}

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a sequence.

        Args:
            x: (B, T, in, H, W), T at least 1.
            state: from `init_state` or from the call before; it is left as it is.

        Returns:
            Hidden states (B, T, hidden, H, W) in x's dtype, and the state after the last step.

        Raises:
            FrameError, StateError: shapes that do not belong to this cell or to each other.
        """

    def check(self, x: Tensor, state: State) -> None:
        """Refuse a sequence or a state of another shape than this cell's."""
        if x.ndim != 5 or x.shape[1] < 1 or x.shape[2] != self.in_channels:
            raise FrameError(
                f"sequence of shape {tuple(x.shape)}: give (batch, at least 1 step, "
                f"{self.in_channels} channels, height, width)"
            )
        expected = (x.shape[0], self.hidden_channels, *x.shape[3:])
        for name in self.state_names:
            shape = tuple(state[name].shape) if name in state else None
            if shape != expected:
                raise StateError(
                    f"state {name!r} has shape {shape}, this input needs {expected}: "
                    "make it with init_state for the same batch and picture size"
                )


class ConvLSTMCell(RecurrentCell):
    """Convolutional LSTM: four gates from input and hidden state, hence one step at a time."""

    state_names = ("hidden", "cell")

    def __init__(
        self, in_channels: int, hidden_channels: int, *, padding: Padding = "zeros"
    ) -> None:
        super().__init__(in_channels, hidden_channels)
        self.conv = PaddedConv2d(
            in_channels + hidden_channels, 4 * hidden_channels, padding_kind=padding
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `RecurrentCell.forward`; the state has two leaves, "hidden" and "cell"."""
        self.check(x, state)
        hidden, cell = state["hidden"], state["cell"]
        steps = []
        for x_t in x.unbind(1):
            gates = self.conv(torch.cat([x_t, hidden.to(x.dtype)], dim=1)).to(cell.dtype)
            forget, enter, out, value = gates.chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(value)
            hidden = torch.sigmoid(out) * torch.tanh(cell)
            steps.append(hidden)
        return torch.stack(steps, dim=1).to(x.dtype), {"hidden": hidden, "cell": cell}


class ConvGRUCell(RecurrentCell):
    """Convolutional GRU: two convolutions a step, of input and (reset) hidden state."""

    def __init__(
        self, in_channels: int, hidden_channels: int, *, padding: Padding = "zeros"
    ) -> None:
        super().__init__(in_channels, hidden_channels)
        both = in_channels + hidden_channels
        self.gates = PaddedConv2d(both, 2 * hidden_channels, padding_kind=padding)
        self.candidate = PaddedConv2d(both, hidden_channels, padding_kind=padding)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `RecurrentCell.forward`."""
        self.check(x, state)
        hidden = state["hidden"]
        steps = []
        for x_t in x.unbind(1):
            gates = self.gates(torch.cat([x_t, hidden.to(x.dtype)], dim=1)).to(hidden.dtype)
            update, reset = torch.sigmoid(gates).chunk(2, dim=1)
            kept = (reset * hidden).to(x.dtype)
            value = torch.tanh(self.candidate(torch.cat([x_t, kept], dim=1))).to(hidden.dtype)
            hidden = (1 - update) * hidden + update * value
            steps.append(hidden)
        return torch.stack(steps, dim=1).to(x.dtype), {"hidden": hidden}


# --- Layers ---------------------------------------------------------------------------------------


class RecurrentLayer(nn.Module):
    """norm(x + cell(x)): the cell's hidden states, added to its input and normalised per step."""

    def __init__(self, cell: RecurrentCell, *, norm: Norm = "group") -> None:
        super().__init__()
        if cell.in_channels != cell.hidden_channels:
            raise ConfigError(
                f"{cell.in_channels} input and {cell.hidden_channels} hidden channels: a residual "
                "layer needs as many of the one as of the other"
            )
        if norm not in get_args(Norm):
            raise ConfigError(f"norm {norm!r}: allowed are {', '.join(get_args(Norm))}")
        self.cell = cell
        # One group: mean and variance over all of a frame's channels and pixels, so that a frame
        # is scaled by itself alone and any height and width fit the same weights.
        self.norm = nn.GroupNorm(1, cell.hidden_channels) if norm == "group" else nn.Identity()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Output and hidden states, both (B, T, C, H, W), and the new state."""
        hidden, state = self.cell(x, state)
        frames = self.norm((x + hidden).flatten(0, 1))
        return frames.unflatten(0, x.shape[:2]), hidden, state


class RecurrentStack(nn.Module):
    """Recurrent layers, one on top of the other; state names get the layer's number in front."""

    def __init__(self, cells: Sequence[RecurrentCell], *, norm: Norm = "group") -> None:
        super().__init__()
        if not cells:
            raise ConfigError("no cells: a stack needs at least one layer")
        self.layers = nn.ModuleList(RecurrentLayer(cell, norm=norm) for cell in cells)

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state of every layer before the first step: zeros."""
        return {
            f"{index}.{name}": leaf
            for index, layer in enumerate(self.layers)
            for name, leaf in layer.cell.init_state(
                batch_size, height, width, device=device, dtype=dtype
            ).items()
        }

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, list[Tensor], State]:
        """Run all layers over x (B, T, C, H, W).

        Returns:
            The last layer's output (B, T, C, H, W), each layer's hidden states, the new state.
        """
        if x.device.type == "cpu" and not any(layer.cell.channels_last for layer in self.layers):
            x = x.contiguous()
        after: State = {}
        all_hidden = []
        for index, layer in enumerate(self.layers):
            names = layer.cell.state_names
            missing = [name for name in names if f"{index}.{name}" not in state]
            if missing:
                raise StateError(
                    f"state lacks {index}.{missing[0]}: make it with this network's init_state"
                )
            x, hidden, new = layer(x, {name: state[f"{index}.{name}"] for name in names})
            after.update({f"{index}.{name}": leaf for name, leaf in new.items()})
            all_hidden.append(hidden)
        return x, all_hidden, after


def steps_per_block(num_steps: int, elements_per_step: int, device: torch.device) -> int:
    """Time steps to run at once: few on a CPU, for its caches; all on an accelerator."""
    if device.type != "cpu":
        return num_steps
    return min(num_steps, max(1, BLOCK_ELEMENTS // max(1, elements_per_step)))


def to_frames(x: Tensor) -> Tensor:
    """(B, T, C, H, W) as (B T, C, H, W), channels last on a CPU (oneDNN's faster layout)."""
    frames = x.flatten(0, 1)
    if x.device.type == "cpu":
        frames = frames.contiguous(memory_format=torch.channels_last)
    return frames


def pointwise(frames: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1 x 1 convolution of (N, C, H, W); on a CPU as a matrix product, channels last.

    With one channel in or out torch neither takes a fast convolution nor keeps the format.
    """
    if frames.device.type != "cpu":
        return conv(frames)
    pixels = F.linear(frames.movedim(1, -1), conv.weight.flatten(1), conv.bias)
    return pixels.movedim(-1, 1)
