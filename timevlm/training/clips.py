"""Labelled clips: a folder per class or a CSV, a recognizer trained on them, top-k and mAP.

clips/walk/a.mp4  clips/run/b.mp4          a folder per class
path,label[,split]                         a CSV; paths are relative to it
path,labels[,split]   a.mp4,walk;talk      several classes a clip: independent of each other
id,actions            X1,c092 1.9 11.2;c147 0 12.6      as Charades writes them (times unused)
"""

import csv
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from recognizers.base import WEIGHTS_FILE, StreamingRecognizer, create
from recognizers.errors import RecognizerError
from timevlm.errors import InputError
from timevlm.prefilter.running import published_usage
from timevlm.prefilter.usage import Usage, load_usage
from timevlm.training.loop import PhaseConfig, run_phase
from timevlm.training.recognizers import average_precision
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
VALIDATION_SHARE = 0.2
TRAIN, VALIDATION = "train", "val"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledClip:
    """A video file with its classes."""

    path: Path
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Labelled clips and the classes that occur in them, sorted."""

    clips: tuple[LabelledClip, ...]
    labels: tuple[str, ...]
    multi_label: bool

    def of_split(self, split: str) -> list[LabelledClip]:
        """The clips of a split, in order."""
        return [clip for clip in self.clips if clip.split == split]

    def target(self, clip: LabelledClip) -> Tensor:
        """Float32 (K,), 1 for each class of the clip."""
        target = torch.zeros(len(self.labels))
        target[[self.labels.index(label) for label in clip.labels]] = 1.0
        return target


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How clips are read and batched; `usage` holds size and rate."""

    usage: Usage
    num_frames: int = 16
    batch_size: int = 8
    cache: Path | None = None
    """Folder for decoded clips, so that every file is decoded once; None: decode each time."""

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.batch_size < 1:
            raise InputError(
                f"num_frames {self.num_frames}, batch_size {self.batch_size}: give 1 or more"
            )


def read_clips(source: Path) -> ClipSet:
    """The clips of a folder or CSV.

    Without a split of their own a fifth of the clips, drawn by their names, is for validation.
    Raises InputError where there is nothing to learn from, or a file is missing.
    """
    rows = _from_csv(source) if source.is_file() else _from_folder(source)
    if not rows:
        raise InputError(f"{source} holds no labelled clips: see the header of clips.py for forms")
    missing = next((clip.path for clip in rows if not clip.path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing} does not exist: check the paths in {source}")
    labels = tuple(sorted({label for clip in rows for label in clip.labels}))
    if len(labels) < 2:
        raise InputError(f"{source} has {len(labels)} class: give clips of two or more")
    multi_label = any(len(clip.labels) != 1 for clip in rows)
    return ClipSet(clips=tuple(rows), labels=labels, multi_label=multi_label)


def _from_folder(folder: Path) -> list[LabelledClip]:
    if not folder.is_dir():
        raise InputError(f"{folder} is neither a folder nor a CSV file: check the path")
    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in SUFFIXES)
    return [
        LabelledClip(path=path, labels=(path.parent.name,), split=_split(path, folder))
        for path in files
    ]


def _from_csv(path: Path) -> list[LabelledClip]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        key = next((name for name in ("path", "id") if name in columns), None)
        labels = next((name for name in ("label", "labels", "actions") if name in columns), None)
        if key is None or labels is None:
            raise InputError(
                f"{path} has the columns {', '.join(columns) or 'none'}: it needs path (or id) and "
                "label, labels or actions"
            )
        rows = list(reader)
    clips = []
    for row in rows:
        file = path.parent / row[key]
        if key == "id":
            named = [path.parent / f"{row[key]}{suffix}" for suffix in SUFFIXES]
            file = next((candidate for candidate in named if candidate.is_file()), named[0])
        parts = [part.strip() for part in (row[labels] or "").split(";")]
        if labels == "actions":
            parts = [part.split(" ")[0] for part in parts]
        found = tuple(dict.fromkeys(part for part in parts if part))
        split = (row.get("split") or "").strip() or _split(file, path.parent)
        clips.append(LabelledClip(path=file, labels=found, split=split))
    return clips


def _split(path: Path, root: Path) -> str:
    """A split by the clip's name alone: it stays where it is when other clips come."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return VALIDATION if share < VALIDATION_SHARE else TRAIN


def decode_clip(path: Path, config: ClipConfig) -> Tensor:
    """All frames at the usage's rate: uint8 (T, 3, H, W). Raises VideoError."""
    usage = config.usage
    saved = None
    if config.cache is not None:
        text = f"{path.resolve()}:{path.stat().st_mtime_ns}:{usage.frame_size}:{usage.fps}"
        saved = config.cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"
        if saved.is_file():
            return torch.from_numpy(np.load(saved, allow_pickle=False))
    plan = SamplingPlan(fps=usage.fps, resolution=usage.frame_size)
    with open_video(path, plan) as reader:
        pixels = torch.cat([batch.pixels for batch in reader])
    if saved is not None:
        saved.parent.mkdir(parents=True, exist_ok=True)
        partial = saved.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, pixels.numpy(), allow_pickle=False)
        partial.replace(saved)
    return pixels


def build_recognizer(name: str, clips: ClipSet) -> tuple[StreamingRecognizer, Usage, list[str]]:
    """A recognizer for the classes of `clips`, and the names of tensors that begin fresh.

    `name` is a registered name (all begin fresh) or a trained folder, whose tensors are taken over
    where their shapes fit: all but the classifier. Raises InputError.
    """
    labels, multi_label = clips.labels, clips.multi_label
    try:
        folder = Path(name)
        if not folder.is_dir():
            model = create(name, labels=labels)
            usage = replace(published_usage(name), multi_label=multi_label)
            return model, usage, [key for key, _ in model.named_parameters()]
        trained = StreamingRecognizer.from_pretrained(folder)
    except RecognizerError as error:
        raise InputError(str(error)) from error
    model = type(trained)(replace(trained.config, num_classes=len(labels)), labels)
    known, own = load_file(folder / WEIGHTS_FILE), model.state_dict()
    fitting = {k: v for k, v in known.items() if own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    usage = replace(load_usage(folder) or published_usage(name), multi_label=multi_label)
    return model, usage, sorted(own.keys() - fitting.keys())


def draw_clips(
    clips: Sequence[LabelledClip], data: ClipSet, config: ClipConfig, step: int
) -> tuple[Tensor, Tensor]:
    """Frames float32 (B, T, 3, H, W) in [0, 1] and targets (B, K), by the step alone.

    A clip shorter than T holds its last picture; a longer one is cut at a random place; half of the
    clips are mirrored, unless a class's name holds "left" or "right".
    """
    rng = random.Random(f"clips:{step}")
    mirror = not any("left" in name or "right" in name for name in data.labels)
    rows, targets = [], []
    for clip in rng.choices(clips, k=config.batch_size):
        pixels = decode_clip(clip.path, config)
        start = rng.randint(0, max(0, len(pixels) - config.num_frames))
        pixels = pixels[start : start + config.num_frames]
        if len(pixels) < config.num_frames:
            hold = pixels[-1:].expand(config.num_frames - len(pixels), -1, -1, -1)
            pixels = torch.cat([pixels, hold])
        if mirror and rng.random() < 0.5:
            pixels = pixels.flip(-1)
        rows.append(pixels)
        targets.append(data.target(clip))
    return torch.stack(rows).float() / 255.0, torch.stack(targets)


def train_on_clips(
    model: StreamingRecognizer,
    data: ClipSet,
    config: ClipConfig,
    phase: PhaseConfig,
    folder: Path,
) -> StreamingRecognizer:
    """Train until the phase's minutes are spent; a run in `folder` goes on where it stood."""
    clips = data.of_split(TRAIN)
    if not clips:
        raise InputError("no clip is in split train: give some")
    model.train()

    def step_fn(step: int, share: float) -> tuple[Tensor, dict[str, float]]:
        frames, targets = draw_clips(clips, data, config, step)
        logits = model(frames).float()
        if data.multi_label:
            return F.binary_cross_entropy_with_logits(logits, targets), {}
        guess = logits.argmax(dim=1) == targets.argmax(dim=1)
        return F.cross_entropy(logits, targets), {"top1": float(guess.float().mean())}

    folder.mkdir(parents=True, exist_ok=True)
    run_phase(model, step_fn, phase, folder)
    return model.eval()


@torch.inference_mode()
def score_clips(
    model: StreamingRecognizer, data: ClipSet, config: ClipConfig, split: str = VALIDATION
) -> dict[str, float]:
    """Whole clips, one by one: top-1 and top-5 accuracy, or mAP where classes are independent.

    mAP is the mean over classes that occur of the average precision over clips, as the official
    Charades classification score; the mean weighted by how often a class occurs is not taken.
    """
    clips = data.of_split(split)
    if not clips:
        return {"num_clips": 0}
    model.eval()
    logits = torch.cat(
        [model(decode_clip(clip.path, config)[None].float() / 255.0).float() for clip in clips]
    )
    targets = torch.stack([data.target(clip) for clip in clips])
    if not data.multi_label:
        return {"num_clips": len(clips), **top_k_accuracy(logits, targets.argmax(dim=1))}
    return {"num_clips": len(clips), "map": mean_average_precision(logits, targets)}


def top_k_accuracy(logits: Tensor, classes: Tensor) -> dict[str, float]:
    """Top-1 and top-5 accuracy of logits (N, K) for classes (N,)."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == classes[:, None]
    return {
        "top1": float(best[:, 0].double().mean()),
        "top5": float(best.any(dim=1).double().mean()),
    }


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Mean over classes with a positive of the average precision; scores and targets (N, K)."""
    columns = [k for k in range(targets.shape[1]) if bool((targets[:, k] > 0.5).any())]
    if not columns:
        return 0.0
    return sum(average_precision(scores[:, k], targets[:, k]) for k in columns) / len(columns)
