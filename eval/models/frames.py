"""The frames of one video for any model, decoded in a child process.

`timevlm.video.open_video(isolate=True)` kills the child at the time limit, so that no file can
stop a run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from eval.models.base import VideoRequest
from timevlm import SamplingPlan
from timevlm.video import FrameBatch, FrameReader, open_video

BATCH_FRAMES = 64
_SHUFFLE_SEED = 0


class Frames:
    """A stream of `FrameBatch` in time order, read once, with the plan that chose them.

    planned_seconds: float64 (P,), times of the frames. start_seconds, end_seconds: the watched part
    of the video. warnings and decode_seconds grow while iterating. With `shuffled` the pictures
    trade places, always in the same way, and all are held at once.
    """

    def __init__(self, source: FrameReader, plan: SamplingPlan, *, shuffled: bool = False) -> None:
        self._source = source
        self._is_shuffled = shuffled
        self.plan = plan
        self.planned_seconds = source.planned_seconds
        info = source.info
        self.start_seconds = info.start_seconds if plan.start is None else plan.start
        end = info.end_seconds if plan.end is None else min(plan.end, info.end_seconds)
        self.end_seconds = max(end, float(self.planned_seconds[-1]))

    @property
    def duration_seconds(self) -> float:
        """Length of the watched part."""
        return self.end_seconds - self.start_seconds

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the decoder had to say so far."""
        return tuple(self._source.warnings)

    @property
    def decode_seconds(self) -> float:
        """Wall seconds for which the decoding side was busy so far."""
        return float(self._source.decode_seconds)

    def __iter__(self) -> Iterator[FrameBatch]:
        return _shuffled(self._source) if self._is_shuffled else iter(self._source)

    def close(self) -> None:
        """End decoding; safe to call twice."""
        self._source.close()


def _shuffled(source: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
    """The same pictures at each other's times."""
    batches = list(source)
    if not batches:
        return
    pixels = torch.cat([batch.pixels for batch in batches])
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(_SHUFFLE_SEED))
    first = 0
    for batch in batches:
        chosen = order[first : first + len(batch)]
        first += len(batch)
        yield FrameBatch(pixels[chosen], batch.seconds)


@dataclass(frozen=True, slots=True)
class Clip:
    """All frames of a request at once: pixels uint8 (N, 3, H, W), seconds float64 (N,)."""

    pixels: torch.Tensor
    seconds: list[float]
    duration_seconds: float
    decode_seconds: float
    warnings: tuple[str, ...]


def open_frames(request: VideoRequest, resolution: tuple[int, int] | None = None) -> Frames:
    """Start decoding; `resolution` is (height, width). Raises VideoError or PlanError."""
    return start_decoding(request, plan_frames(request, resolution))


def plan_frames(request: VideoRequest, resolution: tuple[int, int] | None = None) -> SamplingPlan:
    """The reader's plan for a request. Raises VideoError or PlanError."""
    times: np.ndarray | tuple[()] = ()
    if request.sampling.needs_frame_times:
        times = frame_times(request)
    return request.sampling.plan(clip=request.clip, resolution=resolution, frame_seconds=times)


def start_decoding(request: VideoRequest, plan: SamplingPlan) -> Frames:
    """Start decoding what a plan chooses of a request's file. Raises VideoError or PlanError."""
    reader = open_video(
        request.path, plan, limits=request.limits, batch_size=BATCH_FRAMES, isolate=True
    )
    return Frames(reader, plan, shuffled=request.shuffled)


def read_clip(request: VideoRequest, resolution: tuple[int, int] | None = None) -> Clip:
    """Decode everything that was asked for. Raises VideoError or PlanError."""
    frames = open_frames(request, resolution)
    try:
        batches = list(frames)
        return Clip(
            torch.cat([batch.pixels for batch in batches]),
            torch.cat([batch.seconds for batch in batches]).tolist(),
            frames.duration_seconds,
            frames.decode_seconds,
            frames.warnings,
        )
    finally:
        frames.close()


def no_frames(duration_seconds: float) -> Clip:
    """What a model sees of a video that it is not shown."""
    return Clip(torch.empty(0, 3, 1, 1, dtype=torch.uint8), [], duration_seconds, 0.0, ())


def frame_times(request: VideoRequest) -> np.ndarray:
    """Times of every frame of the request's file inside its clip: float64 (N,), seconds.

    The file is indexed by a child process; nothing is decoded. Raises VideoError or PlanError.
    """
    start, end = request.clip or (None, None)
    plan = SamplingPlan(start=start, end=end)
    reader = open_video(request.path, plan, limits=request.limits, batch_size=1, isolate=True)
    reader.close()
    return reader.planned_seconds


def video_span(request: VideoRequest) -> tuple[float, float]:
    """(start, end) in seconds of the request's clip or whole video. Raises VideoError."""
    plan = SamplingPlan(max_frames=1)
    reader = open_video(request.path, plan, limits=request.limits, batch_size=1, isolate=True)
    reader.close()
    return request.clip or (reader.info.start_seconds, reader.info.end_seconds)
