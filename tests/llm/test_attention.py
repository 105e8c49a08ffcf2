"""Blockwise grouped-query attention against a plain softmax with an explicit mask."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import small_config, small_lm
from timevlm.llm import TokenStore
from timevlm.llm import attention as attention_module
from timevlm.llm.attention import (
    AttentionMixer,
    TransferAttention,
    VideoWindow,
    attend,
    attend_in_window,
    attend_parts,
    attend_store,
    rank_keys,
)
from timevlm.llm.state import AttentionState


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the keys that `mask (B, Lq, T)` allows; zeros where it allows none."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
    return torch.nan_to_num(weights) @ v


def explicit_mask(
    batch: int, num_queries: int, num_keys: int, valid: Tensor | None, causal: bool
) -> Tensor:
    mask = torch.ones(batch, num_queries, num_keys, dtype=torch.bool)
    if valid is not None:
        mask &= valid[:, None]
    if causal:
        own = torch.arange(num_keys - num_queries, num_keys)[:, None]
        keys = torch.arange(num_keys)[None]
        mask = (mask & (keys <= own)) | (keys == own)
    return mask


@pytest.fixture(params=[1, 40, 1 << 22], ids=["one-query", "few-queries", "one-block"])
def mask_entries(request, monkeypatch) -> int:
    monkeypatch.setattr(attention_module, "MAX_MASK_ENTRIES", request.param)
    return request.param


@pytest.mark.usefixtures("mask_entries")
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(
    ("num_queries", "num_keys", "causal"),
    [(12, 5, False), *((q, k, c) for q, k in ((1, 1), (1, 9), (7, 7), (5, 12)) for c in (0, 1))],
)
def test_attend_equals_plain_softmax(kv_heads, holes, causal, num_queries, num_keys):
    q = torch.randn(3, 4, num_queries, 6)
    k, v = torch.randn(3, kv_heads, num_keys, 6), torch.randn(3, kv_heads, num_keys, 6)
    valid = torch.rand(3, num_keys) < 0.6 if holes else None
    expected = plain_attention(
        q, k, v, explicit_mask(3, num_queries, num_keys, valid, bool(causal))
    )
    found = attend(q, k, v, key_valid=valid, causal=bool(causal))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("num_queries", [1, 3])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_store_that_rows_share_gives_what_one_of_their_own_gives(num_queries, holes, causal):
    q = torch.randn(3, 4, num_queries, 6)
    store = TokenStore().append(torch.randn(1, 9, 2, 2, 6), torch.tensor([7]) if holes else None)
    store = store.append(torch.randn(3, 4, 2, 2, 6), None)
    kv = torch.cat([store.parts[0].expand(3, -1, -1, -1, -1), store.parts[1]], dim=1)
    valid = torch.ones(3, 13, dtype=torch.bool)
    valid[:, 7:9] = not holes
    k, v = kv.transpose(1, 3).unbind(2)
    expected = plain_attention(q, k, v, explicit_mask(3, num_queries, 13, valid, causal))
    found = attend_store(q, store, causal=causal)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("num_queries", [1, 3])
@pytest.mark.parametrize("rows", [[3], [1], [1, 3], [3, 1, 3]])
def test_keys_in_parts_give_what_keys_in_one_piece_give(kv_heads, num_queries, rows):
    q = torch.randn(3, 4, num_queries, 6)
    parts = [torch.randn(size, 5 + i, 2, kv_heads, 6) for i, size in enumerate(rows)]
    k, v = torch.cat([p.expand(3, -1, -1, -1, -1) for p in parts], dim=1).transpose(1, 3).unbind(2)
    mask = torch.ones(3, num_queries, k.shape[2], dtype=torch.bool)
    expected = plain_attention(q, k, v, mask)
    torch.testing.assert_close(attend_parts(q, parts), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("mask_entries")
def test_a_row_without_a_valid_key_gives_zeros():
    q, k, v = torch.randn(2, 4, 3, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 6)
    valid = torch.tensor([[False] * 5, [True, False, True, False, False]])
    found = attend(q, k, v, key_valid=valid, causal=False)
    assert torch.equal(found[0], torch.zeros_like(found[0]))
    assert float(found[1].abs().min()) > 0


@pytest.mark.usefixtures("mask_entries")
def test_rows_without_keys_pass_finite_gradients():
    leaves = [torch.randn(2, 2, n, 6, requires_grad=True) for n in (3, 5, 5)]
    valid = torch.tensor([[False] * 5, [True] * 5])
    attend(*leaves, key_valid=valid, causal=False).square().sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    assert torch.equal(leaves[1].grad[0], torch.zeros_like(leaves[1].grad[0]))


@pytest.mark.usefixtures("mask_entries")
def test_padding_queries_stay_finite():
    q, k, v = (torch.randn(1, 2, 4, 6) for _ in range(3))
    found = attend(q, k, v, key_valid=torch.tensor([[False] * 4]))
    assert torch.isfinite(found).all()


def test_gradients_of_blocks_equal_those_of_the_whole(monkeypatch):
    inputs = [torch.randn(2, 4, 7, 6), torch.randn(2, 2, 11, 6), torch.randn(2, 2, 11, 6)]
    valid = torch.rand(2, 11) < 0.7
    grads = []
    for entries in (1 << 22, 1):
        monkeypatch.setattr(attention_module, "MAX_MASK_ENTRIES", entries)
        leaves = [t.clone().requires_grad_() for t in inputs]
        attend(*leaves, key_valid=valid).square().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for whole, blocks in zip(*grads, strict=True):
        torch.testing.assert_close(blocks, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[13], [5, 8], [1] * 13, [6, 1, 6]])
@torch.inference_mode()
def test_mixer_in_any_chunks(sizes):
    mixer = AttentionMixer(small_config())
    x = torch.randn(2, 13, 32)
    whole, _ = mixer(x, None, None)
    parts, state = [], None
    for part in x.split(sizes, dim=1):
        y, state = mixer(part, state, None)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_mixer_rows_of_different_length_over_two_calls():
    mixer = AttentionMixer(small_config())
    x, more = torch.randn(2, 6, 32), torch.randn(2, 3, 32)
    lengths = torch.tensor([6, 2])
    y, state = mixer(x, None, lengths)
    after, _ = mixer(more, state, None)
    for row, length in enumerate(lengths.tolist()):
        alone = torch.cat([x[row, :length], more[row]])[None]
        expected, _ = mixer(alone, None, None)
        torch.testing.assert_close(y[row, :length], expected[0, :length], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after[row], expected[0, length:], atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_transfer_ignores_padding_and_gives_zero_without_tokens():
    transfer = TransferAttention(small_config())
    text, dropped = torch.randn(3, 4, 32), torch.randn(3, 5, 32)
    lengths = torch.tensor([5, 2, 0])
    store = TokenStore().append(transfer.keys_values(dropped), lengths)
    found = transfer(text, store)
    for row, length in ((0, 5), (1, 2)):
        alone = TokenStore().append(transfer.keys_values(dropped[row : row + 1, :length]), None)
        expected = transfer(text[row : row + 1], alone)
        torch.testing.assert_close(found[row], expected[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(found[2], torch.zeros_like(found[2]))


@torch.inference_mode()
def test_rank_is_the_mean_softmax_over_heads():
    mixer = AttentionMixer(small_config())
    query, context = torch.randn(2, 32), torch.randn(2, 7, 32)
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    found = rank_keys(mixer, query, context, valid)
    q = mixer.q_proj(query).view(2, 4, 8)
    k = mixer.k_proj(context).view(2, 7, 2, 8).repeat_interleave(2, dim=2)
    scores = torch.einsum("bhd,bthd->bht", q, k) / 8**0.5
    expected = scores.masked_fill(~valid[:, None], -torch.inf).softmax(-1).mean(1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))


class LargestTensor(TorchDispatchMode):
    """Records the entries of the largest tensor that any operator returns.

    Every mask and every score matrix of Python code, and of SDPA's unfused path, is the output of
    an operator below autograd, so none can pass unseen; the fused kernels keep their tiles inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_entries = 0
        self.operator = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            # A view such as `expand` costs nothing: what counts is the storage behind it.
            if isinstance(tensor, Tensor):
                entries = tensor.untyped_storage().nbytes() // tensor.element_size()
                if entries > self.num_entries:
                    self.num_entries, self.operator = entries, str(func)
        return out


def test_the_recorder_sees_a_square_mask():
    with LargestTensor() as largest:
        plain_attention(*[torch.randn(1, 2, 64, 6)] * 3, torch.ones(1, 64, 64, dtype=torch.bool))
    assert largest.num_entries >= 64 * 64


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("chunk", [256, 1024])
@torch.inference_mode()
def test_prefill_builds_nothing_square(monkeypatch, ragged, chunk):
    monkeypatch.setattr(attention_module, "MAX_MASK_ENTRIES", 1 << 14)
    num_tokens = 1024
    transv = [{"layer": 1, "keep": 0.9}, {"layer": 4, "keep": 0.8, "rule": "attention"}]
    lm = small_lm("M*M-*M", transv=transv, chunk_size=64)
    batch = 2 if ragged else 1
    lengths = torch.tensor([chunk, chunk - 3]) if ragged else None
    totals = torch.full((batch,), num_tokens)
    if ragged:
        totals[1] -= 3 * (num_tokens // chunk)
    state = lm.init_state(totals)
    state = lm.read_prefix(torch.randn(batch, 2, 32), state)
    x = torch.randn(batch, num_tokens, 32)
    with LargestTensor() as largest:
        for part in x.split(chunk, dim=1):
            state = lm.read_video(part, state, lengths)
        lm.read_prompt(torch.randn(batch, 5, 32), state)
    # Activations are num_tokens x 100 channels a row, at most; a square has num_tokens^2 entries.
    assert largest.num_entries < num_tokens * num_tokens // 2, largest.operator


def window_mask(num_prefix: int, num_video: int, num_text: int, size: int) -> Tensor:
    """Rows of prefix, vision tokens and text: who sees whom, token by token."""
    total = num_prefix + num_video + num_text
    step = max(1, size // 2)
    mask = torch.ones(total, total, dtype=torch.bool).tril()
    for v in range(num_video):
        for hidden in range(max(0, v // step * step - size)):
            mask[num_prefix + v, num_prefix + hidden] = False
    return mask


@pytest.mark.usefixtures("mask_entries")
@pytest.mark.parametrize("size", [1, 2, 5, 8, 100])
@pytest.mark.parametrize("queries", [1, 6, 25])
def test_vision_tokens_look_back_as_far_as_the_window(size, queries):
    rows = [(3, 15, 7), (1, 20, 4)]
    masks = torch.stack([window_mask(*row, size) for row in rows])[:, -queries:]
    q, k, v = torch.randn(2, 4, queries, 6), torch.randn(2, 2, 25, 6), torch.randn(2, 2, 25, 6)
    prefix, video, _ = torch.tensor(rows).unbind(1)
    found = attend_in_window(q, k, v, VideoWindow(size, prefix, video))
    expected = plain_attention(q, k, v, masks)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("num_prefix", [0, 2])
@pytest.mark.parametrize("chunks", [[31], [8, 8, 15], [1] * 31])
def test_windows_move_with_the_video_whatever_the_chunks(num_prefix, chunks):
    mixer = AttentionMixer(small_config())
    x = torch.randn(2, num_prefix + sum(chunks), 32)
    window = VideoWindow(6, torch.full((2,), num_prefix))
    state, outputs = None, []
    for part in x.split([*([num_prefix] if num_prefix else []), *chunks], dim=1):
        y, state = mixer(part, state, None, window)
        outputs.append(y)
    mask = window_mask(num_prefix, sum(chunks), 0, 6).expand(2, -1, -1)
    k, v = mixer.keys_values(x).transpose(1, 3).unbind(2)
    expected = mixer.output(plain_attention(mixer.queries(x), k, v, mask))
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, atol=1e-5, rtol=1e-4)


def test_a_step_reads_only_the_keys_in_sight():
    mixer = AttentionMixer(small_config())
    window = VideoWindow(6, torch.tensor([2]))
    _, state = mixer(torch.randn(1, 42, 32), None, None, window)
    (part,) = state.store.parts
    hidden = part.clone()
    hidden[:, 2:30] = torch.nan
    blind = AttentionState(TokenStore((hidden,), (None,)))
    x = torch.randn(1, 3, 32)
    assert torch.equal(mixer(x, blind, None, window)[0], mixer(x, state, None, window)[0])
