"""Grouped-query attention over carried keys and values, on SDPA, without an (L, L) mask.

There is no positional encoding (NemotronH): the Mamba-2 layers know where things are. So the
order of the carried keys does not matter, and a ragged batch may leave holes between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.config import HybridConfig
from timevlm.llm.state import AttentionState, TokenStore

# Entries of a mask built at one time. Queries go in blocks so that the mask stays this small
# however many keys there are.
MAX_MASK_ENTRIES = 1 << 22
# What SDPA itself calls on a CPU; unlike SDPA it also returns the log-sum-exp. Where a torch
# release lacks it, the masked path below gives the same result.
_CPU_FLASH = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)

Place = TypeVar("Place", int, Tensor)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, key_valid: Tensor | None = None, causal: bool = True
) -> Tensor:
    """Softmax attention of the LAST `Lq` positions, as queries, over all `T` positions.

    q (B, H, Lq, D), k and v (B, KV, T, D), key_valid (B, T) or None; returns (B, H, Lq, D).
    With `causal`, query i sees the keys up to its own position T - Lq + i. A query always sees
    its own key, so that rows of padding stay finite; without `causal`, a row that has no valid
    key gives zeros.
    """
    num_queries, num_keys = q.shape[2], k.shape[2]
    grouped = q.shape[1] != k.shape[1]
    if key_valid is None and (not causal or num_queries == 1):
        # Heads that share keys go side by side as queries: nothing is repeated.
        folded = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
        return F.scaled_dot_product_attention(folded, k, v).reshape(q.shape)
    if key_valid is None and num_queries == num_keys:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

    past = num_keys - num_queries if causal else 0
    if key_valid is None and _CPU_FLASH and q.device.type == "cpu" and not _needs_grad(q, k, v):
        return _attend_past_and_own(q, k, v, past)
    rows = q.shape[0] if key_valid is not None else 1
    block = max(1, min(num_queries, MAX_MASK_ENTRIES // (rows * num_keys)))
    key_index = torch.arange(num_keys, device=q.device)
    outputs = []
    for start in range(0, num_queries, block):
        stop = min(start + block, num_queries)
        seen = past + stop if causal else num_keys
        mask = None if key_valid is None else key_valid[:, None, None, :seen]
        if causal:
            own = past + torch.arange(start, stop, device=q.device)[:, None]
            keys = key_index[None, :seen]
            mask = (keys <= own)[None, None] if mask is None else (mask & (keys <= own))
            mask = mask | (keys == own)
        else:
            empty = ~mask.any(dim=-1, keepdim=True)
            mask = (mask | empty).expand(-1, -1, stop - start, -1)
        out = F.scaled_dot_product_attention(
            q[:, :, start:stop], k[:, :, :seen], v[:, :, :seen], attn_mask=mask, enable_gqa=grouped
        )
        outputs.append(out if causal else out.masked_fill(empty, 0.0))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def attend_store(q: Tensor, store: TokenStore, *, causal: bool = True) -> Tensor:
    """`attend` to all of a store of keys and values, which rows may share: (B, H, Lq, D)."""
    if q.shape[2] == 1 and not store.is_masked:
        return attend_parts(q, store.parts)
    kv, valid = store.merged()
    k, v = kv.expand(q.shape[0], *kv.shape[1:]).transpose(1, 3).unbind(2)
    valid = None if valid is None else valid.expand(q.shape[0], -1)
    return attend(q, k, v, key_valid=valid, causal=causal)


def attend_parts(q: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """`attend` without causality to keys and values in parts, of which none is copied.

    q (B, H, Lq, D), parts (B, T_i, 2, KV, D) or, where all rows share one, (1, T_i, 2, KV, D);
    returns (B, H, Lq, D).
    """
    num_rows, num_kv_heads = q.shape[0], parts[0].shape[3]
    # Heads that share keys go side by side as queries, and so do rows.
    folded = q.reshape(num_rows, num_kv_heads, -1, q.shape[3])
    keys_values = [part.transpose(1, 3).unbind(2) for part in parts]
    scores = [
        _regroup(_regroup(folded, k.shape[0]) @ k.transpose(-1, -2), num_rows)
        for k, _ in keys_values
    ]
    weights = (torch.cat(scores, dim=-1).float() * q.shape[3] ** -0.5).softmax(dim=-1).to(q.dtype)
    shares = weights.split([part.shape[1] for part in parts], dim=-1)
    mixed = [
        _regroup(_regroup(share, v.shape[0]) @ v, num_rows)
        for share, (_, v) in zip(shares, keys_values, strict=True)
    ]
    return sum(mixed).reshape(q.shape)


def _regroup(x: Tensor, num_rows: int) -> Tensor:
    """What stands in rows (R, KV, N, E) side by side in other rows: (num_rows, KV, .., E)."""
    if x.shape[0] == num_rows:
        return x
    by_head = x.transpose(0, 1)
    return by_head.reshape(x.shape[1], num_rows, -1, x.shape[3]).transpose(0, 1)


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _attend_past_and_own(q: Tensor, k: Tensor, v: Tensor, past: int) -> Tensor:
    """`attend` with causality and without a mask: all queries see all of the past.

    Softmax over the past and over the queries' own keys, joined by their log-sum-exp; a mask
    over a long past costs as much as the products themselves.
    """
    batch, heads, num_queries, dim = q.shape
    kv_heads = k.shape[1]
    folded = q.reshape(batch, kv_heads, -1, dim)
    before, before_sum = _CPU_FLASH(
        folded, k[:, :, :past].contiguous(), v[:, :, :past].contiguous(), 0.0, False
    )
    own_keys, own_values = (
        t[:, :, past:].repeat_interleave(heads // kv_heads, dim=1) for t in (k, v)
    )
    own, own_sum = _CPU_FLASH(q, own_keys, own_values, 0.0, True)
    share = torch.sigmoid(before_sum.reshape(batch, heads, num_queries) - own_sum)
    return torch.lerp(own, before.reshape(q.shape), share[..., None].to(q.dtype))


class QueryKeyValue(nn.Module):
    """The four projections of grouped-query attention, under NemotronH's names."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        hidden, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(hidden, self.num_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(hidden, self.num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(hidden, self.num_kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, hidden, bias=bias)

    def queries(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, H, L, head_dim)."""
        return self.q_proj(x).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> Tensor:
        """(B, L, D) -> keys and values side by side, (B, L, 2, KV, head_dim)."""
        both = torch.stack([self.k_proj(x), self.v_proj(x)], dim=2)
        return both.unflatten(-1, (self.num_kv_heads, self.head_dim))

    def output(self, heads: Tensor) -> Tensor:
        """(B, H, L, head_dim) -> (B, L, D)."""
        return self.o_proj(heads.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class VideoWindow:
    """How far back the vision tokens of rows of prefix, vision tokens and text look.

    Vision token v sees the prefix and the vision tokens from `first_seen(v)` to itself: at least
    `size` before it, and up to half of that more, because the window moves in steps. Tokens that
    share a step share all they see of the past, so that no mask is needed, and steps are counted
    from the video's beginning, so that chunks make no difference. Text sees everything.
    """

    size: int
    num_prefix: Tensor  # (B,)
    num_video: Tensor | None = None  # (B,) None: all tokens after the prefix are vision tokens

    @property
    def step(self) -> int:
        """Vision tokens that look back equally far."""
        return max(1, self.size // 2)

    def sight(self, place: Place) -> Place:
        """The place that the vision token at `place` looks back to; below 0, it sees all."""
        return place // self.step * self.step - self.size

    def hides(self, num_tokens: int) -> bool:
        """Whether any of the vision tokens of rows with up to `num_tokens` is out of sight."""
        if num_tokens <= self.size + self.step:
            return False  # without asking the device how long the rows are
        num_video = num_tokens - int(self.num_prefix.min())
        if self.num_video is not None:
            num_video = min(num_video, int(self.num_video.max()))
        return num_video > self.size + self.step


def attend_in_window(
    q: Tensor, k: Tensor, v: Tensor, window: VideoWindow, key_valid: Tensor | None = None
) -> Tensor:
    """`attend` of the last `Lq` positions where vision tokens look back only so far.

    The slow twin of `_attend_steps`: any rows, by masks, a block of queries at a time.
    """
    num_queries, num_keys = q.shape[2], k.shape[2]
    if key_valid is None:
        key_valid = torch.ones(q.shape[0], num_keys, dtype=torch.bool, device=q.device)
    prefix = window.num_prefix[:, None]
    place = key_valid.cumsum(dim=1) - 1 - prefix  # among the vision tokens; negative in the prefix
    last = num_keys if window.num_video is None else window.num_video[:, None]
    first = torch.where(place < last, window.sight(place), 0)
    own = torch.arange(num_keys, device=q.device)
    block = max(1, MAX_MASK_ENTRIES // (q.shape[0] * num_keys))
    outputs = []
    for part in own[num_keys - num_queries :].split(block):
        in_sight = (place < 0)[:, None] | (place[:, None] >= first[:, part, None])
        mask = key_valid[:, None] & in_sight & (own <= part[:, None])
        mask = (mask | (own == part[:, None]))[:, None]
        here = q[:, :, part - (num_keys - num_queries)]
        outputs.append(
            F.scaled_dot_product_attention(
                here, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
        )
    return torch.cat(outputs, dim=2)


def _attend_steps(q: Tensor, store: TokenStore, window: VideoWindow) -> Tensor:
    """`attend_in_window` of vision tokens alone in rows of one length, step by step.

    Only the keys in sight are touched, so that the cost of a chunk does not grow.
    """
    num_prefix = int(window.num_prefix[0])
    end = store.num_tokens - num_prefix
    start = end - q.shape[2]
    sight = max(0, window.sight(start))
    prefix = store.slice(0, num_prefix)
    kv = torch.cat([prefix, store.slice(num_prefix + sight, store.num_tokens)], dim=1)
    outputs = []
    while start < end:
        stop = min(end, (start // window.step + 1) * window.step)
        first = max(0, window.sight(start)) - sight
        seen = kv[:, num_prefix + first : num_prefix + stop - sight]
        seen = torch.cat([prefix, seen], dim=1) if first else kv[:, : num_prefix + stop - sight]
        k, v = seen.transpose(1, 3).unbind(2)
        place = start - (end - q.shape[2])
        outputs.append(attend(q[:, :, place : place + stop - start], k, v))
        start = stop
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


class AttentionMixer(QueryKeyValue):
    """Causal self-attention with carried keys and values."""

    def forward(
        self,
        x: Tensor,
        state: AttentionState | None,
        lengths: Tensor | None,
        window: VideoWindow | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """Mix `x (B, L, D)` after `state`; return the same shape and the new state."""
        store = TokenStore() if state is None else state.store
        store = store.append(self.keys_values(x), lengths)
        q = self.queries(x)
        if window is not None and not window.hides(store.num_tokens):
            window = None
        if window is not None and window.num_video is None and not store.is_masked:
            return self.output(_attend_steps(q, store, window)), AttentionState(store)
        # A long past is not copied for each token that is written.
        store = store.tail_consolidated() if x.shape[1] == 1 else store.consolidated()
        if window is None:
            return self.output(attend_store(q, store)), AttentionState(store)
        kv, valid = store.merged()
        k, v = kv.transpose(1, 3).unbind(2)  # (B, KV, T, head_dim) each
        return self.output(attend_in_window(q, k, v, window, valid)), AttentionState(store)


class TransferAttention(QueryKeyValue):
    """Cross-attention that carries dropped vision tokens into text tokens (TransV).

    Text tokens are queries, dropped tokens are keys and values; no mask, no norm, no position
    (TimeViper, section 3.3). The caller adds the result times tanh(alpha).
    """

    def forward(self, text: Tensor, dropped: TokenStore) -> Tensor:
        """What `text (B, L, D)` takes from `dropped`, a store of `keys_values` results."""
        return self.output(attend_store(self.queries(text), dropped, causal=False))


class Looks(NamedTuple):
    """What L tokens of text look at among K vision tokens, and how well it fits.

    shares (B, L, K): how much each attends to each, mean over heads of the softmax over them alone;
    matches (B, L): mean over heads of the highest score before the softmax, which shares out as
    much where nothing fits; values (B, K, V): what is handed on of each, the heads side by side.
    Shares and matches are float32, and zero without vision tokens.
    """

    shares: Tensor
    matches: Tensor
    values: Tensor


def attention_looks(
    attention: QueryKeyValue, x: Tensor, keys_values: Tensor, valid: Tensor
) -> Looks:
    """How x (B, L, D) attends to `keys_values` of K tokens, of which valid (B, K) count."""
    scores = _scores(attention, x, keys_values[:, :, 0], valid)
    matches = scores.amax(dim=-1).mean(dim=(1, 2))
    matches = matches.masked_fill(~valid.any(dim=1, keepdim=True), 0.0)
    return Looks(_shares(scores, valid), matches, keys_values[:, :, 1].flatten(2))


def _scores(attention: QueryKeyValue, x: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
    """Scores (B, KV, heads of each, L, K) before the softmax; the least number where not valid."""
    q = attention.queries(x).unflatten(1, (attention.num_kv_heads, -1))
    scores = torch.einsum("bkgld,btkd->bkglt", q.float(), keys.float())
    scores = scores * attention.head_dim**-0.5
    return scores.masked_fill(~valid[:, None, None, None], torch.finfo(scores.dtype).min)


def _shares(scores: Tensor, valid: Tensor) -> Tensor:
    """Mean over heads of the softmax, (B, L, K)."""
    return scores.softmax(dim=-1).mean(dim=(1, 2)) * valid[:, None]


def rank_keys(
    attention: QueryKeyValue, query: Tensor, context: Tensor, context_valid: Tensor | None
) -> Tensor:
    """How much one token attends to each of `context`: mean over heads of the softmax.

    query (B, D), context (B, T, D), context_valid (B, T) or None; returns (B, T), float32. The
    published model hands in the residual stream as it is, not normalised (TimeViper's code;
    `attn` rule).
    """
    keys = attention.k_proj(context).unflatten(-1, (attention.num_kv_heads, attention.head_dim))
    if context_valid is None:
        context_valid = keys.new_ones(keys.shape[:2], dtype=torch.bool)
    scores = _scores(attention, query[:, None], keys, context_valid)
    return _shares(scores, context_valid)[:, 0]
