"""Bi-WKV: attention over a picture's tokens at linear cost (Vision-RWKV, arXiv 2403.02308, eq. 5).

Every token takes a weighted mean of all values. The weight of value i in token t is, per channel,

    exp(k_i - w (|t - i| - 1) / L)  for i != t,    exp(k_t + u)  for i = t:

a key says how much its token matters anywhere, a decay w how much less it matters far away, a bonus
u how much a token matters to itself. Distance is divided by the number of tokens, so that w means
the same for pictures of any size, and may be negative (far tokens matter more).

Three ways to one result, all in float32 (float64 for float64 inputs) whatever comes in:

    bi_wkv_reference   the equation; cost L^2
    bi_wkv_scan        two passes over the tokens with a running maximum; cost L, any w and u
    bi_wkv             cumulative sums, no loop; cost L, |w| <= MAX_DECAY and u >= MIN_BONUS

Legend: B = batch, L = tokens, C = channels; t, i = token positions; w, u = decay and bonus (C,);
k, v = keys and values (B, L, C).
"""

import torch
from torch import Tensor

# `bi_wkv` writes exp(-w |t - i| / L) as a product of exp(+-w position), positions in [-1/2, 1/2].
# A term below exp(-87) of the largest is then lost to float32, although its true weight may be
# exp(1.5 |w|) larger: with |w| <= 30 that is below exp(-42) of what the largest key weighs. In the
# token that has the largest key it competes with exp(u) instead: with u >= -20 it is below
# exp(-22), still far under the precision of the sum.
MAX_DECAY = 30.0
MIN_BONUS = -20.0


def bi_wkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, C) in v's dtype: the equation as a softmax over all pairs; memory B x L x L x C."""
    dtype = v.dtype
    w, u, k, v = _accumulators(w, u, k, v)
    num_tokens = k.shape[1]
    position = torch.arange(num_tokens, device=k.device)
    distance = (position[:, None] - position).abs()[..., None]  # (L, L, 1)
    log_weight = torch.where(distance > 0, -w * (distance - 1) / num_tokens, u)
    weight = torch.softmax(log_weight + k[:, None], dim=2)  # (B, t, i, C)
    return (weight * v[:, None]).sum(2).to(dtype)


def bi_wkv_scan(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, C) in v's dtype: one pass each way, sums kept relative to a running maximum.

    Exact for any decay and any key. A Python loop over tokens: `bi_wkv` is the fast one.
    """
    dtype = v.dtype
    w, u, k, v = _accumulators(w, u, k, v)
    before = _decayed_sums(w / k.shape[1], k, v)
    after = [sums.flip(1) for sums in _decayed_sums(w / k.shape[1], k.flip(1), v.flip(1))]
    parts = [before, after, (k + u, v, torch.ones_like(v))]
    largest = torch.stack([maximum for maximum, _, _ in parts]).amax(0)
    scales = [torch.exp(maximum - largest) for maximum, _, _ in parts]
    numerator = sum(scale * part[1] for scale, part in zip(scales, parts, strict=True))
    denominator = sum(scale * part[2] for scale, part in zip(scales, parts, strict=True))
    return (numerator / denominator).to(dtype)


def bi_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, C) in v's dtype: the same by cumulative sums.

    Args:
        w: (C,), decay; the caller keeps it in [-MAX_DECAY, MAX_DECAY].
        u: (C,), bonus of the token itself; the caller keeps it at MIN_BONUS or more.
        k: (B, L, C), keys, any size.
        v: (B, L, C), values.
    """
    dtype = v.dtype
    w, u, k, v = _accumulators(w, u, k, v)
    num_tokens = k.shape[1]
    middle = (num_tokens - 1) / 2
    position = (torch.arange(num_tokens, device=k.device, dtype=k.dtype) - middle) / num_tokens
    rise = torch.exp(position[:, None] * w)  # (L, C), grows with the position where w > 0
    fall = 1.0 / rise
    # Scales that cancel in the quotient: the largest key of each channel, and the bonus where the
    # token itself outweighs that key. No gradient goes through them.
    key = k - k.detach().amax(1, keepdim=True)
    own = key + u
    excess = own.detach().clamp(min=0.0)
    weight = torch.exp(key)
    # Distance counts from the neighbour, hence the one step that is given back.
    outer = torch.exp(w / num_tokens - excess)
    from_left, from_right = outer * fall, outer * rise
    self_weight = torch.exp(own - excess)
    left_weight, right_weight = weight * rise, weight * fall
    numerator = from_left * _sum_before(left_weight * v) + from_right * _sum_after(right_weight * v)
    denominator = from_left * _sum_before(left_weight) + from_right * _sum_after(right_weight)
    return ((numerator + self_weight * v) / (denominator + self_weight)).to(dtype)


def _sum_before(x: Tensor) -> Tensor:
    """Sums of all earlier tokens, (B, L, C)."""
    return torch.nn.functional.pad(x[:, :-1].cumsum(1), (0, 0, 1, 0))


def _sum_after(x: Tensor) -> Tensor:
    """Sums of all later tokens, (B, L, C). Not total minus prefix: that would cancel."""
    return _sum_before(x.flip(1)).flip(1)


def _decayed_sums(step: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over earlier tokens, decaying by exp(-step) a token: maxima, sums of e^k v and of e^k.

    All (B, L, C); sums are relative to exp(maximum). Before the first token the maximum is lower
    than any key's and the sums are 0.
    """
    maximum = torch.full_like(k[:, 0], torch.finfo(k.dtype).min / 4)
    weighted, total = torch.zeros_like(maximum), torch.zeros_like(maximum)
    steps = []
    for key, value in zip(k.unbind(1), v.unbind(1), strict=True):
        steps.append((maximum, weighted, total))
        # The token just read counts in full at the next one; what lies behind it decays.
        decayed = maximum - step
        maximum = torch.maximum(decayed, key)
        old, new = torch.exp(decayed - maximum), torch.exp(key - maximum)
        weighted, total = old * weighted + new * value, old * total + new
    return tuple(torch.stack(column, dim=1) for column in zip(*steps, strict=True))


def _accumulators(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Float32 at least: half-precision sums over hundreds of tokens lose what they add up."""
    return tuple(x if x.dtype == torch.float64 else x.float() for x in tensors)
