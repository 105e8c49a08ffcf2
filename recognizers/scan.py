"""The MinConv recurrence over a whole sequence: three scans with one result.

    h_t = f_t h_{t-1} + (1 - f_t) g(c_t),    f_t = sigmoid(d_t)

(Horuz et al. 2025, "Minimal Convolutional RNNs Accelerate Spatiotemporal Learning", section 3.)
Gates depend on the input alone, and in all three cells they sum to one. So one number says
everything: d, the logit of the forget gate, and the cells differ only in how a convolution's
output becomes d (`split_gates`). Each step is a weighted mean of the state and a candidate, so h
stays between the smallest and the largest of them, however long the sequence.

`scan_reference` reads like the equation. `scan_log` is the published form: logarithms, a cumulative
sum and a logcumsumexp. `scan_fast` needs none of them: products of gates can only shrink, so the
recurrence may as well run in the linear domain. All that depends on the step before is one `lerp`;
everything else runs for all steps at once. The gradient of a linear recurrence is the same
recurrence run backwards, so the backward pass is written by hand, from gates, candidates and hidden
states, and autograd keeps no graph of T steps. On a CPU the lerps run one after the other, each
over B C H W elements in cache; on an accelerator, where launching T small kernels would take longer
than their work, sqrt(T) chunks run side by side (`run_two_level`).

Letters: B batch, T time steps, C hidden channels, H W height and width, G gates of a cell.
    projected (B, T, G C, H, W)   initial (B, C, H, W), any real numbers
    every scan returns hidden (B, T, C, H, W) in the dtype of `projected`, and the last hidden state
    (B, C, H, W) in float32 (float64 for float64), to be carried into the next call.
Half types are widened to float32 inside, so cutting a sequence in two changes no rounding.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Gate = Literal["lstm", "gru", "explstm"]
Scan = Callable[[Tensor, Tensor, Gate], tuple[Tensor, Tensor]]

# Channels of `projected` for each hidden channel, candidate included.
NUM_PROJECTIONS: dict[Gate, int] = {"lstm": 3, "gru": 2, "explstm": 3}


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which the state is carried: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def split_gates(projected: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """Forget-gate logit d and candidate c, both (B, T, C, H, W), from a convolution's output.

    lstm: gates sigmoid(a), sigmoid(b), normalised to sum to one: f = sigmoid(a) / (sigmoid(a) +
    sigmoid(b)), hence d = log sigmoid(a) - log sigmoid(b). gru: f = 1 - sigmoid(k), d = -k.
    explstm: exponential gates e^a and e^b, normalised in the same way: d = a - b.
    """
    if gate == "gru":
        update, candidate = projected.chunk(2, dim=2)
        return -update, candidate
    forget, enter, candidate = projected.chunk(3, dim=2)
    if gate == "explstm":
        return forget - enter, candidate
    return F.softplus(-enter) - F.softplus(-forget), candidate


def positive(candidate: Tensor) -> Tensor:
    """g(c): c + 0.5 where c >= 0, sigmoid(c) below; continuous and positive."""
    return torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))


def log_positive(candidate: Tensor) -> Tensor:
    """log g(c), without underflow for very negative c."""
    return torch.where(candidate >= 0, torch.log(F.relu(candidate) + 0.5), -F.softplus(-candidate))


def scan_reference(projected: Tensor, initial: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """The recurrence, one step after the other."""
    wide = state_dtype(projected.dtype)
    logit, candidate = split_gates(projected.to(wide), gate)
    forget, value = torch.sigmoid(logit), positive(candidate)
    hidden = initial.to(wide)
    steps = []
    for t in range(projected.shape[1]):
        hidden = forget[:, t] * hidden + (1 - forget[:, t]) * value[:, t]
        steps.append(hidden)
    return torch.stack(steps, dim=1).to(projected.dtype), hidden


def scan_log(projected: Tensor, initial: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """The published scan: log h_t = a_t + logcumsumexp(log(i_t g_t) - a_t), a = cumsum(log f).

    Two things differ from the published code. The initial state's share, f_1 ... f_t h_0, is added
    outside of the logarithm, so h_0 may be zero or negative; and half types are widened. What
    remains is the form's own limit: a falls by up to tens a step, so at T in the thousands float32
    leaves a few digits of exp(... - a_t) (the tests put a number on it).
    """
    wide = state_dtype(projected.dtype)
    logit, candidate = split_gates(projected.to(wide), gate)
    decay = torch.cumsum(F.logsigmoid(logit), dim=1)
    added = F.logsigmoid(-logit) + log_positive(candidate)
    hidden = torch.exp(decay + torch.logcumsumexp(added - decay, dim=1))
    hidden = hidden + torch.exp(decay) * initial.to(wide)[:, None]
    return hidden.to(projected.dtype), hidden[:, -1]


def scan_fast(projected: Tensor, initial: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """The recurrence in the linear domain, with a backward pass of its own.

    Exact to rounding for any gates and any length: products of gates only ever shrink, so nothing
    can overflow. Gradients flow to `projected` and `initial`; they can be taken once.
    """
    if gate != "lstm":
        *gates, candidate = projected.chunk(NUM_PROJECTIONS[gate], dim=2)
        projected = torch.cat([*forget_logits(gates, gate), candidate], dim=2)
    return scan_joined(projected, initial)


def forget_logits(gates: Sequence[Tensor], gate: Gate) -> list[Tensor]:
    """What `scan_joined` reads, from a cell's gates; linear, so it may be given their weights.

    gru: -k. explstm: a - b. lstm: both, as they are.
    """
    if gate == "gru":
        return [-gates[0]]
    return [gates[0] - gates[1]] if gate == "explstm" else list(gates)


def scan_joined(joined: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """`scan_fast` for forget logits and candidate side by side.

    Args:
        joined: (B, T, 2 C, H, W): d and c; or (B, T, 3 C, H, W): a, b and c, for a forget gate of
            sigmoid(a) / (sigmoid(a) + sigmoid(b)).
        initial: (B, C, H, W).
    """
    return _FastScan.apply(joined, initial)


SCANS: dict[str, Scan] = {"reference": scan_reference, "log": scan_log, "fast": scan_fast}


# --- The fast scan --------------------------------------------------------------------------------

# Where both gates of the LSTM lie below this, the sigmoids of -85, the forget gate vanishes with
# them: the ratio stays defined.
SMALLEST_GATES = 1e-37
# Hidden states of a piece of a sequence: half a MiB, so that what a pass leaves is in a core's own
# cache when the next one reads it.
PIECE_ELEMENTS = 1 << 17
# The largest float32 below 1/2: g(c) exceeds it where c >= 0.
BELOW_HALF = 0.5 - 2.0**-25


class _FastScan(torch.autograd.Function):
    """Elementwise passes are what a scan costs on a CPU, so each one was measured.

    A sequence is read in pieces, and passes write over what they read or into the same few rooms:
    fresh memory costs more than a pass. Logits and candidate are copied out of `joined` first: with
    channels last, their channels are runs too short for vectors. `torch.where` and softplus are
    avoided, each costs ten times a product. Kept for the backward pass: the forget gate, g(c), the
    hidden states, and the LSTM's two sigmoids.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, joined: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        count = joined.shape[2] // initial.shape[1]
        wide = state_dtype(joined.dtype)
        kept = [_empty(joined, initial.shape[1], wide) for _ in range(2 if count == 2 else 4)]
        hidden, last = torch.empty_like(kept[0]), initial.to(wide, copy=True)
        pieces = _pieces(hidden)
        room = torch.empty_like(hidden[pieces[0]])
        for rows, steps in pieces:
            parts = [leaf[rows, steps] for leaf in kept]
            space = room[: len(parts[0]), : parts[0].shape[1]]
            _open_gates(joined[rows, steps].chunk(count, dim=2), parts, space)
            _run(parts[0], parts[1], last[rows], hidden[rows, steps])
            last[rows] = hidden[rows, steps.stop - 1]
        ctx.save_for_backward(hidden, *kept)
        return hidden.to(joined.dtype), last

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_hidden: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor]:
        hidden, *kept = ctx.saved_tensors
        count = 2 if len(kept) == 2 else 3
        grad_joined = _empty(hidden, count * hidden.shape[2], grad_hidden.dtype)
        grad_state = grad_last.clone()
        pieces = _pieces(hidden)
        rooms = [torch.empty_like(hidden[pieces[0]]) for _ in range(3)]
        for rows, steps in reversed(pieces):
            forget, value, *gates = (leaf[rows, steps] for leaf in kept)
            grad, gain, room = (leaf[: len(value), : value.shape[1]] for leaf in rooms)
            _run_backwards(forget, grad_hidden[rows, steps].to(value.dtype), grad_state[rows], grad)
            torch.mul(forget[:, 0], grad[:, 0], out=grad_state[rows])
            # The candidate's share is (1 - f) G. That of d is f (1 - f) (h_{t-1} - g) G, and
            # f (h_{t-1} - g) is h_t - g.
            grad.addcmul_(grad, forget, value=-1.0)
            torch.sub(hidden[rows, steps], value, out=gain).mul_(grad)
            *logits, candidate = grad_joined[rows, steps].chunk(count, dim=2)
            candidate.copy_(_candidate_grad(grad, value, room))
            if gates:  # d = log sigmoid(a) - log sigmoid(b)
                logits[0].copy_(torch.addcmul(gain, gain, gates[0], value=-1.0, out=room))
                gain.neg_().addcmul_(gain, gates[1], value=-1.0)
            logits[-1].copy_(gain)
        return grad_joined, grad_state


def _pieces(hidden: Tensor) -> list[tuple[slice, slice]]:
    """A batch of sequences cut in (rows, steps), in order of time; on a CPU each fits in cache."""
    batch, num_steps = hidden.shape[:2]
    rows, steps = batch, num_steps
    if hidden.device.type == "cpu":
        steps_in_piece = max(1, PIECE_ELEMENTS * batch * num_steps // max(1, hidden.numel()))
        # Steps of one row lie side by side in memory, rows of one step do not.
        rows, steps = max(1, steps_in_piece // num_steps), min(num_steps, steps_in_piece)
    return [
        (slice(row, min(row + rows, batch)), slice(step, min(step + steps, num_steps)))
        for row in range(0, batch, rows)
        for step in range(0, num_steps, steps)
    ]


def _empty(like: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """A dense tensor of another number of channels and dtype, in the same memory format."""
    batch, steps, _, height, width = like.shape
    if like.stride(2) != 1:
        return like.new_empty(batch, steps, channels, height, width, dtype=dtype)
    return like.new_empty(batch, steps, height, width, channels, dtype=dtype).movedim(-1, 2)


def _open_gates(sources: Sequence[Tensor], parts: Sequence[Tensor], room: Tensor) -> None:
    """Forget gate, g(c) and the LSTM's sigmoids into `parts`, from logits and candidate."""
    *logits, candidate = sources
    forget, value, *gates = parts
    # g(c) = max(sigmoid(c), c + 1/2): they meet at 0, where sigmoid has the lesser slope.
    torch.add(value.copy_(candidate), 0.5, out=room)
    torch.maximum(value.sigmoid_(), room, out=value)
    for gate, logit in zip(gates or (forget,), logits, strict=True):
        gate.copy_(logit).sigmoid_()
    if gates:
        torch.add(*gates, out=room).clamp_min_(SMALLEST_GATES)
        torch.div(gates[0], room, out=forget)


def _candidate_grad(grad: Tensor, value: Tensor, room: Tensor) -> Tensor:
    """dg/dc * grad, in `room`: grad where c >= 0, grad g (1 - g) below; `grad` is overwritten.

    Without a branch: min(g, 1/2) has the slope 1/4 where c >= 0, and three quarters are added.
    """
    torch.clamp_max(value, 0.5, out=room)
    torch.ops.aten.sigmoid_backward.grad_input(grad, room, grad_input=room)
    torch.ops.aten.threshold_backward.grad_input(grad, value, BELOW_HALF, grad_input=grad)
    return room.add_(grad, alpha=0.75)


def _two_levels(like: Tensor) -> bool:
    return like.device.type != "cpu" and like.shape[1] >= TWO_LEVEL_STEPS


def _run(forget: Tensor, value: Tensor, initial: Tensor, hidden: Tensor) -> None:
    """h_t = f_t h_{t-1} + (1 - f_t) v_t, written into `hidden`."""
    if _two_levels(value):
        torch.addcmul(value, value, forget, value=-1.0, out=hidden)
        run_two_level(forget, hidden, initial)
        return
    state = initial
    for f, v, h in zip(forget.unbind(1), value.unbind(1), hidden.unbind(1), strict=True):
        state = torch.lerp(v, state, f, out=h)


def _run_backwards(forget: Tensor, given: Tensor, given_last: Tensor, grad: Tensor) -> None:
    """The gradient of each hidden state, G_t = g_t + f_{t+1} G_{t+1}, written into `grad`."""
    num_steps = grad.shape[1]
    torch.add(given[:, -1], given_last, out=grad[:, -1])
    if _two_levels(grad):
        # Time reversed, the decay between two steps is that of the later one.
        added = torch.cat([grad[:, -1:], given[:, :-1].flip(1)], dim=1)
        decay = torch.cat([forget[:, :1], forget[:, 1:].flip(1)], dim=1)
        run_two_level(decay, added, torch.zeros_like(added[:, 0]))
        grad.copy_(added.flip(1))
        return
    for t in range(num_steps - 2, -1, -1):
        torch.addcmul(given[:, t], forget[:, t + 1], grad[:, t + 1], out=grad[:, t])


# From this length on, fewer kernel launches on an accelerator are worth twice the arithmetic.
TWO_LEVEL_STEPS = 16


def run_two_level(decay: Tensor, added: Tensor, initial: Tensor) -> None:
    """h_t = a_t h_{t-1} + b_t, written over b, in about 2 sqrt(T) dependent steps instead of T.

    The sequence is cut in sqrt(T) chunks. All chunks run at once from zero, and beside their states
    the product of their decays; then the states at chunk ends are carried from chunk to chunk;
    then each step gets its share of what was carried in. Products of decays in [0, 1] shrink at
    worst to 0, which is then the right answer, so no logarithm is needed.

    Args:
        decay, added: (B, T, ...), of one dtype; `decay` is left as it is.
        initial: (B, ...).
    """
    num_steps = added.shape[1]
    size = max(1, round(num_steps**0.5))
    num_chunks = num_steps // size
    whole = num_chunks * size
    carried = initial
    if num_chunks > 1:
        h = added[:, :whole].unflatten(1, (num_chunks, size))
        a = decay[:, :whole].unflatten(1, (num_chunks, size))
        product = a.clone()
        for q in range(1, size):
            h[:, :, q].addcmul_(a[:, :, q], h[:, :, q - 1])
            product[:, :, q].mul_(product[:, :, q - 1])
        entering = []
        for k in range(num_chunks):
            entering.append(carried)
            carried = torch.addcmul(h[:, k, -1], product[:, k, -1], carried)
        h.addcmul_(product, torch.stack(entering, dim=1)[:, :, None])
    else:
        whole = 0
    for t in range(whole, num_steps):
        carried = added[:, t].addcmul_(decay[:, t], carried)
