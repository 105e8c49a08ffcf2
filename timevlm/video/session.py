"""One reading of a video without torch: open, index, choose frames, decode them into numpy batches.

The reader runs this in a thread, or in a child process that never imports torch.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from timevlm.errors import ChoiceError, PlanError, VideoError
from timevlm.video.backends import BACKENDS, decode_with
from timevlm.video.index import build_index, to_seconds
from timevlm.video.limits import DecodeLimits
from timevlm.video.picture import DecodeReport, PictureConverter
from timevlm.video.planned import IndexLiesError, decode_planned
from timevlm.video.sampling import SamplingPlan
from timevlm.video.sequential import decode_sequential

# A batch is cut smaller when its pictures are large, so that memory stays bounded.
_BATCH_BYTES = 96 * 2**20


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Everything that decides what a reader hands out."""

    path: str
    plan: SamplingPlan
    limits: DecodeLimits
    backend: str = "auto"
    batch_size: int = 32
    workers: int = 2

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ChoiceError(
                f"unknown video backend {self.backend!r}: use one of {', '.join(BACKENDS)}"
            )
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise PlanError(f"{name}={getattr(self, name)} must be 1 or more")


@dataclass(frozen=True)
class ArrayBatch:
    """Decoded frames: pixels uint8 (N, 3, H, W), seconds float64 (N,), and the counts so far."""

    pixels: np.ndarray
    seconds: np.ndarray
    frames_skipped: int
    decode_seconds: float


class DecodeSession:
    """Opens the video and plans at construction (errors come here), then yields batches once.

    Raises VideoError or PlanError.
    """

    def __init__(self, request: ReadRequest) -> None:
        started = time.perf_counter()
        self._request = request
        limits, plan = request.limits, request.plan
        self._index = build_index(request.path, limits)
        self.info = self._index.info
        clock = {
            "end_seconds": self.info.end_seconds,
            "tick_seconds": float(self._index.time_base),
        }
        seconds = self._index.frame_seconds
        chosen = plan.resolve(seconds, **clock)
        if chosen.indices.size > limits.max_frames:
            raise PlanError(
                f"the plan selects {chosen.indices.size} frames, at most {limits.max_frames} are "
                "allowed: lower fps, set max_frames or a shorter range"
            )
        self._wanted = self._index.frame_pts[chosen.indices]
        self.planned_seconds = to_seconds(self._wanted, self._index.time_base)
        self.plan_description = plan.describe(seconds, **clock)
        self.report = DecodeReport(list(self._index.warnings))
        if chosen.capped:
            self.report.warn_once(chosen.capped)
        self._size = plan.resolution or (self.info.height, self.info.width)
        self.open_seconds = time.perf_counter() - started
        self.frames_skipped = 0

    def batches(self) -> Iterator[ArrayBatch]:
        """Batches in time order; the time that the consumer holds a batch is not counted as
        decoding.

        Raises VideoError if not a single planned frame can be decoded.
        """
        frame_bytes = 3 * self._size[0] * self._size[1]
        capacity = max(1, min(self._request.batch_size, _BATCH_BYTES // frame_bytes))
        busy = self.open_seconds
        positions: list[int] = []
        pictures: list[np.ndarray] = []
        next_position = 0
        started = time.perf_counter()
        for position, pixels in self._frames():
            self.frames_skipped += position - next_position
            next_position = position + 1
            positions.append(position)
            pictures.append(pixels)
            if len(pictures) == capacity:
                batch = self._batch(positions, pictures)
                positions, pictures = [], []
                busy += time.perf_counter() - started
                yield ArrayBatch(*batch, self.frames_skipped, busy)
                started = time.perf_counter()
        self._finish(next_position)
        busy += time.perf_counter() - started
        if pictures:
            yield ArrayBatch(*self._batch(positions, pictures), self.frames_skipped, busy)

    def _batch(
        self, positions: list[int], pictures: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.stack(pictures), self.planned_seconds[positions]

    def _finish(self, next_position: int) -> None:
        planned = self._wanted.size
        self.frames_skipped += planned - next_position
        if self.frames_skipped == planned:
            raise VideoError(
                f"{self.info.path}: none of the {planned} planned frames can be decoded, the file "
                "is damaged"
            )
        if self.frames_skipped:
            self.report.warn_once(
                f"{self.frames_skipped} of {planned} planned frames are damaged and were skipped"
            )

    def _frames(self) -> Iterator[tuple[int, np.ndarray]]:
        request, index = self._request, self._index
        if request.backend not in ("auto", "pyav"):
            yield from decode_with(
                request.backend, index, self.planned_seconds, self._size, request.batch_size
            )
            return
        handed_out = 0
        if index.distrust is None:
            try:
                for item in decode_planned(
                    index,
                    self._wanted,
                    self._converter,
                    request.limits,
                    self.report,
                    workers=request.workers,
                ):
                    handed_out = item[0] + 1
                    yield item
                return
            except IndexLiesError:
                self.report.warn_once(
                    "the file's index does not match its frames: decoded from the start, which is "
                    "slower"
                )
        rest = decode_sequential(
            self.info.path,
            self._wanted[handed_out:],
            self._converter(),
            request.limits,
            self.report,
        )
        for position, pixels in rest:
            yield handed_out + position, pixels

    def _converter(self) -> PictureConverter:
        return PictureConverter(self._size, self._index.stored_size, self._request.limits)
