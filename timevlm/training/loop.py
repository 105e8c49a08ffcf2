"""The training loop: phases, a budget in minutes each, resumable at any moment.

Phase "vision" teaches the vision tower patch labels, "align" the projector the LLM's words, and
"answers" the whole model to answer; before it "tracks" can teach a new head of tracks to read a
trained model. The learning rate follows the share of the phase's time that is spent, so that a
budget in minutes gives a finished schedule on any machine.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from timevlm.errors import InputError
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.render import render_frames
from timevlm.training.batches import SHORT_FRAMES, Batch, BatchConfig, VideoSample
from timevlm.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from timevlm.training.kinds import BASIC, Kinds, word_id
from timevlm.training.labels import PatchLabels, patch_labels
from timevlm.training.muon import Muon
from timevlm.training.objective import AnswerObjective
from timevlm.training.patches import AlignObjective, PatchObjective
from timevlm.training.pieces import Pieces, draw_frames
from timevlm.training.tracks import TrackHead

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """Budget and optimisation of one phase."""

    name: str
    minutes: float
    peak_rate: float
    warmup_share: float = 0.03  # of the phase's time
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    precision: Precision = "auto"  # of matrix products; weights and optimizer stay float32
    num_workers: int = 0  # processes that prepare data ahead of this one; 0: it does so itself

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            allowed = ", ".join(get_args(Precision))
            raise InputError(f"precision {self.precision!r} is unknown; choose one of {allowed}")

    def autocast(self, device: torch.device) -> torch.autocast:
        """Where the forward pass runs: bfloat16 on CUDA, float32 elsewhere, or as asked for."""
        half = self.precision == "bfloat16"
        half |= self.precision == "auto" and device.type == "cuda"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def training_device() -> torch.device:
    """The device of this process: its own GPU, or the CPU."""
    return Accelerator(cpu=not torch.cuda.is_available()).device


def learning_rate(config: PhaseConfig, share: float) -> float:
    """Linear warm-up, then half a cosine to 2 % of the peak; `share` of the time spent, 0..1."""
    if share < config.warmup_share:
        return config.peak_rate * max(share / config.warmup_share, 0.02)
    rest = min(1.0, (share - config.warmup_share) / (1 - config.warmup_share))
    return config.peak_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * rest)))


def make_optimizer(module: nn.Module, config: PhaseConfig) -> Muon:
    """Muon over hidden matrices; AdamW over embeddings, heads, convolutions, scales and biases.

    Matrices decay; the rest, embeddings among it, does not.
    """
    trainable = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trainable if p.dim() == 2 and not _is_table(n)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in trainable if id(p) not in chosen]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "is_matrix": True},
        {"params": rest, "weight_decay": 0.0, "is_matrix": False},
    ]
    return Muon(groups, lr=config.peak_rate)


def _is_table(name: str) -> bool:
    """Whether a parameter holds words, places or classes rather than a hidden map.

    The projector counts as one: it writes word vectors, many times longer than Muon's steps.
    """
    tables = ("embed", "lm_head", "head.weight", "projector", "places", "times", "comparing.")
    return any(part in name for part in tables)


# (until this share of the time, at most so many scenes, times as many videos)
Curriculum = Sequence[tuple[float, int, int]]
CURRICULUM: Curriculum = ((0.3, 1, 3), (0.42, 2, 2), (0.55, 3, 1))
WHOLE_AFTER = 0.9  # of the time: from then on videos are as long as they may be

ALIGN_WEIGHT = 0.2  # of the alignment loss beside the answers'
TRACK_WEIGHT = 1.0  # of the loss of tracks
LOOKUP_WEIGHT = 0.5  # of the loss of not attending to where the answer is to be seen
PHRASE_WEIGHT = 0.4  # of the same in captions, whose every word asks
ASKED_WEIGHT = 0.2  # of the same in the words of questions that compare
MEASURE_WEIGHT = 0.5  # of the loss of what things measure

StepFn = Callable[[int, float], tuple[Tensor, dict[str, float]]]


def run_phase(module: nn.Module, step_fn: StepFn, config: PhaseConfig, folder: Path) -> None:
    """Train until the phase's minutes are spent.

    `step_fn(i, share)` gives (loss, numbers to log) of the i-th piece of data when `share` of the
    time is spent; with several processes (`accelerate launch`) each takes its own piece and
    gradients are averaged.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    module.to(accelerator.device)
    optimizer = make_optimizer(module, config)
    phase_folder = folder / config.name
    progress = load_checkpoint(phase_folder, module, optimizer) or Progress(phase=config.name)
    budget = config.minutes * 60
    last_saved, recent = time.monotonic(), []
    while progress.seconds < budget:
        started = time.monotonic()
        share = progress.seconds / budget
        rate = learning_rate(config, share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        piece = progress.step * accelerator.num_processes + accelerator.process_index
        with config.autocast(accelerator.device):
            loss, numbers = step_fn(piece, share)
        accelerator.backward(loss)
        # The clock is averaged too: all processes must agree on when the budget is spent.
        elapsed = _average_gradients(module, accelerator, time.monotonic() - started)
        norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
        if torch.isfinite(norm):  # a bad batch must not spoil the weights
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.seconds += elapsed
        measured = {"loss": float(loss.detach()), "grad_norm": float(norm)}
        recent.append({**measured, **numbers, "step_seconds": elapsed})
        if not accelerator.is_main_process:
            continue
        if progress.step % config.log_every == 0:
            _write(folder / "log.jsonl", progress, rate, recent)
            recent = []
        if time.monotonic() - last_saved > config.checkpoint_seconds:
            save_checkpoint(phase_folder, module, optimizer, progress)
            last_saved = time.monotonic()
    if accelerator.is_main_process:
        save_checkpoint(phase_folder, module, optimizer, progress)
    accelerator.wait_for_everyone()


def _average_gradients(module: nn.Module, accelerator: Accelerator, seconds: float) -> float:
    """Average all gradients, and `seconds`, over the processes; the mean seconds.

    A parameter that only another process's piece needed has a gradient of zero here; one that none
    needed keeps none.
    """
    if accelerator.num_processes == 1:
        return seconds
    parameters = list(module.parameters())
    device = parameters[0].device
    has_one = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    shares = accelerator.reduce(has_one, reduction="mean").tolist()
    for parameter, share in zip(parameters, shares, strict=True):
        if share and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([seconds])])
    flat = accelerator.reduce(flat, reduction="mean")
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return float(flat[-1])


def _write(path: Path, progress: Progress, rate: float, recent: list[dict[str, float]]) -> None:
    means = {k: sum(r[k] for r in recent) / len(recent) for k in recent[0]}
    line = {
        "phase": progress.phase,
        "step": progress.step,
        "minutes": round(progress.seconds / 60, 3),
        "learning_rate": rate,
        **{k: round(v, 5) for k, v in means.items()},
    }
    with path.open("a") as log:
        print(json.dumps(line), file=log)


def _seconds_since(started: float, device: torch.device) -> float:
    """Seconds on the clock, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - started


def labelled_frames(
    model: TimeVLMForConditionalGeneration,
    step: int,
    num_frames: int = 96,
    kinds: Kinds = BASIC,
) -> tuple[Tensor, PatchLabels]:
    """Frames drawn from several videos, and the labels of their patches."""
    frames = draw_frames(step, num_frames, kinds)
    pixels = _render(model, frames)
    return pixels, patch_labels(frames, model.config.patch_grid[0]).to(model.device)


def _render(model: TimeVLMForConditionalGeneration, samples: Sequence[VideoSample]) -> Tensor:
    requests = [(sample.spec, sample.seconds) for sample in samples]
    return render_frames(requests, model.config.frame_size, model.device)


def vision_phase(
    model: TimeVLMForConditionalGeneration,
    config: PhaseConfig,
    folder: Path,
    kinds: Kinds = BASIC,
    keep_features: float = 0.0,
) -> None:
    """Teach the vision tower patch labels on frames drawn from many videos.

    `keep_features` is how much it counts that features stay as they are, see `PatchObjective`.
    """
    model.to(training_device())
    objective = PatchObjective(model, kinds, keep_features)

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        started = time.monotonic()
        pixels, labels = labelled_frames(model, step, kinds=kinds)
        rendered = _seconds_since(started, pixels.device)
        loss, right = objective(pixels, labels)
        numbers = {name: float(share) for name, share in right.items()}
        return loss, {**numbers, "render_seconds": rendered}

    run_phase(objective, step_fn, config, folder)


def align_phase(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    config: PhaseConfig,
    folder: Path,
    kinds: Kinds = BASIC,
    keep_features: float = 0.0,
) -> None:
    """Teach the projector to put patches into the LLM's words; nothing else moves.

    With `keep_features` above 0 only texts are taught, see `AlignObjective`.
    """
    model.to(training_device())
    model.vision.requires_grad_(False)
    objective = align_objective(model, processor, kinds, keep_features)

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        return objective(*labelled_frames(model, step, kinds=kinds)), {}

    run_phase(objective, step_fn, config, folder)


def align_objective(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    kinds: Kinds = BASIC,
    keep_features: float = 0.0,
) -> AlignObjective:
    """The alignment of patches with the words of shapes, colours, patterns and texts."""
    tables = (kinds.shapes, kinds.colours, kinds.patterns[1:])
    shapes, colours, patterns = ([word_id(processor, w) for w in table] for table in tables)
    texts = [word_id(processor, w) for w in (kinds.texts[0] if kinds.texts else ())]
    return AlignObjective(model, (shapes, colours, patterns), texts, keep_features)


def track_phase(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    config: PhaseConfig,
    folder: Path,
    batches: BatchConfig,
    tracks: TrackHead,
) -> None:
    """Teach the head of tracks what the tokens of a trained model say; nothing else moves.

    For a saved model whose run is not at hand: a head drawn anew would pull at its tokens until it
    had learnt to read them.
    """
    model.to(training_device())
    objective = AnswerObjective(model, processor.prefix_ids(), batches.kinds, tracks)
    size, device = model.config.frame_size, model.device
    pieces = _pieces(model, processor, config.num_workers)

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        started = time.monotonic()
        piece = pieces.take(step, batches)
        batch = piece.batch.with_frames(piece.samples, size, device)
        rendered = _seconds_since(started, device)
        with torch.no_grad():
            tracked = objective.watch_tracking(batch, piece.labels.to(device))
        return tracks(tracked.tokens, tracked.targets), {"render_seconds": rendered}

    with pieces:
        run_phase(tracks, step_fn, config, folder)


def _pieces(
    model: TimeVLMForConditionalGeneration, processor: TimeVLMProcessor, num_workers: int
) -> Pieces:
    """The data that this process is to train on."""
    processes = Accelerator(cpu=model.device.type == "cpu").num_processes
    grid = model.config.patch_grid[0]
    return Pieces(processor, grid, num_workers=num_workers, stride=processes)


def answer_phase(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    config: PhaseConfig,
    folder: Path,
    batches: BatchConfig,
    curriculum: Curriculum = CURRICULUM,
    tracks: TrackHead | None = None,
) -> None:
    """Teach the whole model to answer; the vision tower keeps what the first phase taught it.

    `tracks` asks the tokens for theirs; None draws it anew. It is no part of a saved model, and one
    that has yet to learn pulls at what the tokens of a trained model already say.

    The alignment stays on with a small weight. Without it the directions that are useful first
    (shape, place) grow until colour, a tenth of their size, is not heard any more.

    Videos grow from one scene to all of theirs (`curriculum`): looking up a picture's words has to
    be learnt first, and is learnt many times faster where there is little to look through.
    """
    model.to(training_device())
    model.vision.requires_grad_(False)
    objective = AnswerObjective(
        model, processor.prefix_ids(), batches.kinds, tracks, batches.length_power
    )
    align = align_objective(model, processor, batches.kinds)
    size, device = model.config.frame_size, model.device
    pieces = _pieces(model, processor, config.num_workers)

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        started = time.monotonic()
        piece = pieces.take(step, curriculum_config(batches, share, curriculum))
        batch = piece.batch.with_frames(piece.samples, size, device)
        frames = _render(model, piece.frames)
        rendered = _seconds_since(started, device)
        losses = objective(batch, piece.labels.to(device))
        aligned = align(frames, piece.frame_labels.to(device))
        numbers = {
            "render_seconds": rendered,
            **answer_accuracy(batch, losses.predicted, losses.counted),
        }
        parts = {"answer": losses.answers, "align": aligned, "track": losses.tracks}
        parts |= {"measure": losses.measures}
        parts |= {"lookup": losses.lookups, "phrase": losses.phrases, "asked": losses.asked}
        numbers |= {f"{name}_loss": float(value.detach()) for name, value in parts.items()}
        loss = losses.answers + ALIGN_WEIGHT * aligned + TRACK_WEIGHT * losses.tracks
        loss = loss + LOOKUP_WEIGHT * losses.lookups + PHRASE_WEIGHT * losses.phrases
        loss = loss + ASKED_WEIGHT * losses.asked + MEASURE_WEIGHT * losses.measures
        return loss, numbers

    with pieces:
        run_phase(objective, step_fn, config, folder)


def curriculum_config(
    batches: BatchConfig, share: float, curriculum: Curriculum = CURRICULUM
) -> BatchConfig:
    """What a batch holds when `share` of the phase is spent.

    First few scenes, then whole videos, then longer and longer ones: where `max_frames` allows
    more than `SHORT_FRAMES`, the bound doubles from there in equal stretches of the time that is
    left after the curriculum, and stands at its end from `WHOLE_AFTER` on. Without a curriculum it
    stands there from the beginning.
    """
    for until, max_scenes, more_videos in curriculum:
        if share < until:
            num_videos = batches.num_videos * more_videos
            return replace(
                batches,
                num_videos=num_videos,
                turns_per_video=max(6, batches.turns_per_video // more_videos),
                max_scenes=max_scenes,
            )
    begun = curriculum[-1][0] if curriculum else WHOLE_AFTER
    grown = min(1.0, max(0.0, share - begun) / (WHOLE_AFTER - begun)) if curriculum else 1.0
    doublings = math.ceil(math.log2(max(1.0, batches.max_frames / SHORT_FRAMES)))
    if grown == 1.0 or not doublings:
        return batches
    return replace(batches, max_frames=SHORT_FRAMES * 2 ** int(grown * doublings))


def answer_accuracy(batch: Batch, predicted: Tensor, counted: Tensor) -> dict[str, float]:
    """Share of answer tokens, and of whole answers, that greedy teacher forcing gets right."""
    targets = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=-1)
    right = (predicted == targets) | ~counted
    return {
        "token_accuracy": float((right & counted).sum() / counted.sum()),
        "answer_accuracy": float(right.all(dim=1).float().mean()),
    }


def read_log(path: Path) -> Iterable[dict]:
    """Lines of a training log, without a torn last one."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
