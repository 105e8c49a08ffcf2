"""The flow solver against what is known exactly: decay, conservation, balance, convergence."""

import math

import pytest
import torch

from recognizers.errors import ConfigError
from recognizers.navier_stokes import (
    TAU,
    FlowConfig,
    energy,
    enstrophy,
    forcing_field,
    make_sequences,
    random_vorticity,
    resample,
    simulate,
)

DOUBLE = torch.float64


def smooth(size: int, num_flows: int = 2, seed: int = 0) -> torch.Tensor:
    """Random vorticity without modes from 8 / 3 on, on a grid of `size` points."""
    generator = torch.Generator().manual_seed(seed)
    coarse = random_vorticity(num_flows, 32, generator=generator, dtype=DOUBLE)
    return resample(resample(coarse, 8), size)


def test_taylor_green_vortex_decays_as_its_formula() -> None:
    size, viscosity = 32, 0.01
    at = torch.arange(size, dtype=DOUBLE) / size
    vortex = (torch.cos(TAU * at)[:, None] * torch.cos(TAU * at)[None, :])[None]
    config = FlowConfig(viscosity=viscosity, forcing=0.0, step_seconds=0.1, record_seconds=0.5)
    flow = simulate(vortex, 4, config)
    for index in range(5):
        decay = math.exp(-2 * viscosity * TAU**2 * 0.5 * index)
        torch.testing.assert_close(flow[:, index], decay * vortex, rtol=1e-12, atol=1e-12)


def test_ideal_flow_conserves_energy_and_enstrophy() -> None:
    config = FlowConfig(viscosity=0.0, forcing=0.0, step_seconds=0.02, record_seconds=1.0)
    flow = simulate(smooth(48), 3, config)
    assert (flow[:, -1] - flow[:, 0]).abs().max() > 0.1  # it does move
    for invariant in (energy, enstrophy):
        before, after = invariant(flow[:, 0]), invariant(flow[:, -1])
        torch.testing.assert_close(after, before, rtol=1e-6, atol=0.0)


def test_energy_falls_by_twice_viscosity_times_enstrophy() -> None:
    config = FlowConfig(viscosity=1e-3, forcing=0.0, step_seconds=0.01, record_seconds=0.01)
    flow = simulate(smooth(32), 2, config)
    rate = (energy(flow[:, 2]) - energy(flow[:, 0])) / 0.02
    torch.testing.assert_close(rate, -2e-3 * enstrophy(flow[:, 1]), rtol=1e-5, atol=0.0)
    assert (enstrophy(flow[:, 2]) < enstrophy(flow[:, 0])).all()


def test_forcing_alone_is_integrated_in_time() -> None:
    # u . grad(f) = 0 for a field of x + y alone, so without viscosity it grows linearly.
    config = FlowConfig(viscosity=0.0, step_seconds=0.1, record_seconds=1.0)
    start = torch.zeros(1, 16, 16, dtype=DOUBLE)
    flow = simulate(start, 2, config)
    expected = 2.0 * forcing_field(16, 0.1, like=start)
    torch.testing.assert_close(flow[0, 2], expected, rtol=1e-10, atol=1e-12)


def test_doubling_the_resolution_changes_nothing_that_is_resolved() -> None:
    config = FlowConfig(step_seconds=0.05)
    fields = {size: resample(simulate(smooth(size), 3, config), 16) for size in (32, 64, 128)}
    difference = {size: (fields[size] - fields[128]).abs().max() for size in (32, 64)}
    assert difference[64] < 1e-3
    assert difference[64] < 0.1 * difference[32]


def test_halving_the_step_divides_the_error_by_sixteen() -> None:
    def final(step: float) -> torch.Tensor:
        return simulate(smooth(32), 1, FlowConfig(step_seconds=step, record_seconds=0.8))[:, -1]

    exact = final(0.0125)
    coarse, fine = ((final(step) - exact).abs().max() for step in (0.2, 0.1))
    assert 10.0 < coarse / fine < 24.0


def test_random_fields_have_one_law_at_every_resolution() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = [float(random_vorticity(64, size, generator=generator).std()) for size in (16, 32, 64)]
    assert max(spread) / min(spread) < 1.1
    assert abs(float(random_vorticity(4, 16).mean())) < 1e-6


def test_resample_there_and_back() -> None:
    fields = smooth(16)
    torch.testing.assert_close(resample(resample(fields, 48), 16), fields)
    torch.testing.assert_close(resample(fields, 32)[:, ::2, ::2], fields)


def test_sequences_are_reproducible() -> None:
    config = FlowConfig(step_seconds=0.5)
    first, again, other = (
        make_sequences(3, 2, size=8, simulated_size=16, seed=seed, config=config)
        for seed in (1, 1, 2)
    )
    assert first.shape == (3, 3, 1, 8, 8)
    assert first.equal(again)
    assert not first.equal(other)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="no multiple"):
        FlowConfig(step_seconds=0.3)
    with pytest.raises(ConfigError, match="even number"):
        simulate(torch.zeros(1, 9, 9), 1)
    with pytest.raises(ConfigError, match="shorten step_seconds"):
        simulate(1e3 * smooth(32), 8, FlowConfig(viscosity=0.0, step_seconds=1.0))
