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

from collections.abc import Callable
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
    """The recurrence in the linear domain, block by block, with a backward pass of its own.

    Exact to rounding for any gates and any length: products of gates only ever shrink, so nothing
    can overflow. Gradients flow to `projected` and `initial`; they can be taken once.
    """
    return _FastScan.apply(projected, initial, gate)


SCANS: dict[str, Scan] = {"reference": scan_reference, "log": scan_log, "fast": scan_fast}


# --- The fast scan --------------------------------------------------------------------------------

# A sigmoid below this counts as this: the ratio of two gates stays defined. It is the gate of a
# logit of -85.
SMALLEST_GATE = 1e-37
# The largest float32 below 1/2: g(c) exceeds it where c >= 0.
BELOW_HALF = 0.5 - 2.0**-25


class _FastScan(torch.autograd.Function):
    """Elementwise passes are what a scan costs on a CPU, so each one here was measured.

    Kept for the backward pass: gates, g(c) and the hidden states, whatever else can be had from
    these. `torch.where` and softplus are avoided: on a CPU each costs ten times a product.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, projected: Tensor, initial: Tensor, gate: Gate
    ) -> tuple[Tensor, Tensor]:
        wide = state_dtype(projected.dtype)
        *gate_parts, candidate = projected.to(wide).chunk(NUM_PROJECTIONS[gate], dim=2)
        forget, gates = _forget_gate(gate_parts, gate)
        # g(c) = max(sigmoid(c), c + 1/2): they meet at 0, where sigmoid has the lesser slope.
        value = torch.sigmoid(candidate)
        torch.maximum(value, candidate + 0.5, out=value)
        hidden = torch.empty_like(value)
        _run(forget, value, initial.to(wide), hidden)
        last = hidden[:, -1].clone()
        hidden = hidden.to(projected.dtype)
        ctx.save_for_backward(initial, value, hidden, *gates)
        ctx.gate = gate
        ctx.channels_last = projected.stride(2) == 1
        return hidden, last

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, grad_hidden: Tensor, grad_last: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        initial, value, hidden, *gates = ctx.saved_tensors
        forget = gates[0] if len(gates) == 1 else gates[0] / (gates[0] + gates[1])
        grad = torch.empty_like(value)
        _run_backwards(forget, grad_hidden.to(value.dtype), grad_last, grad)
        grad_initial = (forget[:, 0] * grad[:, 0]).to(initial.dtype)

        # dh/df is the state before the step less the candidate's value; dh/dg is 1 - f.
        gain = torch.empty_like(value)
        torch.sub(initial.to(value.dtype), value[:, 0], out=gain[:, 0])
        torch.sub(hidden[:, :-1], value[:, 1:], out=gain[:, 1:])
        gain.mul_(grad)
        grad.addcmul_(grad, forget, value=-1.0)

        grad_projected, parts = _empty_projected(value, ctx.gate, ctx.channels_last)
        _gate_grads(parts[:-1], gain, forget, gates)
        _candidate_grad(parts[-1], grad, value)
        return grad_projected.to(hidden.dtype), grad_initial, None


def _forget_gate(parts: list[Tensor], gate: Gate) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The forget gate f, and what the backward pass needs of the gates: f, or both of the LSTM."""
    if gate == "lstm":
        forget, enter = (torch.sigmoid(part).clamp_min_(SMALLEST_GATE) for part in parts)
        return forget / (forget + enter), (forget, enter)
    logit = -parts[0] if gate == "gru" else parts[0] - parts[1]
    forget = logit.sigmoid_()
    return forget, (forget,)


def _gate_grads(
    parts: list[Tensor], grad_forget: Tensor, forget: Tensor, gates: list[Tensor]
) -> None:
    """Write the gradients of the gates' logits into `parts`, given that of f (overwritten)."""
    sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
    if len(gates) == 2:  # lstm: dd/da = 1 - sigmoid(a), dd/db = sigmoid(b) - 1
        grad_logit = sigmoid_backward(grad_forget, forget, grad_input=grad_forget)
        torch.addcmul(grad_logit, grad_logit, gates[0], value=-1.0, out=parts[0])
        grad_logit.neg_()
        torch.addcmul(grad_logit, grad_logit, gates[1], value=-1.0, out=parts[1])
    elif len(parts) == 2:  # explstm: d = a - b
        sigmoid_backward(grad_forget, forget, grad_input=parts[0])
        torch.neg(parts[0], out=parts[1])
    else:  # gru: d = -k
        sigmoid_backward(grad_forget.neg_(), forget, grad_input=parts[0])


def _candidate_grad(part: Tensor, grad: Tensor, value: Tensor) -> None:
    """Write dg/dc * grad into `part`: grad where c >= 0, grad g (1 - g) below.

    Without a branch: min(g, 1/2) has the slope 1/4 where c >= 0, and three quarters are added.
    """
    below = torch.ops.aten.sigmoid_backward(grad, value.clamp_max(0.5))
    above = torch.ops.aten.threshold_backward(grad, value, BELOW_HALF)
    torch.add(below, above, alpha=0.75, out=part)


def _empty_projected(value: Tensor, gate: Gate, channels_last: bool) -> tuple[Tensor, list[Tensor]]:
    """Room for the gradient of `projected`, in its memory format, and its parts."""
    batch, steps, channels, height, width = value.shape
    channels *= NUM_PROJECTIONS[gate]
    if channels_last:
        empty = value.new_empty(batch, steps, height, width, channels).permute(0, 1, 4, 2, 3)
    else:
        empty = value.new_empty(batch, steps, channels, height, width)
    return empty, list(empty.chunk(NUM_PROJECTIONS[gate], dim=2))


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
