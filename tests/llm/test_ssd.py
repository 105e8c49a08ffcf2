"""The SSD backends against the recurrence, read token by token."""

import os
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from timevlm.errors import ModelError
from timevlm.llm.ssd import (
    BACKENDS,
    choose_backend,
    ssd_reference,
    ssd_torch,
    ssd_triton,
    triton_problem,
)

CHUNK = 8
LENGTHS = [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]


@dataclass(frozen=True)
class Shape:
    batch: int
    heads: int
    groups: int
    channels: int
    state: int


SHAPES = [Shape(1, 2, 1, 3, 5), Shape(2, 4, 2, 5, 3), Shape(3, 8, 4, 1, 7)]


def arguments(shape: Shape, num_tokens: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """x, dt, A, B, C, D and a carried state."""
    b, h, g, p, n = shape.batch, shape.heads, shape.groups, shape.channels, shape.state
    dt = torch.nn.functional.softplus(torch.randn(b, num_tokens, h))
    return [
        torch.randn(b, num_tokens, h, p).to(dtype),
        dt,
        -torch.rand(h) * 4 - 0.1,
        torch.randn(b, num_tokens, g, n).to(dtype),
        torch.randn(b, num_tokens, g, n).to(dtype),
        torch.randn(h),
        torch.randn(b, h, p, n),
    ]


def cut(args: list[Tensor], span: slice, state: Tensor) -> list[Tensor]:
    x, dt, a, b, c, d, _ = args
    return [x[:, span], dt[:, span], a, b[:, span], c[:, span], d, state]


def by_equation(args: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The paper's recurrence for one batch row, head and channel at a time, in float64."""
    x, dt, a, b, c, d, state = (t.double() for t in args)
    y, state = torch.zeros_like(x), state.clone()
    heads_per_group = x.shape[2] // b.shape[2]
    for row in range(x.shape[0]):
        for head in range(x.shape[2]):
            group = head // heads_per_group
            for channel in range(x.shape[3]):
                h = state[row, head, channel].clone()
                for t in range(x.shape[1]):
                    step = dt[row, t, head]
                    value = x[row, t, head, channel]
                    h = torch.exp(step * a[head]) * h + step * value * b[row, t, group]
                    y[row, t, head, channel] = h @ c[row, t, group] + d[head] * value
                state[row, head, channel] = h
    return y, state


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["reference", "torch"])
def test_backends_follow_the_equation(shape, name):
    args = arguments(shape, 2 * CHUNK + 3)
    y, state = BACKENDS[name](*args, CHUNK)
    expected_y, expected_state = by_equation(args)
    torch.testing.assert_close(y.double(), expected_y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.double(), expected_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_torch_equals_reference(shape, num_tokens):
    args = arguments(shape, num_tokens)
    y, state = ssd_torch(*args, CHUNK)
    expected_y, expected_state = ssd_reference(*args, CHUNK)
    assert y.shape == args[0].shape
    torch.testing.assert_close(y, expected_y, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(state, expected_state, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["reference", "torch"])
@pytest.mark.parametrize("sizes", [[CHUNK, 5], [1, 1, 11], [3] * 4, [0, 13]])
def test_any_cut_carries_the_state(name, sizes):
    args = arguments(SHAPES[1], sum(sizes))
    whole_y, whole_state = BACKENDS[name](*args, CHUNK)
    parts, state, start = [], args[-1], 0
    for size in sizes:
        y, state = BACKENDS[name](*cut(args, slice(start, start + size), state), CHUNK)
        parts.append(y)
        start += size
    torch.testing.assert_close(torch.cat(parts, dim=1), whole_y, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(state, whole_state, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_steps_of_size_zero_leave_the_state_untouched(name):
    args = arguments(SHAPES[1], CHUNK + 5)
    args[1] = torch.zeros_like(args[1])
    _, state = BACKENDS[name](*args, CHUNK)
    assert torch.equal(state, args[-1])


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_steps_of_size_zero_may_stand_between_others(name):
    args = arguments(SHAPES[1], 11)
    skipped = [2, 3, 9, 10]
    args[1][:, skipped] = 0.0
    kept = [t for t in range(11) if t not in skipped]
    alone = cut(args, kept, args[-1])
    y, state = BACKENDS[name](*args, CHUNK)
    expected_y, expected_state = BACKENDS[name](*alone, CHUNK)
    torch.testing.assert_close(y[:, kept], expected_y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, expected_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_tokens", [0, 1, 13])
@pytest.mark.parametrize("name", ["reference", "torch"])
def test_half_precision_keeps_a_float32_state(name, num_tokens):
    args = arguments(SHAPES[1], num_tokens, torch.bfloat16)
    y, state = BACKENDS[name](*args, CHUNK)
    exact = [t.float() for t in args]
    expected_y, expected_state = ssd_reference(*exact, CHUNK)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    # Inputs are exact in both, so the state must not know of bfloat16; y is rounded once.
    torch.testing.assert_close(state, expected_state, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(y.float(), expected_y, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("num_tokens", [1, CHUNK, 2 * CHUNK + 3])
def test_gradients_are_equal(num_tokens):
    args = arguments(SHAPES[1], num_tokens)
    weight_y, weight_state = torch.randn_like(args[0]), torch.randn_like(args[-1])
    found = []
    for backend in (ssd_reference, ssd_torch):
        leaves = [t.clone().requires_grad_() for t in args]
        y, state = backend(*leaves, CHUNK)
        ((y * weight_y).sum() + (state * weight_state).sum()).backward()
        found.append([leaf.grad for leaf in leaves])
    for name, expected, got in zip(["x", "dt", "A", "B", "C", "D", "state"], *found, strict=True):
        assert expected.abs().max() > 0, name
        scale = float(expected.abs().max())
        torch.testing.assert_close(got, expected, atol=1e-5 * max(1.0, scale), rtol=1e-4)


def test_inputs_are_not_changed():
    args = arguments(SHAPES[1], 2 * CHUNK + 3)
    before = [t.clone() for t in args]
    for backend in (ssd_reference, ssd_torch):
        with torch.no_grad():
            backend(*args, CHUNK)
    for old, new in zip(before, args, strict=True):
        assert torch.equal(old, new)


def test_strong_decay_stays_finite():
    args = arguments(SHAPES[1], 3 * CHUNK)
    args[1] = args[1] * 200
    leaves = [t.clone().requires_grad_() for t in args]
    y, state = ssd_torch(*leaves, CHUNK)
    (y.sum() + state.sum()).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    torch.testing.assert_close(y, ssd_reference(*args, CHUNK)[0], atol=1e-2, rtol=1e-4)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("num_tokens", [1, 2, 63, 64, 65, 197])
def test_triton_equals_reference(num_tokens):
    problem = triton_problem()
    if problem is not None:
        if os.environ.get("FAIL_WITHOUT_CUDA"):
            pytest.fail(f"FAIL_WITHOUT_CUDA is set, but {problem}")
        pytest.skip(problem)
    args = [t.cuda() for t in arguments(Shape(2, 4, 2, 16, 16), num_tokens)]
    y, state = ssd_triton(*args, 64)
    expected_y, expected_state = ssd_reference(*args, 64)
    # The kernels multiply in TF32: ten bits of mantissa.
    torch.testing.assert_close(y, expected_y, atol=5e-2, rtol=2e-2)
    torch.testing.assert_close(state, expected_state, atol=5e-2, rtol=2e-2)


def test_auto_takes_torch_where_triton_cannot_run():
    assert choose_backend("auto", "cpu") == "torch"
    assert choose_backend("auto", "mps") == "torch"


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_named_backends_are_taken(name):
    assert choose_backend(name, "cpu") == name


def test_unknown_backends_are_refused_with_the_choices():
    with pytest.raises(ModelError, match=r"'fast' is unknown; use auto, reference, torch, triton"):
        choose_backend("fast", "cpu")


def test_triton_is_refused_off_cuda():
    with pytest.raises(ModelError, match=r"not on CUDA; use 'torch'"):
        choose_backend("triton", "cpu")


def test_triton_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr("timevlm.llm.ssd.triton_problem", lambda: "no kernels here")
    with pytest.raises(ModelError, match="no kernels here"):
        choose_backend("triton", "cuda")
    assert choose_backend("auto", "cuda") == "torch"


def test_auto_takes_triton_where_it_runs(monkeypatch):
    monkeypatch.setattr("timevlm.llm.ssd.triton_problem", lambda: None)
    assert choose_backend("auto", "cuda") == "triton"
    assert choose_backend("auto", "cpu") == "torch"
