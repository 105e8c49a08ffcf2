"""Three scans, one result: against each other, in two halves, at extremes, and their gradients."""

import pytest
import torch
from torch import Tensor

from recognizers import scan as scan_module
from recognizers.scan import (
    NUM_PROJECTIONS,
    SCANS,
    log_positive,
    positive,
    run_two_level,
    scan_fast,
    scan_log,
    scan_reference,
)

GATES = tuple(NUM_PROJECTIONS)
FAST = ("log", "fast")


def operands(
    gate: str,
    num_steps: int = 11,
    *,
    dtype: torch.dtype = torch.float64,
    channels_last: bool = False,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Random projections (2, T, 3 gates, 4, 5), and an initial state of both signs."""
    channels = 3 * NUM_PROJECTIONS[gate]
    if channels_last:
        projected = torch.randn(2, num_steps, 4, 5, channels, dtype=dtype).permute(0, 1, 4, 2, 3)
    else:
        projected = torch.randn(2, num_steps, channels, 4, 5, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    return scale * projected, torch.randn(2, 3, 4, 5, dtype=wide)


@pytest.fixture(params=["one level", "two levels"])
def levels(request, monkeypatch):
    """Both ways to run the recurrence, whatever the device."""
    monkeypatch.setattr(scan_module, "_two_levels", lambda like: request.param == "two levels")


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num_steps", [1, 2, 11, 16])
def test_scans_give_one_result(gate, name, num_steps, levels) -> None:
    projected, initial = operands(gate, num_steps)
    expected = scan_reference(projected, initial, gate)
    torch.testing.assert_close(SCANS[name](projected, initial, gate), expected)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", SCANS)
def test_two_halves_are_the_whole(gate, name, levels) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        projected, initial = operands(gate, dtype=dtype)
        hidden, last = SCANS[name](projected, initial, gate)
        first, between = SCANS[name](projected[:, :4], initial, gate)
        second, end = SCANS[name](projected[:, 4:], between, gate)
        assert hidden.dtype == dtype
        assert last.dtype == torch.promote_types(dtype, torch.float32)
        tolerance = {torch.bfloat16: 8e-3}.get(dtype, 1e-6)  # a bfloat16 unit in the last place
        torch.testing.assert_close(
            torch.cat([first, second], dim=1), hidden, rtol=tolerance, atol=tolerance
        )
        torch.testing.assert_close(end, last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_exact(gate, channels_last, levels) -> None:
    projected, initial = operands(gate, 5, channels_last=channels_last)
    projected, initial = projected[:, :, :, :2, :1], initial[:, :, :2, :1]
    inputs = (projected.requires_grad_(), initial.requires_grad_())
    assert torch.autograd.gradcheck(lambda p, h: scan_fast(p, h, gate), inputs)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", FAST)
def test_gradients_of_scans_agree(gate, name) -> None:
    projected, initial = operands(gate, channels_last=True)
    weights = torch.randn(2, 11, 3, 4, 5, dtype=torch.float64)

    def gradients(scan) -> tuple[Tensor, ...]:
        inputs = (projected.detach().requires_grad_(), initial.detach().requires_grad_())
        hidden, last = scan(*inputs, gate)
        return torch.autograd.grad((hidden * weights).sum() + last.square().sum(), inputs)

    torch.testing.assert_close(gradients(SCANS[name]), gradients(scan_reference))


@pytest.mark.parametrize("gate", GATES)
def test_gradient_crosses_the_cut(gate) -> None:
    projected, initial = operands(gate)
    projected.requires_grad_()
    hidden, last = scan_fast(projected, initial, gate)
    (whole,) = torch.autograd.grad(hidden.square().sum() + last.sum(), projected)
    first, between = scan_fast(projected[:, :6], initial, gate)
    second, end = scan_fast(projected[:, 6:], between, gate)
    loss = first.square().sum() + second.square().sum() + end.sum()
    torch.testing.assert_close(torch.autograd.grad(loss, projected)[0], whole)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", SCANS)
def test_future_does_not_reach_back(gate, name) -> None:
    projected, initial = operands(gate)
    changed = projected.clone()
    changed[:, 7:] += 1.0
    before, _ = SCANS[name](projected, initial, gate)
    after, _ = SCANS[name](changed, initial, gate)
    assert before[:, :7].equal(after[:, :7])
    assert not before[:, 7].equal(after[:, 7])


@pytest.mark.parametrize("gate", GATES)
def test_hidden_states_stay_between_state_and_candidates(gate) -> None:
    projected, initial = operands(gate, 64, scale=4.0)
    value = positive(projected[:, :, -3:])
    hidden, _ = scan_fast(projected, initial, gate)
    highest = torch.maximum(value.cummax(dim=1).values, initial[:, None])
    lowest = torch.minimum(value.cummin(dim=1).values, initial[:, None])
    assert (hidden <= highest + 1e-12).all()
    assert (hidden >= lowest - 1e-12).all()


def long_operands(gate: str, logit: float, num_steps: int = 4096) -> tuple[Tensor, Tensor]:
    """Gates whose forget logit lies around `logit`."""
    count = NUM_PROJECTIONS[gate]
    projected = torch.randn(1, num_steps, count, 1, 3)
    if gate == "gru":
        projected[:, :, 0] -= logit
    else:
        projected[:, :, 0] += logit / 2
        projected[:, :, 1] -= logit / 2
    return projected, torch.rand(1, 1, 1, 3)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("logit", [-60.0, 8.0, 60.0])
def test_4096_steps_with_gates_near_0_and_1(gate, logit, levels) -> None:
    projected, initial = long_operands(gate, logit)
    expected, _ = scan_reference(projected.double(), initial.double(), gate)
    hidden, _ = scan_fast(projected, initial, gate)
    torch.testing.assert_close(hidden.double(), expected, rtol=2e-5, atol=2e-5)
    half, _ = scan_fast(projected.bfloat16(), initial, gate)
    exact, _ = scan_reference(projected.bfloat16().double(), initial.double(), gate)
    torch.testing.assert_close(half.double(), exact, rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("logit", [-60.0, 60.0])
def test_gradients_of_long_sequences_are_finite_and_right(gate, logit) -> None:
    projected, initial = long_operands(gate, logit, num_steps=2048)
    grads = []
    for scan, dtype in ((scan_fast, torch.float32), (scan_reference, torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in (projected, initial)]
        hidden, last = scan(*inputs, gate)
        grads.append(torch.autograd.grad(hidden.sum() + last.sum(), inputs))
    for fast, exact in zip(*grads, strict=True):
        torch.testing.assert_close(fast.double(), exact, rtol=1e-3, atol=1e-3)


def test_log_scan_keeps_few_digits_of_a_long_sequence() -> None:
    # The limit that its docstring states: float32, T = 4096, gates near one half.
    projected, initial = long_operands("gru", 0.0)
    exact, _ = scan_reference(projected.double(), initial.double(), "gru")
    errors = {
        name: float((SCANS[name](projected, initial, "gru")[0].double() - exact).abs().max())
        for name in FAST
    }
    assert errors["fast"] < 1e-5
    assert 1e-5 < errors["log"] < 1e-2


def test_positive_and_its_logarithm() -> None:
    values = torch.tensor([-1000.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(positive(values)[2:], values[2:] + 0.5)
    torch.testing.assert_close(log_positive(values)[1:], positive(values)[1:].log())
    assert log_positive(values)[0] == -1000.0


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 16, 23])
def test_two_level_recurrence_is_the_loop(num_steps) -> None:
    decay = torch.rand(2, num_steps, 3, dtype=torch.float64)
    added = torch.randn(2, num_steps, 3, dtype=torch.float64)
    state = initial = torch.randn(2, 3, dtype=torch.float64)
    expected = []
    for t in range(num_steps):
        state = decay[:, t] * state + added[:, t]
        expected.append(state)
    kept = decay.clone()
    run_two_level(decay, added, initial)
    torch.testing.assert_close(added, torch.stack(expected, dim=1))
    assert decay.equal(kept)


@pytest.mark.parametrize("gate", GATES)
def test_inputs_are_left_as_they_are(gate) -> None:
    projected, initial = operands(gate)
    kept = (projected.clone(), initial.clone())
    inputs = (projected.requires_grad_(), initial.requires_grad_())
    hidden, last = scan_fast(*inputs, gate)
    (hidden.sum() + last.sum()).backward()
    assert projected.equal(kept[0])
    assert initial.equal(kept[1])


def test_log_scan_reads_like_the_fast_one_from_a_negative_state() -> None:
    projected, initial = operands("lstm")
    torch.testing.assert_close(
        scan_log(projected, -initial.abs(), "lstm"), scan_fast(projected, -initial.abs(), "lstm")
    )
