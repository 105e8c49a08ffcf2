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


# Weights of the chunks that are worked on together, in elements: fewer, larger operations on
# short sequences, while all of it stays in a core's cache.
MAX_WEIGHTS = 1 << 16


def _chunks(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Some chunks as matrix products (Mamba-2, section 6), float32 throughout, without D.

    x (b, k, q, h, p): k chunks of q tokens; the other operands are cut in the same way.
    """
    b, k, q, h, p = x.shape
    g, n = B.shape[3:]
    log_decay = torch.cumsum(dt * A, dim=2)  # (b, k, q, h), falling
    x = x * dt[..., None]
    B, C = B.transpose(2, 3), C.transpose(2, 3)  # (b, k, g, q, n)

    # Inside a chunk: attention-like weights (C_i . B_j) prod_{k=j+1..i} a_k for j <= i.
    by_head = log_decay.transpose(2, 3).contiguous()
    future = torch.ones(q, q, dtype=torch.bool, device=x.device).triu_(1)
    decay = (by_head[..., :, None] - by_head[..., None, :]).masked_fill_(future, -torch.inf)
    decay = decay.exp_().view(b, k, g, h // g, q, q)
    similarity = (C @ B.transpose(-1, -2))[:, :, :, None]  # (b, k, g, 1, q, q)
    weights = decay * similarity if decay.requires_grad else decay.mul_(similarity)
    inside = weights.view(b, k, h, q, q) @ x.transpose(2, 3)  # (b, k, h, q, p)

    # What each chunk adds to the state, and the state before each chunk. Heads of one group share
    # B and C, so they are folded into one wide product.
    to_end = torch.exp(log_decay[:, :, -1:] - log_decay)
    scaled = (x * to_end[..., None]).view(b, k, q, g, (h // g) * p).permute(0, 1, 3, 4, 2)
    added = (scaled @ B).view(b, k, h, p, n)
    kept = torch.exp(log_decay[:, :, -1])[..., None, None]
    before = []
    for i in range(k):
        before.append(state)
        state = torch.addcmul(added[:, i], kept[:, i], state)

    carried = torch.stack(before, dim=1).view(b, k, g, (h // g) * p, n)
    from_state = (C @ carried.transpose(-1, -2)).transpose(2, 3).reshape(b, k, q, h, p)
    y = torch.addcmul(inside.transpose(2, 3), from_state, torch.exp(log_decay)[..., None])
    return y, state


def _best_chunk(chunk_size: int, head_dim: int, state_size: int) -> int:
    """Tokens of a chunk: any number gives the same result.

    A chunk of q tokens costs each head q for its weights and head_dim * state_size / q for its
    state, a token; they balance near the square root.
    """
    balanced = 1 << ((head_dim * state_size).bit_length() - 1) // 2
    return min(chunk_size, max(16, balanced))


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
    """Chunked matrix products in plain torch, on any device, a loop over groups of chunks.

    Extra memory is that of a few chunks, because only they are widened to float32 at a time:
    O(H Q^2 + H P N + G Q N), whatever the length.
    """
    batch, num_tokens, heads, head_dim = x.shape
    if num_tokens == 1:
        return ssd_reference(x, dt, A, B, C, D, state, chunk_size)
    chunk = _best_chunk(chunk_size, head_dim, B.shape[3])
    together = max(1, MAX_WEIGHTS // (batch * heads * chunk * max(chunk, head_dim)))
    # Writing into one result halves the peak, but autograd needs the parts.
    keep_parts = torch.is_grad_enabled() and any(t.requires_grad for t in (x, dt, A, B, C, state))
    result = x if keep_parts else torch.empty_like(x)
    parts = []
    start = 0
    while start < num_tokens:
        whole = min(together, (num_tokens - start) // chunk)
        sizes = (whole, chunk) if whole else (1, num_tokens - start)
        span = slice(start, start + sizes[0] * sizes[1])
        start = span.stop
        x_part, dt_part, B_part, C_part = (
            t[:, span].float().unflatten(1, sizes) for t in (x, dt, B, C)
        )
        y, state = _chunks(x_part, dt_part, A, B_part, C_part, state)
        y = torch.addcmul(y, x_part, D[:, None]).flatten(1, 2)
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
