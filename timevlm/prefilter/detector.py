"""Scores per frame: a small recognizer and the untrained novelty, run over a stream.

The recognizer reads the very frames that were decoded for the model, averaged down to its own size.
State goes in and comes out: any cut of a stream into batches gives the same scores.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recognizers.base import (
    WEIGHTS_FILE,
    WEIGHTS_FOLDER,
    State,
    StreamingRecognizer,
)
from recognizers.errors import RecognizerError
from timevlm.errors import ModelError
from timevlm.prefilter.names import FAMILIES, NOVELTY, WEIGHTS_PREFIX, resolve_name
from timevlm.prefilter.novelty import NoveltyState, novelty_step
from timevlm.prefilter.usage import EVENT_LABEL, Usage, load_usage

# After a fresh start the recognizer reads this many earlier frames again, so that its first new
# frame has something before it.
_WARM_UP_FRAMES = 4
# Of the frames, those of the lowest scores are what a video looks like when nothing happens.
_USUAL_SHARE = 0.2
# An event that it saw for certain.
_SURE = 0.6
_DEFAULT_USAGE = Usage(frame_size=(96, 96), fps=2.0)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was seen: per frame, whether something happens, how new it is, and which class it is."""

    seconds: np.ndarray  # float64 (N,), PTS
    event: np.ndarray  # float64 (N,), probability that something happens; 0 without a recognizer
    novelty: np.ndarray  # float64 (N,)
    classes: np.ndarray  # float64 (N, K), probability of each label
    labels: tuple[str, ...]

    def interest(self, named: Sequence[str] = ()) -> np.ndarray:
        """(N,) in [0, 1]: event, novelty or a class that the question named, whichever is most.

        For the scores of a whole video: events and classes count as far as they exceed what is
        usual in it (`above_usual`), novelty as far as the recognizer cannot be trusted.
        """
        novelty = (1.0 - self.trust()) * self.novelty
        return np.maximum.reduce([above_usual(self.event), novelty, self.named(named)])

    def trust(self) -> float:
        """How much the recognizer seems to be at home in this video, in [0, 1].

        It tells an event from a cut or a change of light, which novelty cannot; but only where it
        tells anything: 0 if it never sees an event or sees one nearly always, 1 if it sees some and
        is otherwise sure that there is none.
        """
        if not self.event.size or float(self.event.max()) < _SURE:
            return 0.0
        return float(np.clip(1.0 - 2.0 * np.quantile(self.event, _USUAL_SHARE), 0.0, 1.0))

    def named(self, labels: Sequence[str]) -> np.ndarray:
        """(N,) how far the likeliest of `labels` exceeds its usual probability; zeros for none."""
        columns = [above_usual(self.classes[:, self.labels.index(name)]) for name in labels]
        return np.maximum.reduce([np.zeros(len(self.seconds)), *columns])

    def busy(self, bar: float) -> np.ndarray:
        """bool (N,): whether something may happen, as far as one can tell frame by frame."""
        return np.maximum(self.event, self.novelty) >= bar


def above_usual(probabilities: np.ndarray) -> np.ndarray:
    """How far each of (N,) lies above the fifth that is lowest, as a share of the room above it.

    A recognizer that is far from what it was trained on tends to say the same all the time; that
    says nothing about where to look. Where it is at home, most of a long video scores near 0, and
    this changes nothing. The room counts as half of the range at least, so that flicker between two
    high scores stays small.
    """
    if not probabilities.size:
        return probabilities
    usual = float(np.quantile(probabilities, _USUAL_SHARE))
    return np.clip((probabilities - usual) / max(1.0 - usual, 0.5), 0.0, 1.0)


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of consecutive parts of a stream as one."""
    names = ("seconds", "event", "novelty", "classes")
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return Scores(**arrays, labels=parts[0].labels)


@dataclass(frozen=True, kw_only=True)
class DetectorState:
    """What a stream leaves behind; a value."""

    novelty: NoveltyState = field(default_factory=NoveltyState)
    recognizer: State | None = None
    window_position: int = 0  # frames since the recognizer's last fresh start
    tail: Tensor | None = None  # (1, up to 4, 3, h, w), the last frames it has read


class Detector:
    """A recognizer with its usage, or novelty alone (`model` None). Holds no stream's state."""

    def __init__(
        self, name: str, model: StreamingRecognizer | None, usage: Usage, fingerprint: str
    ) -> None:
        self.name = name
        self.model = model
        self.usage = usage
        self.fingerprint = fingerprint
        self.labels: tuple[str, ...] = () if model is None else model.labels
        self._runner = None if model is None else _fast(model)

    @classmethod
    def load(cls, name: str) -> "Detector":
        """The detector of a name or folder.

        Raises InputError for an unknown name, ModelError for files that cannot be used.
        """
        name = resolve_name(name)
        if name == NOVELTY:
            return cls(NOVELTY, None, _DEFAULT_USAGE, "none")
        folder = WEIGHTS_FOLDER / f"{WEIGHTS_PREFIX}{name}" if name in FAMILIES else Path(name)
        try:
            model = StreamingRecognizer.from_pretrained(folder)
            digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        except (RecognizerError, OSError) as error:
            raise ModelError(str(error)) from error
        return cls(name, model, load_usage(folder) or _DEFAULT_USAGE, digest)

    @torch.inference_mode()
    def step(
        self, frames: Tensor, seconds: np.ndarray, state: DetectorState
    ) -> tuple[Scores, DetectorState]:
        """Scores of frames uint8 (N, 3, H, W) shown at `seconds` (N,), and the next state."""
        novelty, novelty_state = novelty_step(frames, seconds, state.novelty)
        classes = np.zeros((len(frames), 0))
        recognizer, position, tail = state.recognizer, state.window_position, state.tail
        if self._runner is not None:
            small = resized(frames, self.usage.frame_size)[None]
            logits, recognizer, position, tail = self._read(small, state)
            classes = self.probabilities(logits[0]).double().cpu().numpy()
        event = np.zeros(len(frames))
        if EVENT_LABEL in self.labels:
            event = classes[:, self.labels.index(EVENT_LABEL)].copy()
        scores = Scores(
            seconds=np.asarray(seconds, dtype=float),
            event=event,
            novelty=novelty,
            classes=classes,
            labels=self.labels,
        )
        after = DetectorState(
            novelty=novelty_state, recognizer=recognizer, window_position=position, tail=tail
        )
        return scores, after

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (..., K) of logits (..., K)."""
        logits = logits.float()
        return logits.sigmoid() if self.usage.multi_label else logits.softmax(dim=-1)

    def _read(
        self, frames: Tensor, state: DetectorState
    ) -> tuple[Tensor, State | None, int, Tensor | None]:
        """Logits (1, N, K) of frames (1, N, 3, h, w), window by window; then the next state."""
        window = self.usage.window_frames
        recognizer, position, tail = state.recognizer, state.window_position, state.tail
        logits = []
        done = 0
        while done < frames.shape[1]:
            if recognizer is None or position == window:
                recognizer = self._runner.init_state(1, *self.usage.frame_size)
                position = 0
                if tail is not None:
                    _, recognizer = self._runner.step(tail, recognizer)
            count = frames.shape[1] - done
            if window is not None:
                count = min(count, window - position)
            piece = frames[:, done : done + count]
            found, recognizer = self._runner.step(piece, recognizer)
            logits.append(found)
            done += count
            position += count
            if window is not None:
                before = piece if tail is None else torch.cat([tail, piece], dim=1)
                tail = before[:, -_WARM_UP_FRAMES:].clone()
        return torch.cat(logits, dim=1), recognizer, position, tail


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames uint8 (N, 3, H, W) as float32 (N, 3, *size) in [0, 1]: averaged down, bilinear up."""
    scaled = frames.float() / 255.0
    if tuple(frames.shape[-2:]) == tuple(size):
        return scaled
    if frames.shape[-2] >= size[0] and frames.shape[-1] >= size[1]:
        return F.interpolate(scaled, size=size, mode="area")
    return F.interpolate(scaled, size=size, mode="bilinear", align_corners=False)


def _fast(model: StreamingRecognizer) -> StreamingRecognizer:
    """The same function for inference, where the family has a faster form of it."""
    if model.family == "movinet":
        from recognizers.movinet import fused

        return fused(model)
    return model
