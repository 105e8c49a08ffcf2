"""The forecaster: teacher forcing against steps, closed loop, training that can be carried on."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from recognizers.errors import ConfigError, WeightsError
from recognizers.forecast import (
    ForecastConfig,
    ForecastNetwork,
    TrainConfig,
    Trainer,
    closed_loop_error,
    count_parameters,
    persistence_error,
    with_parameters,
)

CELLS = ("minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru")


def network(cell: str = "minconvexplstm", seed: int = 0, **changes: object) -> ForecastNetwork:
    torch.manual_seed(seed)
    return ForecastNetwork(ForecastConfig(**{"cell": cell, "hidden_channels": 4, **changes}))


def drifting(num_sequences: int, num_frames: int, size: int = 8) -> torch.Tensor:
    """A smooth random field that moves one pixel a frame: a flow that can be learnt in seconds."""
    generator = torch.Generator().manual_seed(7)
    field = torch.randn(num_sequences, 1, size, size, generator=generator)
    field = (field + field.roll(1, 2) + field.roll(1, 3) + field.roll((1, 1), (2, 3))) / 2
    return torch.stack([field.roll(t, dims=3) for t in range(num_frames)], dim=1)


SMALL = TrainConfig(num_steps=6, batch_size=2, given_frames=4, closed_frames=2, warmup_steps=1)


@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forcing_is_step_by_step(cell, monkeypatch) -> None:
    model, fields = network(cell), torch.randn(2, 7, 1, 6, 8)
    with torch.no_grad():
        initial = {k: torch.rand_like(v) for k, v in model.init_state(2, 6, 8).items()}
        whole, end = model(fields, initial)
        monkeypatch.setattr("recognizers.convrnn.BLOCK_ELEMENTS", 1)
        steps, state = model(fields, initial)
    torch.testing.assert_close(steps, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_closed_loop_reads_its_own_predictions(cell) -> None:
    model, fields = network(cell), torch.randn(1, 3, 1, 6, 6)
    with torch.no_grad():
        predicted = model.forecast(fields, 2)
        read = torch.cat([fields, predicted[:, 2:4]], dim=1)
        expected, _ = model(read, model.init_state(1, 6, 6))
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5)


def test_scans_of_one_network_agree() -> None:
    fields = torch.randn(1, 6, 1, 6, 6)
    reference = network(scan="reference")
    expected = reference.forecast(fields, 3)
    for scan in ("fast", "log"):
        other = network(scan=scan)
        torch.testing.assert_close(other.forecast(fields, 3), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_width_follows_the_parameter_budget(cell) -> None:
    config = with_parameters(ForecastConfig(cell=cell, num_layers=2), 20_000)
    with torch.device("meta"):
        count = count_parameters(ForecastNetwork(config))
    assert abs(count - 20_000) < 2_500
    assert config.cell == cell


@pytest.mark.parametrize("cell", CELLS)
def test_training_that_was_stopped_is_the_one_that_was_not(cell, tmp_path) -> None:
    sequences = drifting(4, 8)
    straight = Trainer(network(cell), sequences, SMALL)
    losses = [straight.train_step() for _ in range(6)]

    first = Trainer(network(cell), sequences, SMALL)
    assert not first.run(until=lambda: first.step == 3)
    first.save(tmp_path / "checkpoint.safetensors")
    second = Trainer(network(cell, seed=1), sequences, SMALL)
    second.load(tmp_path / "checkpoint.safetensors")
    carried = []
    assert second.run(report=lambda step, loss: carried.append((step, loss)))
    assert [step for step, _ in carried] == [4, 5, 6]
    assert [loss for _, loss in carried] == losses[3:]
    assert second.seconds > first.seconds
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_checkpoint_of_another_network_is_refused(tmp_path) -> None:
    sequences = drifting(4, 8)
    trainer = Trainer(network(), sequences, SMALL)
    trainer.train_step()
    trainer.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(WeightsError, match="another folder"):
        Trainer(network("convgru"), sequences, SMALL).load(tmp_path / "checkpoint.safetensors")
    with pytest.raises(WeightsError, match="absent"):
        trainer.load(tmp_path / "absent")
    save_file(load_file(tmp_path / "checkpoint.safetensors"), tmp_path / "no_step.safetensors")
    with pytest.raises(WeightsError, match="step"):
        trainer.load(tmp_path / "no_step.safetensors")


def test_it_learns_a_drift_and_beats_persistence() -> None:
    sequences = drifting(24, 8)
    config = replace(SMALL, num_steps=120, batch_size=8, learning_rate=1e-2, input_noise=0.0)
    trainer = Trainer(network(hidden_channels=8), sequences[:16], config)
    assert trainer.run()
    error = closed_loop_error(trainer.network, sequences[16:], 5)
    still = persistence_error(sequences[16:], 5)
    assert error.shape == still.shape == (3,)
    assert error[0] < 0.5 * still[0]


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="at least 7 frames"):
        Trainer(network(), drifting(2, 6), SMALL)
    with pytest.raises(ConfigError, match="0 layers"):
        ForecastConfig(num_layers=0)
    with pytest.raises(ConfigError, match="batch 0"):
        TrainConfig(batch_size=0)
