"""One decode pass: score every candidate frame, keep small copies, then choose where to look.

Which frames are worth the model's time is known only when the whole video was seen, and a video is
decoded once. So the pass hands out the candidates (the frames that the plan would take if it had no
cap), scores them at low resolution as they come, and keeps them as the uint8 pictures that the
model would get (27 kB each for 96 x 96). At the end the focused plan chooses among the kept ones.
What is kept has a limit in bytes; above it, frames in which nothing happens are thinned first.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from timevlm.errors import InputError, VideoError
from timevlm.prefilter.detector import Detector, DetectorState, Scores, join_scores
from timevlm.prefilter.questions import named_labels
from timevlm.prefilter.segments import Segment, SegmentRules, find_segments, with_labels
from timevlm.video.frames import FrameBatch
from timevlm.video.sampling import SamplingPlan
from timevlm.video.tensor_frames import TensorFrames

# Frames for the model where a pre-filter is on and nobody named a number.
DEFAULT_BUDGET = 256
KEPT_BYTES = 256 * 2**20
# How much denser a segment is watched when it shows what the question names for certain.
NAMED_GAIN = 4.0
# Raised when the meaning of scores or segments changes: part of cache keys.
PREFILTER_VERSION = 1

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Focus:
    """The chosen frames as a stream of `FrameBatch`, and why they were chosen."""

    frames: Iterable[FrameBatch]
    planned_seconds: np.ndarray | Tensor
    plan: SamplingPlan
    """The plan with its focus spans: applied to the same file, it chooses the same frames."""
    scores: Scores | None = None
    """None where all candidates fitted the budget, so that nothing had to be scored."""
    segments: tuple[Segment, ...] = ()
    recognize_seconds: float = 0.0
    """Time spent on scoring."""

    def __iter__(self) -> Iterator[FrameBatch]:
        return iter(self.frames)


@dataclass(frozen=True, kw_only=True)
class Prefilter:
    """A detector, what the question named, and how scores become segments."""

    detector: Detector
    named: tuple[str, ...] = ()
    rules: SegmentRules = field(default_factory=SegmentRules)
    kept_bytes: int = KEPT_BYTES

    def about(self, *texts: str) -> "Prefilter":
        """The same pre-filter with an eye on the classes that questions or queries name."""
        return replace(self, named=named_labels(" . ".join(texts), self.detector.labels))

    def identity(self) -> dict[str, object]:
        """JSON values that differ wherever the chosen frames could."""
        usage = self.detector.usage
        return {
            "version": PREFILTER_VERSION,
            "name": self.detector.name,
            "weights": self.detector.fingerprint,
            # Beside the weights, in files of their own: how frames are read, what outputs mean.
            "frame_size": list(usage.frame_size),
            "window_frames": usage.window_frames,
            "multi_label": usage.multi_label,
            "labels": list(self.detector.labels),
            "named": list(self.named),
            "rules": asdict(self.rules),
            "kept_bytes": self.kept_bytes,
        }

    def budgeted(self, plan: SamplingPlan, default_fps: float) -> SamplingPlan:
        """The plan with a cap and a rate, which a focus needs, where they were left open."""
        return replace(
            plan,
            fps=default_fps if plan.fps is None else plan.fps,
            max_frames=DEFAULT_BUDGET if plan.max_frames is None else plan.max_frames,
        )

    def candidates(self, plan: SamplingPlan) -> SamplingPlan:
        """What is decoded: all frames among which a budgeted plan chooses."""
        return replace(plan, max_frames=None, mode="fps", focus=())

    def focus(
        self,
        stream: Iterable[FrameBatch],
        plan: SamplingPlan,
        *,
        end_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Focus:
        """Read the stream of candidates once and choose `plan.max_frames` of them.

        `stream` has an attribute `planned_seconds`. `progress(done, planned)` is called after every
        batch. Raises InputError for a plan without a cap, VideoError if no frame came.
        """
        if plan.max_frames is None:
            raise InputError("a pre-filter needs a frame budget: give max_frames")
        planned = len(stream.planned_seconds)
        if planned <= plan.max_frames:
            return Focus(frames=stream, planned_seconds=stream.planned_seconds, plan=plan)
        store = FrameStore(self.kept_bytes)
        scores, spent = self.scan(stream, store, progress)
        segments = self.segments(scores, end_seconds=end_seconds)
        focused = self.focused_plan(plan, scores, segments)
        seconds, pixels = store.contents()
        # The kept frames are the candidates already: the plan's rate and range were applied.
        among = replace(focused, fps=None, start=None, end=None)
        chosen = torch.from_numpy(among.select(seconds, end_seconds=end_seconds)).tolist()
        frames = TensorFrames(
            torch.stack([pixels[i] for i in chosen]), torch.from_numpy(seconds[chosen])
        )
        return Focus(
            frames=frames,
            planned_seconds=frames.planned_seconds,
            plan=focused,
            scores=scores,
            segments=tuple(segments),
            recognize_seconds=spent,
        )

    def segments(self, scores: Scores, *, end_seconds: float | None = None) -> list[Segment]:
        """Segments of a scored stream, with their likeliest classes."""
        found = find_segments(
            scores.interest(self.named), scores.seconds, self.rules, end_seconds=end_seconds
        )
        if not scores.labels:
            return found
        return with_labels(found, scores.seconds, scores.classes, scores.labels)

    def focused_plan(
        self, plan: SamplingPlan, scores: Scores, segments: Iterable[Segment]
    ) -> SamplingPlan:
        """The plan with the segments of a scored stream as its focus."""
        return replace(plan, focus=focus_spans(segments, scores, self.named))

    def scan(
        self, stream: Iterable[FrameBatch], store: "FrameStore", progress: Progress | None = None
    ) -> tuple[Scores, float]:
        """Scores of all frames, which the store keeps; and the seconds that scoring took.

        Raises VideoError if no frame came.
        """
        state, parts, spent, done = DetectorState(), [], 0.0, 0
        for batch in stream:
            started = time.perf_counter()
            part, state = self.detector.step(batch.pixels, batch.seconds.numpy(), state)
            spent += time.perf_counter() - started
            parts.append(part)
            store.add(batch, part.busy(self.rules.leave))
            done += len(batch)
            if progress is not None:
                progress(done, len(stream.planned_seconds))
        if not parts:
            raise VideoError("the video gave no frame to choose from: check the file")
        return join_scores(parts), spent


class FrameStore:
    """Frames of a stream within a limit in bytes; the ones in which nothing happens go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._seconds: list[float] = []
        self._pixels: list[Tensor] = []
        self._busy: list[bool] = []

    def add(self, batch: FrameBatch, busy: np.ndarray) -> None:
        """Keep copies of a batch; `busy` (N,) says in which frames something happens."""
        rows = zip(batch.seconds.tolist(), batch.pixels, busy.tolist(), strict=True)
        for seconds, pixels, is_busy in rows:
            if self._bytes + pixels.numel() > self._max_bytes and self._seconds:
                self._thin()
            self._seconds.append(seconds)
            self._pixels.append(pixels.clone())  # not a view, which would hold the whole batch
            self._busy.append(is_busy)
            self._bytes += pixels.numel()

    def contents(self) -> tuple[np.ndarray, list[Tensor]]:
        """Times float64 (M,) ascending, and the pictures uint8 (3, H, W)."""
        return np.asarray(self._seconds), self._pixels

    def _thin(self) -> None:
        """Drop every second calm frame; where most are busy, every second frame."""
        calm = [i for i, busy in enumerate(self._busy) if not busy]
        dropped = set((calm if 2 * len(calm) >= len(self._busy) else range(len(self._busy)))[1::2])
        kept = [i for i in range(len(self._busy)) if i not in dropped]
        self._seconds = [self._seconds[i] for i in kept]
        self._pixels = [self._pixels[i] for i in kept]
        self._busy = [self._busy[i] for i in kept]
        self._bytes = sum(pixels.numel() for pixels in self._pixels)


def focus_spans(
    segments: Iterable[Segment], scores: Scores, named: tuple[str, ...]
) -> tuple[tuple[float, float, float], ...]:
    """(start, end, weight) of the segments: their score, more where a named class is likely."""
    likely = scores.named(named)
    spans = []
    for segment in segments:
        inside = (scores.seconds >= segment.start) & (scores.seconds < segment.end)
        gain = NAMED_GAIN * float(likely[inside].max()) if inside.any() else 0.0
        weight = max(segment.score, 0.01) * (1.0 + gain)
        spans.append((round(segment.start, 3), round(segment.end, 3), round(weight, 4)))
    return tuple(spans)


def load_prefilter(name: str) -> Prefilter:
    """The pre-filter of a name ("auto", a family, "novelty") or of a recognizer's folder.

    Raises InputError for an unknown name, ModelError for weights that cannot be used.
    """
    return Prefilter(detector=Detector.load(name))
