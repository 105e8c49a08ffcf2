"""The training loop: resumable at any step, finished on budget, safe from bad batches."""

import dataclasses
import json
import math
from itertools import count

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.helpers import save_tiny, tiny_model, tiny_processor
from timevlm.errors import InputError
from timevlm.training import loop
from timevlm.training.batches import BatchConfig
from timevlm.training.checkpoint import Progress, load_checkpoint, read_part, save_checkpoint
from timevlm.training.kinds import FULL, MOVE_SIZE
from timevlm.training.loop import (
    PhaseConfig,
    align_phase,
    answer_phase,
    learning_rate,
    make_optimizer,
    read_log,
    track_phase,
    vision_phase,
)
from timevlm.training.nano import build_nano
from timevlm.training.objective import AnswerObjective
from timevlm.training.plots import render_share
from timevlm.training.tracks import TrackHead

STEPS = 7


class StepClock:
    """A clock that moves one second whenever it is looked at: every step takes one second."""

    def __init__(self) -> None:
        self.ticks = count()

    def monotonic(self) -> float:
        return float(next(self.ticks))


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(loop, "time", StepClock())


def phase(steps: int = STEPS, **changes: object) -> PhaseConfig:
    settings = {"name": "tiny", "minutes": steps / 60, "peak_rate": 0.05, "log_every": 2}
    return PhaseConfig(**{**settings, "checkpoint_seconds": 0.0, **changes})


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Task:
    """Fits noise that depends on the step alone; stops like a killed process at `stop`."""

    def __init__(self, module: nn.Module, stop: int | None = None) -> None:
        self.module = module
        self.stop = stop
        self.seen: list[tuple[int, float]] = []

    def __call__(self, step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        if step == self.stop:
            raise KeyboardInterrupt
        self.seen.append((step, share))
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        return (self.module(x) - x[:, :1] * 3).square().mean(), {"step_number": float(step)}


@pytest.mark.parametrize("stops", [[3], [1, 2, 5]])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, stops):
    whole = Task(network())
    loop.run_phase(whole.module, whole, phase(), tmp_path / "whole")
    seen, module = [], network()
    for stop in stops:
        task = Task(module, stop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_phase(module, task, phase(), tmp_path / "parts")
        seen += task.seen
        module = network()  # a new process knows nothing but the checkpoint
    task = Task(module)
    loop.run_phase(module, task, phase(), tmp_path / "parts")
    assert seen + task.seen == whole.seen
    assert [step for step, _ in whole.seen] == list(range(STEPS))
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name


def test_a_finished_phase_does_nothing_more(tmp_path):
    task = Task(network())
    loop.run_phase(task.module, task, phase(), tmp_path)
    again = Task(network())
    loop.run_phase(again.module, again, phase(), tmp_path)
    assert again.seen == []
    for name, tensor in task.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor)


def test_a_checkpoint_is_safetensors_and_complete(tmp_path):
    task = Task(network())
    loop.run_phase(task.module, task, phase(), tmp_path)
    assert [p.name for p in (tmp_path / "tiny").iterdir()] == ["checkpoint.safetensors"]
    tensors = load_file(tmp_path / "tiny" / "checkpoint.safetensors")
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    for name, tensor in task.module.state_dict().items():
        assert torch.equal(weights[name], tensor)
        moments = ("momentum",) if tensor.dim() == 2 else ("mean", "square", "step")
        for moment in moments:
            assert f"optimizer.{name}|{moment}" in tensors
    assert float(tensors["optimizer.0.bias|step"]) == STEPS


def test_checkpoints_keep_progress_and_moments(tmp_path):
    module = network()
    optimizer = make_optimizer(module, phase())
    module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, module, optimizer, Progress(phase="tiny", step=3, seconds=4.5))
    other = network()
    fresh = make_optimizer(other, phase())
    assert load_checkpoint(tmp_path, other, fresh) == Progress(phase="tiny", step=3, seconds=4.5)
    for (name, p), q in zip(module.named_parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state[p].items():
            assert torch.equal(fresh.state[q][key], value), (name, key)
    assert load_checkpoint(tmp_path / "absent", other, fresh) is None


def test_a_later_run_goes_on_with_the_head_of_tracks(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    objective = AnswerObjective(model, processor.prefix_ids())
    optimizer = make_optimizer(objective, phase())
    save_checkpoint(tmp_path / "answers", objective, optimizer, Progress(phase="answers"))
    head = TrackHead(model.config.llm.hidden_size)
    saved = read_part(tmp_path / "answers", "tracks")
    head.take_over(saved)
    for name, tensor in objective.tracks.state_dict().items():
        assert torch.equal(head.state_dict()[name], tensor), name
    with pytest.raises(InputError, match="of the same level"):
        TrackHead(model.config.llm.hidden_size, FULL).take_over(saved)
    with pytest.raises(InputError, match="no checkpoint"):
        read_part(tmp_path / "absent", "tracks")


def test_a_head_of_tracks_takes_over_one_without_the_last_lessons():
    before = TrackHead(8, dataclasses.replace(FULL, acts=(), stills=()))
    after = TrackHead(8, FULL)
    drawn = after.head.weight.detach().clone()
    after.take_over(before.state_dict())
    sizes = [*before.kinds.track_sizes, MOVE_SIZE]
    *lessons, moves = before.head.weight.split(sizes)
    *grown, grown_moves = after.head.weight.split([*FULL.track_sizes, MOVE_SIZE])
    assert all(torch.equal(a, b) for a, b in zip(lessons, grown, strict=False))
    assert torch.equal(moves, grown_moves)
    num_new = sum(FULL.track_sizes[len(lessons) :])
    assert torch.equal(torch.cat(grown[len(lessons) :]), drawn[-MOVE_SIZE - num_new : -MOVE_SIZE])


def test_processes_average_gradients_that_not_all_of_them_have():
    class Pair:
        """Two processes, of which the other has a gradient of 2 for each of the first two."""

        num_processes = 2

        def __init__(self) -> None:
            self.others = iter([torch.tensor([1.0, 1.0, 0.0]), torch.tensor([2.0, 2.0, 3.0])])

        def reduce(self, own: Tensor, reduction: str) -> Tensor:
            assert reduction == "mean"
            return (own + next(self.others)) / 2

    module = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(3))
    module[0].grad = torch.ones(1)
    assert loop._average_gradients(module, Pair(), 1.0) == 2.0
    assert [None if p.grad is None else p.grad.item() for p in module] == [1.5, 1.0, None]


def test_a_batch_without_finite_gradients_leaves_the_weights(tmp_path):
    class Spoiled(Task):
        def __call__(self, step: int, share: float) -> tuple[Tensor, dict[str, float]]:
            loss, numbers = super().__call__(step, share)
            return (loss * float("nan") if step == 2 else loss), numbers

    class Skipping(Task):
        def __call__(self, step: int, share: float) -> tuple[Tensor, dict[str, float]]:
            self.before = [p.detach().clone() for p in self.module.parameters()]
            return super().__call__(step, share)

    spoiled = Spoiled(network())
    loop.run_phase(spoiled.module, spoiled, phase(3), tmp_path / "a")
    clean = Skipping(network())
    loop.run_phase(clean.module, clean, phase(3), tmp_path / "b")
    for found, expected in zip(spoiled.module.parameters(), clean.before, strict=True):
        assert torch.equal(found, expected)  # as if step 2 had not been


def test_the_log_holds_means_and_survives_a_torn_line(tmp_path):
    task = Task(network())
    loop.run_phase(task.module, task, phase(), tmp_path)
    path = tmp_path / "log.jsonl"
    with path.open("a") as file:
        file.write('{"phase": "ti')
    lines = list(read_log(path))
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["step_number"] for line in lines] == [0.5, 2.5, 4.5]
    assert all(line["phase"] == "tiny" and line["loss"] > 0 for line in lines)
    assert json.loads(path.read_text().splitlines()[0]) == lines[0]


def test_the_rate_warms_up_and_falls_to_the_end():
    config = phase(peak_rate=1.0, warmup_share=0.1)
    rates = [learning_rate(config, share / 100) for share in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(rates[10]) == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
    assert learning_rate(config, 1.5) == pytest.approx(0.02)


def test_only_matrices_decay_and_frozen_parameters_are_left_out():
    model = tiny_model()
    model.vision.requires_grad_(False)
    optimizer = make_optimizer(model, phase())
    decayed, rest = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    for name, parameter in model.named_parameters():
        if name.startswith("vision."):
            assert id(parameter) not in decayed | rest
        elif name.endswith(("A_log", "dt_bias", "alpha", "norm.weight", "embeddings.weight")):
            assert id(parameter) in rest, name
        elif name.endswith("_proj.weight"):
            assert id(parameter) in decayed, name


def test_answer_phase_trains_all_but_the_vision_tower(tmp_path):
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batches = BatchConfig(num_videos=1, turns_per_video=3, max_frames=3, max_scenes=1)
    config = phase(15, log_every=1, peak_rate=1e-3)  # the clock is looked at inside steps too
    answer_phase(model, tiny_processor(), config, tmp_path, batches)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert not any(name.startswith("vision.") for name in changed)
    for part in ("projector.0.weight", "llm.backbone.alpha", "llm.lm_head.weight"):
        assert part in changed
    lines = list(read_log(tmp_path / "log.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > 1
    assert all(0.0 <= line["token_accuracy"] <= 1.0 for line in lines)


def test_a_head_of_tracks_learns_alone_what_tokens_say(tmp_path):
    torch.manual_seed(2)
    model, processor = tiny_model(), tiny_processor()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batches = BatchConfig(num_videos=1, turns_per_video=3, max_frames=3, max_scenes=1)
    head = TrackHead(model.config.llm.hidden_size)
    config = phase(200, name="tracks", log_every=1, peak_rate=1e-2)
    track_phase(model, processor, config, tmp_path, batches, head)
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl")]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
        assert parameter.requires_grad

    again = TrackHead(model.config.llm.hidden_size)  # a new process knows only the checkpoint
    track_phase(model, processor, config, tmp_path, batches, again)
    for name, tensor in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_phases_train_on_level_full(tmp_path, precision):
    model, processor = build_nano(save_tiny(tmp_path / "basic"), "full")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = {"log_every": 1, "peak_rate": 1e-3, "precision": precision}
    vision_phase(model, phase(4, name="vision", **settings), tmp_path, FULL)
    align_phase(model, processor, phase(2, name="align", **settings), tmp_path, FULL)
    batches = BatchConfig(level="full", num_videos=1, turns_per_video=6, max_frames=4)
    answer_phase(model, processor, phase(9, name="answers", **settings), tmp_path, batches)
    lines = list(read_log(tmp_path / "log.jsonl"))
    assert {line["phase"] for line in lines} == {"vision", "align", "answers"}
    for line in lines:
        assert all(math.isfinite(value) for value in line.values() if isinstance(value, float))
    assert 0 < render_share(lines) < 1
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert any(name.startswith("vision.") for name in changed)
    assert {"projector.0.weight", "llm.backbone.alpha", "llm.lm_head.weight"} <= changed
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="bfloat16"):
        phase(precision="half")


def test_long_videos_can_be_trained_on(tmp_path):
    model, processor = build_nano(save_tiny(tmp_path / "basic"), "full")
    batches = BatchConfig(
        level="full", num_videos=1, turns_per_video=6, max_frames=80, long_share=1.0
    )
    answer_phase(model, processor, phase(4, log_every=1), tmp_path, batches, ())
    (line, *_) = read_log(tmp_path / "log.jsonl")
    assert math.isfinite(line["loss"])
    assert line["lookup_loss"] > 0  # needles are looked up
    assert sum(line["asked_loss"] for line in read_log(tmp_path / "log.jsonl")) > 0
