"""Run any recognizer over a video file and say, as it goes on, which classes are likeliest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recognizers.base import (
    CONFIG_FILE,
    WEIGHTS_FOLDER,
    StreamingRecognizer,
    create,
)
from recognizers.errors import RecognizerError
from timevlm.errors import InputError, ModelError
from timevlm.prefilter.detector import Detector, DetectorState
from timevlm.prefilter.usage import Usage, load_usage
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan

# Kondratyuk et al. (2021), section 4: A0 to A2 are trained at 5 frames per second, which is also
# enough for every other network here.
_DEFAULT_FPS = 5.0
_DEFAULT_SIDE = 96
_BATCH_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class Recognizer:
    """A loaded recognizer with its usage, and what people should know about it."""

    detector: Detector
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """The likeliest classes after the frame at a time."""

    seconds: float
    classes: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        classes = [{"label": label, "probability": p} for label, p in self.classes]
        return {"seconds": self.seconds, "classes": classes}


def load_recognizer(
    name: str, *, weights: str | None = None, labels: str | None = None
) -> Recognizer:
    """A recognizer by name or folder, with the weights and labels of files where given.

    Raises InputError (unknown name, no weights, labels that do not fit) or ModelError (files).
    """
    names = None if labels is None else _read_labels(Path(labels))
    try:
        model, folder, notes = _build(name, weights)
    except RecognizerError as error:
        raise InputError(str(error)) from error
    if names is not None:
        if len(names) != model.config.num_classes:
            raise InputError(
                f"{labels} holds {len(names)} labels, {name} has {model.config.num_classes} "
                "classes: give one label per class"
            )
        model.labels = names
    usage = None if folder is None else load_usage(folder)
    if usage is None:
        usage = published_usage(name)
        height, width = usage.frame_size
        notes = (*notes, f"frames of {width}x{height}, {usage.fps:g} a second")
    return Recognizer(detector=Detector(name, model.eval(), usage, ""), notes=notes)


def recognize_video(
    path: Path,
    recognizer: Recognizer,
    *,
    every: float = 1.0,
    top: int = 5,
    sampling: Mapping[str, float | None] | None = None,
    isolate: bool = True,
) -> Iterator[Recognition]:
    """The `top` classes after every `every` seconds of video, and after its last frame.

    `sampling` may hold fps, start, end, and `size`, the side of the picture in pixels. Raises
    InputError (a size that the recognizer cannot read), VideoError or PlanError.
    """
    asked = {key: value for key, value in (sampling or {}).items() if value is not None}
    detector = recognizer.detector
    side = asked.pop("size", None)
    if side is not None:
        usage = replace(detector.usage, frame_size=(int(side), int(side)))
        detector = Detector(detector.name, detector.model, usage, detector.fingerprint)
    asked.setdefault("fps", detector.usage.fps)
    plan = SamplingPlan(resolution=detector.usage.frame_size, **asked)
    state, due, last = DetectorState(), None, None
    with open_video(path, plan, batch_size=_BATCH_FRAMES, isolate=isolate) as reader:
        for batch in reader:
            try:
                scores, state = detector.step(batch.pixels, batch.seconds.numpy(), state)
            except RecognizerError as error:
                raise InputError(str(error)) from error
            for seconds, row in zip(scores.seconds.tolist(), scores.classes, strict=True):
                last = Recognition(seconds=seconds, classes=_best(row, detector.labels, top))
                due = seconds if due is None else due
                if seconds >= due - 1e-6:
                    due = max(due + every, seconds)
                    yield last
                    last = None
    if last is not None:
        yield last


def _best(row: Sequence[float], labels: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    order = sorted(range(len(labels)), key=lambda k: -row[k])[:top]
    return tuple((labels[k], round(float(row[k]), 4)) for k in order)


def _build(
    name: str, weights: str | None
) -> tuple[StreamingRecognizer, Path | None, tuple[str, ...]]:
    """The model, the folder that its usage may lie in, and notes."""
    for folder in (weights, name):
        if folder is None:
            continue
        path = Path(folder)
        shipped = WEIGHTS_FOLDER / folder
        if not path.is_dir() and path.name == folder and shipped.is_dir():
            path = shipped
        if (path / CONFIG_FILE).is_file():
            return StreamingRecognizer.from_pretrained(path), path, ()
    model = create(name)
    if weights is None:
        raise InputError(
            f"{name} ships without weights: give --weights FILE, or use one of "
            f"{', '.join(sorted(p.parent.name for p in WEIGHTS_FOLDER.glob('*/' + CONFIG_FILE)))}"
        )
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"{weights} is no file: check the path of --weights")
    if model.family == "movinet":
        from recognizers.movinet import load_published

        loaded = load_published(path)
        if loaded.config.causal != model.config.causal or len(loaded.config.blocks) != len(
            model.config.blocks
        ):
            return loaded, None, (f"{weights} holds another architecture than {name}: it is used",)
        return loaded, None, ()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{weights} does not fit {name} ({reason}): give the weights of this network, or the "
            "folder that its training wrote"
        ) from error
    return model, None, ()


def published_usage(name: str) -> Usage:
    """How a recognizer without a usage.json is given its frames, by its registered name."""
    from recognizers.movinet import PUBLISHED

    parts = name.split("-")
    known = PUBLISHED.get(parts[1]) if parts[0] == "movinet" and len(parts) > 1 else None
    side = _DEFAULT_SIDE if known is None else known.resolution
    return Usage(frame_size=(side, side), fps=_DEFAULT_FPS)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}; give one class name a line") from error
    return tuple(line.strip() for line in lines if line.strip())
