"""Look through a whole video with a small recognizer: scores, segments and thumbnails of one pass.

What `timevlm segments` shows. A watched video gets its segments the same way, from the frames that
were decoded for the model (`timevlm.prefilter.focus`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from timevlm.prefilter.detector import Scores
from timevlm.prefilter.focus import FrameStore, Prefilter, Progress, load_prefilter
from timevlm.prefilter.segments import Segment
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan
from timevlm.video.source import VideoInfo, probe

THUMBNAIL_PIXELS = 96 * 170  # about the size that recognizers read, whatever the shape
_THUMBNAIL_BYTES = 128 * 2**20
_BATCH_FRAMES = 32


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a recognizer saw in a video."""

    video: str
    model: str
    scores: Scores
    segments: tuple[Segment, ...]
    start_seconds: float
    end_seconds: float
    plan: str  # in words
    decode_seconds: float
    recognize_seconds: float
    warnings: tuple[str, ...] = ()
    frame_seconds: np.ndarray = field(default_factory=lambda: np.empty(0))
    """(M,) of the small pictures that were kept: all, in videos of ordinary length."""
    pictures: tuple[Tensor, ...] = ()
    """uint8 (3, h, w) each, in the video's shape."""

    @property
    def num_frames(self) -> int:
        """Frames that were scored."""
        return len(self.scores.seconds)

    @property
    def count_text(self) -> str:
        """How many segments, in words."""
        return f"{len(self.segments)} segment{'s' * (len(self.segments) != 1)}"

    def picture_at(self, seconds: float) -> Tensor:
        """The kept picture nearest to a time."""
        return self.pictures[int(np.abs(self.frame_seconds - seconds).argmin())]

    def to_dict(self) -> dict[str, object]:
        """Everything but pictures as JSON values."""
        scores = self.scores
        return {
            "video": self.video,
            "model": self.model,
            "start": self.start_seconds,
            "end": self.end_seconds,
            "plan": self.plan,
            "segments": [item.to_dict() for item in self.segments],
            "scores": {
                "seconds": scores.seconds.round(3).tolist(),
                "event": scores.event.round(4).tolist(),
                "novelty": scores.novelty.round(4).tolist(),
            },
            "num_frames": self.num_frames,
            "timings": {"decode": self.decode_seconds, "recognize": self.recognize_seconds},
            "warnings": list(self.warnings),
        }


def thumbnail_size(info: VideoInfo) -> tuple[int, int]:
    """(height, width) of the video's shape with about THUMBNAIL_PIXELS pixels, never larger."""
    scale = min(1.0, (THUMBNAIL_PIXELS / (info.width * info.height)) ** 0.5)
    return max(1, round(info.height * scale)), max(1, round(info.width * scale))


def scan_video(
    path: Path,
    model: str,
    *,
    about: str | None = None,
    sampling: Mapping[str, float | None] | None = None,
    progress: Progress | None = None,
    isolate: bool = True,
) -> Scan:
    """Score every frame of a plan (`fps`, `start`, `end` in `sampling`) and find segments.

    Raises InputError (model), VideoError or PlanError (video, range).
    """
    asked = {name: value for name, value in (sampling or {}).items() if value is not None}
    plan = SamplingPlan(**asked)
    info = probe(path)
    prefilter = load_prefilter(model)
    if about:
        prefilter = prefilter.about(about)
    plan = replace(
        plan,
        fps=prefilter.detector.usage.fps if plan.fps is None else plan.fps,
        resolution=thumbnail_size(info),
    )
    return _scan(path, prefilter, plan, progress, isolate)


def _scan(
    path: Path, prefilter: Prefilter, plan: SamplingPlan, progress: Progress | None, isolate: bool
) -> Scan:
    store = FrameStore(_THUMBNAIL_BYTES)
    with open_video(path, plan, batch_size=_BATCH_FRAMES, isolate=isolate) as reader:
        scores, spent = prefilter.scan(reader, store, progress)
        end = reader.info.end_seconds if plan.end is None else plan.end
        end = max(float(scores.seconds[-1]), min(reader.info.end_seconds, end))
        seconds, pictures = store.contents()
        return Scan(
            video=str(path),
            model=prefilter.detector.name,
            scores=scores,
            segments=tuple(prefilter.segments(scores, end_seconds=end)),
            start_seconds=float(scores.seconds[0]),
            end_seconds=end,
            plan=reader.plan_description,
            decode_seconds=reader.decode_seconds,
            recognize_seconds=spent,
            warnings=tuple(reader.warnings),
            frame_seconds=seconds,
            pictures=tuple(pictures),
        )
