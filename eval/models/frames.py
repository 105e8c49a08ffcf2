"""The frames of one video for any model: from a file in a child process, or a folder of pictures.

Files are decoded by `timevlm.video.open_video(isolate=True)`: a child process that is killed at
the time limit, so that no file can stop a run. Folders of numbered pictures (MVBench's episodic
reasoning) become the same kind of stream, with times from their frame rate.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.sampling import Sampling
from timevlm import PlanError, SamplingPlan, VideoError
from timevlm.video import DecodeLimits, FrameBatch, FrameReader, open_video

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
BATCH_FRAMES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRequest:
    """Which frames of which video."""

    path: Path
    sampling: Sampling
    clip: tuple[float, float] | None = None
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    picture_fps: float | None = None
    """Frames per second of a folder of pictures."""


class Frames:
    """A stream of `FrameBatch` in time order, read once, with the plan that chose them.

    planned_seconds: float64 (P,), times of the frames. start_seconds, end_seconds: the watched part
    of the video. warnings and decode_seconds grow while iterating.
    """

    def __init__(self, source: "FrameReader | _Pictures", plan: SamplingPlan) -> None:
        self._source = source
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
        return iter(self._source)

    def close(self) -> None:
        """End decoding; safe to call twice."""
        self._source.close()


@dataclass(frozen=True, slots=True)
class Clip:
    """All frames of a request at once: pixels uint8 (N, 3, H, W), seconds float64 (N,)."""

    pixels: Any
    seconds: list[float]
    duration_seconds: float
    decode_seconds: float
    warnings: tuple[str, ...]


def open_frames(request: VideoRequest, resolution: tuple[int, int] | None = None) -> Frames:
    """Start decoding; `resolution` is (height, width). Raises VideoError or PlanError."""
    if request.path.is_dir():
        pictures = _list_pictures(request)
        plan = request.sampling.plan(
            clip=request.clip,
            resolution=resolution,
            frame_seconds=_inside(pictures.frame_seconds, request.clip),
        )
        return Frames(_Pictures(pictures, plan), plan)
    times: np.ndarray | tuple[()] = ()
    if request.sampling.needs_frame_times:
        times = frame_times(request)
    plan = request.sampling.plan(clip=request.clip, resolution=resolution, frame_seconds=times)
    reader = open_video(
        request.path, plan, limits=request.limits, batch_size=BATCH_FRAMES, isolate=True
    )
    return Frames(reader, plan)


def read_clip(request: VideoRequest, resolution: tuple[int, int] | None = None) -> Clip:
    """Decode everything that was asked for. Raises VideoError or PlanError."""
    import torch

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
    if request.path.is_dir():
        pictures = _list_pictures(request)
        return request.clip or (0.0, pictures.end_seconds)
    plan = SamplingPlan(max_frames=1)
    reader = open_video(request.path, plan, limits=request.limits, batch_size=1, isolate=True)
    reader.close()
    return request.clip or (reader.info.start_seconds, reader.info.end_seconds)


@dataclass(frozen=True, slots=True)
class _PictureList:
    paths: list[Path]
    frame_seconds: np.ndarray
    start_seconds: float
    end_seconds: float
    max_pixels: int


def _list_pictures(request: VideoRequest) -> _PictureList:
    paths = sorted(p for p in request.path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise VideoError(f"{request.path} is a folder without pictures; check the download")
    if request.picture_fps is None:
        raise VideoError(f"{request.path} is a folder of pictures whose frame rate is not known")
    seconds = np.arange(len(paths), dtype=np.float64) / request.picture_fps
    end = len(paths) / request.picture_fps
    return _PictureList(paths, seconds, 0.0, end, request.limits.max_pixels_per_frame)


def _inside(seconds: np.ndarray, clip: tuple[float, float] | None) -> np.ndarray:
    if clip is None:
        return seconds
    inside = seconds[(seconds >= clip[0]) & (seconds < clip[1])]
    if not inside.size:
        raise PlanError(
            f"no frames in the asked range {clip[0]:g}-{clip[1]:g} s: the pictures run to "
            f"{seconds[-1]:.3f} s"
        )
    return inside


class _Pictures:
    """The chosen pictures of a folder, read one batch at a time."""

    def __init__(self, pictures: _PictureList, plan: SamplingPlan) -> None:
        chosen = plan.select(pictures.frame_seconds, end_seconds=pictures.end_seconds)
        self.info = pictures
        self.planned_seconds = pictures.frame_seconds[chosen]
        self.warnings: list[str] = []
        self.decode_seconds = 0.0
        self._paths = [pictures.paths[i] for i in chosen]
        self._size = plan.resolution

    def __iter__(self) -> Iterator[FrameBatch]:
        import torch

        for first in range(0, len(self._paths), BATCH_FRAMES):
            started = time.perf_counter()
            part = self._paths[first : first + BATCH_FRAMES]
            pixels = np.stack([self._read(path) for path in part])
            seconds = self.planned_seconds[first : first + BATCH_FRAMES].copy()
            self.decode_seconds += time.perf_counter() - started
            yield FrameBatch(torch.from_numpy(pixels), torch.from_numpy(seconds))

    def _read(self, path: Path) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(path) as picture:
                if picture.width * picture.height > self.info.max_pixels:
                    raise VideoError(
                        f"{path} has {picture.width}x{picture.height} pixels, at most "
                        f"{self.info.max_pixels} are allowed"
                    )
                height, width = self._size or (picture.height, picture.width)
                self._size = (height, width)  # all pictures of a folder get the first one's size
                pixels = np.asarray(picture.convert("RGB").resize((width, height)))
        except (OSError, SyntaxError) as error:
            raise VideoError(f"{path} cannot be read as a picture: {error}") from error
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def close(self) -> None:
        """Nothing to end: pictures are read when they are asked for."""
