"""The state space dual (SSD) scan of Mamba-2: one recurrence, three backends with one result.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

(Dao and Gu 2024, "Transformers are SSMs", sections 3 and 6.)

Letters: b batch, l (L) tokens, h (H) heads, p (P) channels of a head, g (G) groups of heads that
share B and C, n (N) state size, Q tokens of a chunk.
    x (b, l, h, p)   dt (b, l, h), positive, already softplus-ed; 0 leaves the state untouched
    A (h), negative  B, C (b, l, g, n)   D (h)   state (b, h, p, n), float32
Every backend returns `(y, state)`: y (b, l, h, p) in x's dtype and the new float32 state.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from timevlm.errors import ModelError

Scan = Callable[..., tuple[Tensor, Tensor]]


def ssd_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """The recurrence, one token after the other. `chunk_size` has no effect here."""
    heads_per_group = x.shape[2] // B.shape[2]
    outputs = []
    for t in range(x.shape[1]):
        x_t, dt_t = x[:, t].float(), dt[:, t].float()
        B_t = B[:, t].float().repeat_interleave(heads_per_group, dim=1)
        C_t = C[:, t].float().repeat_interleave(heads_per_group, dim=1)
        decay = torch.exp(dt_t * A)[..., None, None]
        state = decay * state + (dt_t[..., None] * x_t)[..., None] * B_t[:, :, None, :]
        y_t = (state * C_t[:, :, None, :]).sum(dim=-1) + D[:, None] * x_t
        outputs.append(y_t.to(x.dtype))
    return torch.stack(outputs, dim=1) if outputs else x, state


def _chunk(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """One chunk as matrix products (Mamba-2, section 6): x (b, q, h, p), float32 throughout."""
    b, q, h, p = x.shape
    g, n = B.shape[2], B.shape[3]
    log_decay = torch.cumsum(dt * A, dim=1).transpose(1, 2)  # (b, h, q), falling
    dt = dt.transpose(1, 2)
    x = x.transpose(1, 2)  # (b, h, q, p)
    B, C = B.transpose(1, 2), C.transpose(1, 2)  # (b, g, q, n)

    # Inside the chunk: attention-like weights (C_i . B_j) dt_j prod_{k=j+1..i} a_k for j <= i.
    future = torch.ones(q, q, dtype=torch.bool, device=x.device).triu(1)
    decay = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill_(future, -torch.inf)
    weights = torch.exp(decay) * dt[:, :, None, :]  # (b, h, q, q)
    similarity = C @ B.transpose(-1, -2)  # (b, g, q, q)
    weights = weights.view(b, g, h // g, q, q) * similarity[:, :, None]
    y = weights.view(b, h, q, q) @ x

    # From the carried state, and the state that goes on. Heads of one group share B and C, so
    # they are folded into one wide product.
    folded = state.view(b, g, (h // g) * p, n)
    from_state = (C @ folded.transpose(-1, -2)).view(b, g, q, h // g, p)
    from_state = from_state.transpose(2, 3).reshape(b, h, q, p)
    y = y + from_state * torch.exp(log_decay)[..., None]

    to_end = torch.exp(log_decay[..., -1:] - log_decay) * dt  # (b, h, q)
    scaled = (x * to_end[..., None]).view(b, g, h // g, q, p).transpose(-1, -2)
    update = scaled.reshape(b, g, (h // g) * p, q) @ B
    state = torch.exp(log_decay[..., -1])[..., None, None] * state + update.view(b, h, p, n)
    return y.transpose(1, 2), state


def ssd_torch(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Chunked matrix products in plain torch, on any device, a loop over chunks.

    Extra memory is that of a single chunk, because only one chunk is widened to float32 at a
    time: O(H Q^2 + G Q N), whatever the length.
    """
    num_tokens = x.shape[1]
    if num_tokens == 1:
        return ssd_reference(x, dt, A, B, C, D, state, chunk_size)
    # Writing into one result halves the peak, but autograd needs the parts.
    keep_parts = torch.is_grad_enabled() and any(t.requires_grad for t in (x, dt, A, B, C, state))
    result = x if keep_parts else torch.empty_like(x)
    parts = []
    for start in range(0, num_tokens, chunk_size):
        span = slice(start, start + chunk_size)
        x_chunk = x[:, span].float()
        y, state = _chunk(
            x_chunk, dt[:, span].float(), A, B[:, span].float(), C[:, span].float(), state
        )
        y = y + D[:, None] * x_chunk
        if keep_parts:
            parts.append(y.to(x.dtype))
        else:
            result[:, span] = y
    return (torch.cat(parts, dim=1) if keep_parts and parts else result), state


def ssd_triton(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """mamba-ssm's Triton kernels. Tensors must be on a CUDA device."""
    if x.shape[1] == 1:
        return ssd_reference(x, dt, A, B, C, D, state, chunk_size)
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    y, state = mamba_chunk_scan_combined(
        x.contiguous(),
        dt.contiguous(),
        A,
        B.contiguous(),
        C.contiguous(),
        chunk_size,
        D=D,
        initial_states=state,
        return_final_states=True,
    )
    return y.to(x.dtype), state.float()


BACKENDS: dict[str, Scan] = {
    "reference": ssd_reference,
    "torch": ssd_torch,
    "triton": ssd_triton,
}


def triton_problem() -> str | None:
    """Why mamba-ssm's kernels cannot be used here, in one line, or None when they can."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if find_spec("mamba_ssm") is None:
        return 'mamba-ssm is not installed; run: pip install "timevlm[cuda]"'
    try:
        from mamba_ssm.ops.triton import ssd_combined  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return f"mamba-ssm does not import: {str(error).splitlines()[0]}"
    return None


def choose_backend(requested: str, device_type: str) -> str:
    """Name of the scan to use on a device: `requested`, or the best one for "auto".

    Raises `ModelError` for an unknown name, or for "triton" where its kernels cannot run.
    """
    if requested == "auto":
        return "triton" if device_type == "cuda" and triton_problem() is None else "torch"
    if requested not in BACKENDS:
        raise ModelError(f"SSD backend {requested!r} is unknown; use auto, {', '.join(BACKENDS)}")
    if requested == "triton":
        problem = "tensors are not on CUDA" if device_type != "cuda" else triton_problem()
        if problem:
            raise ModelError(f"SSD backend 'triton' cannot run: {problem}; use 'torch'")
    return requested
