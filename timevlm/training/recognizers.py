"""Train streaming recognizers: the pre-filter's small ones on the procedural world.

The world tells for every frame whether something happens in it and which motions go on. A pool of
clips is rendered once and shared by all recognizers; the optimiser sees it mirrored and recoloured.
`timevlm.training.clips` does the same for folders of labelled clips.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from recognizers.base import StreamingRecognizer
from recognizers.cnn import InvertedResidual
from recognizers.lcr import LCR, LCRConfig
from recognizers.minconv import MinConvClassifier, MinConvConfig
from recognizers.movinet import BlockConfig, MoViNet, MoViNetConfig
from recognizers.rrm import RRMRecognizer, RRMRecognizerConfig
from timevlm.errors import InputError
from timevlm.prefilter.detector import Detector, DetectorState
from timevlm.prefilter.names import FAMILIES
from timevlm.prefilter.usage import EVENT_LABEL, Usage
from timevlm.synth.full.palette import MOTIONS
from timevlm.synth.render import render_frames
from timevlm.synth.sparse import sample_sparse_video
from timevlm.synth.spec import VideoSpec
from timevlm.synth.timeline import Timeline, Track
from timevlm.synth.world import sample_video
from timevlm.training.loop import PhaseConfig, run_phase

FRAME_SIDE = 64
MOTION_LABELS = tuple(name for name in MOTIONS if name != "still")
LABELS = (EVENT_LABEL, *MOTION_LABELS)
TRAINED_ON = "a procedural world of eight shapes: something happens, and which of eleven motions"
# A mirrored clip shows other motions.
_MIRRORED = {"left": "right", "right": "left"}
# What stands still for longer is furniture, and no event.
_FURNITURE_SECONDS = 10.0
_MOMENT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Which clips are rendered; seeds and kinds decide everything."""

    num_clips: int = 600
    num_frames: int = 24
    side: int = FRAME_SIDE
    frame_rates: tuple[float, ...] = (1.0, 1.0, 2.0)
    kinds: tuple[str, ...] = ("sparse", "sparse", "sparse", "sparse", "basic", "full")
    split: str = "train"
    first_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ClipPool:
    """Rendered clips: pixels uint8 (N, T, 3, H, W), targets float32 (N, T, K) in [0, 1]."""

    pixels: Tensor
    targets: Tensor
    labels: tuple[str, ...] = LABELS


def frame_targets(spec: VideoSpec, seconds: Tensor) -> Tensor:
    """Float32 (N, K) in {0, 1}: for each of LABELS, whether it holds at `seconds` (N,).

    An event is an object that moves, blinks, comes, goes or changes its colour, or that stands
    still, but not for long.
    """
    targets = torch.zeros(len(seconds), len(LABELS))
    for track in Timeline(spec).tracks:
        if track.item.motion in MOTION_LABELS:
            start, end = track.moving
            inside = (seconds >= start) & (seconds < end)
            targets[inside, LABELS.index(track.item.motion)] = 1.0
        for start, end in _active_spans(track):
            targets[(seconds >= start) & (seconds < end), 0] = 1.0
    return targets


def _active_spans(track: Track) -> list[tuple[float, float]]:
    item = track.item
    start, end = track.visible
    stays = item.motion == "still" and end - start > _FURNITURE_SECONDS
    spans = [] if stays else [(start, end)]
    moments = [] if item.change_seconds is None else [item.change_seconds]
    if start > track.scene.start_seconds:
        moments.append(start)
    return spans + [(moment - 0.1, moment + _MOMENT_SECONDS) for moment in moments]


def render_pool(config: PoolConfig) -> ClipPool:
    """Render the clips of a pool; the same config gives the same pool."""
    pixels, targets = [], []
    for number in range(config.num_clips):
        spec, seconds = _sample_clip(config, number)
        pixels.append(render_frames([(spec, seconds)], (config.side, config.side)))
        targets.append(frame_targets(spec, seconds))
    return ClipPool(pixels=torch.stack(pixels), targets=torch.stack(targets))


def _sample_clip(config: PoolConfig, number: int) -> tuple[VideoSpec, Tensor]:
    """A video and the times of `num_frames` frames of it."""
    seed = config.first_seed + number
    rng = random.Random(f"recognizer:{config.split}:{seed}")
    kind = rng.choice(config.kinds)
    rate = rng.choice(config.frame_rates)
    length = config.num_frames / rate
    if kind == "sparse":
        num_events = rng.randint(1, 2)
        spec = sample_sparse_video(
            seed, max(60, int(length) + 20), num_events=num_events, split=config.split
        )
        start = rng.uniform(0.0, spec.duration_seconds - length)
        if rng.random() < 0.15:
            spec = _with_furniture(rng, spec)
    else:
        while True:
            spec = sample_video(seed, split=config.split, level=kind)
            if spec.duration_seconds > length + 0.1:
                break
            seed += 1_000_003
        start = rng.uniform(0.0, spec.duration_seconds - length)
    seconds = start + torch.arange(config.num_frames, dtype=torch.float64) / rate
    return spec, seconds.clamp(0.0, spec.duration_seconds)


def _with_furniture(rng: random.Random, spec: VideoSpec) -> VideoSpec:
    """The same video with a thing that stands in every room from end to end: no event."""
    donor = sample_video(rng.randrange(10**6), split=spec.split)
    item = donor.scenes[0].objects[0]
    still = replace(
        item,
        motion="still",
        end_xy=item.start_xy,
        end_radius=item.start_radius,
        motion_start_seconds=0.0,
        motion_end_seconds=spec.duration_seconds,
        appear_seconds=0.0,
        vanish_seconds=spec.duration_seconds,
        orbit_radius=0.0,
        orbit_turns=0.0,
        change_seconds=None,
        changed_colour=None,
        changed_rgb=None,
    )
    scenes = tuple(replace(scene, objects=(*scene.objects, still)) for scene in spec.scenes)
    return replace(spec, scenes=scenes)


def small_recognizer(family: str) -> tuple[StreamingRecognizer, Usage]:
    """The pre-filter's network of a family with fresh weights, for 64 x 64 pictures.

    Each takes some ten million multiply-adds a frame, so that it costs little beside decoding.
    Raises InputError for an unknown family.
    """
    usage = Usage(
        frame_size=(FRAME_SIDE, FRAME_SIDE), fps=2.0, multi_label=True, trained_on=TRAINED_ON
    )
    num_classes = len(LABELS)
    if family == "movinet":
        # The running averages over all of the past go deaf in hours: windows keep them short.
        return MoViNet(_tiny_movinet(num_classes), LABELS), replace(usage, window_frames=24)
    if family == "minconv":
        config = MinConvConfig(num_classes=num_classes, stem_channels=(12, 24, 48), num_layers=2)
        return MinConvClassifier(config, LABELS), usage
    if family == "lcr":
        config = LCRConfig(num_classes=num_classes, dim=64, depth=2, num_heads=2, patch_size=8)
        return LCR(config, LABELS), usage
    if family == "rrm":
        return RRMRecognizer(_tiny_rrm(num_classes), LABELS), usage
    raise InputError(f"no family {family!r}: choose one of {', '.join(FAMILIES)}")


def _tiny_movinet(num_classes: int) -> MoViNetConfig:
    rows = (
        # in, expanded, out, kernel (time, space), stride
        ((8, 24, 16, (3, 3), 2),),
        ((16, 48, 24, (3, 3), 2), (24, 72, 24, (3, 3), 1)),
        ((24, 96, 40, (5, 3), 2), (40, 120, 40, (3, 3), 1)),
    )
    stages = tuple(
        tuple(
            BlockConfig(in_channels=i, expand_channels=e, out_channels=o, kernel=k, stride=s)
            for i, e, o, k, s in stage
        )
        for stage in rows
    )
    return MoViNetConfig(
        num_classes=num_classes,
        stem_channels=8,
        stages=stages,
        head_channels=120,
        hidden_channels=128,
        dropout=0.1,
    )


def _tiny_rrm(num_classes: int) -> RRMRecognizerConfig:
    rows = (
        # kernel, expanded, out, stride
        (3, 24, 16, 2),
        (3, 48, 16, 1),
        (3, 64, 32, 2),
        (3, 96, 32, 1),
        (3, 128, 48, 2),
        (3, 144, 48, 1),
    )
    blocks = tuple(
        InvertedResidual(
            kernel=k, expanded=e, out=o, squeeze_excite=False, activation="hardswish", stride=s
        )
        for k, e, o, s in rows
    )
    return RRMRecognizerConfig(
        num_classes=num_classes,
        stem_width=12,
        blocks=blocks,
        features=96,
        hidden=96,
        # Above sensor noise: in a quiet room nothing is computed but the look whether it is.
        threshold=0.1,
    )


def draw_batch(pool: ClipPool, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Frames float32 (B, T, 3, H, W) in [0, 1] and targets (B, T, K) of a training step.

    Drawn with replacement by the step alone, so that training can resume; mirrored, colours turned
    and brightness changed at random.
    """
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(len(pool.pixels), (batch_size,), generator=generator)
    frames = pool.pixels[rows].float() / 255.0
    targets = pool.targets[rows]
    if torch.rand((), generator=generator) < 0.5:
        frames, targets = frames.flip(-1), mirrored_targets(targets, pool.labels)
    channels = torch.randperm(3, generator=generator)
    gain = 0.8 + 0.4 * torch.rand((batch_size, 1, 1, 1, 1), generator=generator)
    return (frames[:, :, channels] * gain).clamp(0.0, 1.0), targets


def mirrored_targets(targets: Tensor, labels: Sequence[str]) -> Tensor:
    """Targets (..., K) of clips seen in a mirror: left and right change places."""
    order = [
        labels.index(_MIRRORED[name]) if _MIRRORED.get(name) in labels else k
        for k, name in enumerate(labels)
    ]
    return targets[..., order]


def frame_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy over frames and classes; a rare class's positives count up to 8-fold."""
    share = targets.mean(dim=(0, 1)).clamp(min=0.02)
    weight = (0.5 * (1 - share) / share).clamp(1.0, 8.0)
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)


def train_small(
    family: str, pool: ClipPool, config: PhaseConfig, folder: Path, *, batch_size: int = 6
) -> tuple[StreamingRecognizer, Usage]:
    """Train a family's small recognizer until the minutes are spent; it goes on where it stood.

    `folder` gets log.jsonl and the checkpoint.
    """
    torch.manual_seed(0)
    model, usage = small_recognizer(family)
    model.train()

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        frames, targets = draw_batch(pool, step, batch_size)
        state = model.init_state(batch_size, *usage.frame_size)
        logits, _ = model.step(frames, state)
        loss = frame_loss(logits.float(), targets)
        guess = (logits[..., 0] > 0) == (targets[..., 0] > 0.5)
        return loss, {"event_accuracy": float(guess.float().mean())}

    folder.mkdir(parents=True, exist_ok=True)
    run_phase(model, step_fn, config, folder)
    return model.eval(), usage


@torch.inference_mode()
def measure(model: StreamingRecognizer, usage: Usage, pool: ClipPool) -> dict[str, float]:
    """Average precision of events, mean average precision of motions, and accuracy at 0.5.

    Clips run through the detector, frame by frame as a pre-filter would.
    """
    detector = Detector("measured", model.eval(), usage, "")
    found = []
    for clip in pool.pixels:
        seconds = torch.arange(len(clip)).double().numpy()
        scores, _ = detector.step(clip, seconds, DetectorState())
        found.append(torch.from_numpy(scores.classes))
    scores_all = torch.cat(found)
    targets = pool.targets.flatten(0, 1)
    precisions = [
        average_precision(scores_all[:, k], targets[:, k])
        for k in range(1, targets.shape[1])
        if bool(targets[:, k].any())
    ]
    guess = (scores_all[:, 0] >= 0.5) == (targets[:, 0] >= 0.5)
    return {
        "event_ap": average_precision(scores_all[:, 0], targets[:, 0]),
        "event_accuracy": float(guess.double().mean()),
        "motion_map": sum(precisions) / max(1, len(precisions)),
        "event_share": float(targets[:, 0].mean()),
    }


def average_precision(scores: Tensor, targets: Tensor) -> float:
    """Mean, over the positives, of the precision among all frames that score as high or higher.

    Frames of equal score share their rank. 0 where there is no positive.
    """
    order = scores.argsort(descending=True, stable=True)
    hits, ranked = (targets[order] > 0.5).double(), scores[order]
    if not bool(hits.any()):
        return 0.0
    # The last place of each run of equal scores.
    last = torch.searchsorted(-ranked, -ranked, right=True)
    precision = hits.cumsum(0)[last - 1] / last
    return float((precision * hits).sum() / hits.sum())


def half_copy(model: StreamingRecognizer) -> StreamingRecognizer:
    """A copy with its floating tensors in float16, to be saved; loading makes them float32."""
    return copy.deepcopy(model).half()
