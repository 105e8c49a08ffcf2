"""Bi-WKV: two linear ways against the equation, at any size of keys, in every precision."""

import pytest
import torch
from torch import Tensor

from recognizers.wkv import MAX_DECAY, MIN_BONUS, bi_wkv, bi_wkv_reference, bi_wkv_scan

FAST = [bi_wkv, bi_wkv_scan]
Operands = tuple[Tensor, Tensor, Tensor, Tensor]


def operands(
    *, num_tokens: int = 23, scale: float = 1.0, decay: float = 3.0, dtype: torch.dtype
) -> Operands:
    """w, u, k, v with 2 streams and 5 channels; keys and bonuses of size `scale`."""
    w = torch.linspace(-decay, decay, 5, dtype=dtype)
    u = (torch.randn(5, dtype=dtype) * scale).clamp(min=MIN_BONUS)
    k, v = torch.randn(2, 2, num_tokens, 5, dtype=dtype)
    return w, u, k * scale, v


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 23, 64])
def test_linear_is_the_equation(fast, num_tokens: int) -> None:
    inputs = operands(num_tokens=num_tokens, dtype=torch.float64)
    torch.testing.assert_close(fast(*inputs), bi_wkv_reference(*inputs), rtol=1e-12, atol=1e-13)


def test_the_reference_is_the_sum_as_written() -> None:
    w, u, k, v = operands(num_tokens=6, dtype=torch.float64)
    for t in range(6):
        log_weights = [k[:, i] + (u if i == t else -w * (abs(t - i) - 1) / 6) for i in range(6)]
        weights = torch.stack(log_weights, dim=1).exp()
        expected = (weights * v).sum(1) / weights.sum(1)
        torch.testing.assert_close(bi_wkv_reference(w, u, k, v)[:, t], expected)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_float32_stays_right_for_keys_far_beyond_its_exponent(fast, scale: float) -> None:
    w, u, k, v = operands(scale=scale, decay=MAX_DECAY, dtype=torch.float32)
    expected = bi_wkv_reference(*(x.double() for x in (w, u, k, v)))
    # exp turns the keys' own rounding into an error of about scale * 2^-24.
    torch.testing.assert_close(
        fast(w, u, k, v).double(), expected, rtol=0, atol=3e-6 + 1e-6 * scale
    )


def test_the_scan_takes_any_decay_and_bonus() -> None:
    w, u, k, v = operands(scale=1000.0, decay=5000.0, dtype=torch.float64)
    for bonus in (u, -u.abs()):
        inputs = (w, bonus, k, v)
        torch.testing.assert_close(bi_wkv_scan(*inputs), bi_wkv_reference(*inputs))


@pytest.mark.parametrize("decay", [-MAX_DECAY, 0.0, MAX_DECAY])
@pytest.mark.parametrize("lead", [20.0, 45.0, 80.0, 200.0])
def test_the_largest_key_may_count_least_for_itself(decay: float, lead: float) -> None:
    # One key far above the rest, and the lowest bonus: its own token must read the others.
    w, u, k, v = operands(decay=decay, dtype=torch.float32)
    k[:, 11] += lead
    inputs = (torch.full_like(w, decay), torch.full_like(u, MIN_BONUS), k, v)
    expected = bi_wkv_reference(*(x.double() for x in inputs))
    torch.testing.assert_close(bi_wkv(*inputs).double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fast", FAST)
def test_bf16_loses_no_more_than_its_own_rounding(fast) -> None:
    w, u, k, v = (x.bfloat16() for x in operands(num_tokens=500, scale=4.0, dtype=torch.float32))
    result = fast(w, u, k, v)
    assert result.dtype == torch.bfloat16
    expected = bi_wkv_reference(*(x.double() for x in (w, u, k, v)))
    torch.testing.assert_close(result.double(), expected, rtol=2**-8, atol=5e-5)


@pytest.mark.parametrize("fast", FAST)
def test_gradients_are_those_of_the_equation(fast) -> None:
    inputs = operands(num_tokens=9, dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in inputs)
    pull = torch.randn(2, 9, 5, dtype=torch.float64)
    expected = torch.autograd.grad((bi_wkv_reference(*inputs) * pull).sum(), inputs)
    found = torch.autograd.grad((fast(*inputs) * pull).sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(fast, inputs)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_float32_gradients_stay_right_at_the_limits(scale: float) -> None:
    inputs = operands(scale=scale, decay=MAX_DECAY, dtype=torch.float32)
    inputs = tuple(x.requires_grad_() for x in inputs)
    wide = tuple(x.detach().double().requires_grad_() for x in inputs)
    expected = torch.autograd.grad(bi_wkv_reference(*wide).square().sum(), wide)
    found = torch.autograd.grad(bi_wkv(*inputs).square().sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fast", FAST)
def test_the_weights_are_a_mean_and_have_no_direction(fast) -> None:
    w, u, k, v = operands(scale=5.0, dtype=torch.float64)
    ones = torch.ones_like(v)
    torch.testing.assert_close(fast(w, u, k, ones), ones)
    backwards = fast(w, u, k.flip(1), v.flip(1)).flip(1)
    torch.testing.assert_close(backwards, fast(w, u, k, v))
    # A constant on all keys of a channel changes nothing: it cancels in the quotient.
    torch.testing.assert_close(fast(w, u, k + 7.0, v), fast(w, u, k, v))


def test_twenty_thousand_tokens_need_no_square() -> None:
    # All pairs of 20,000 tokens would be 3.2 GB a channel.
    w, u, k, v = operands(num_tokens=20_000, dtype=torch.float32)
    result = bi_wkv(w, u, k, v)
    assert result.isfinite().all()
    assert result.abs().max() <= v.abs().max()
