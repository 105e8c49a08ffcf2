"""Open a video and iterate over its planned frames, decoded ahead of the model.

    with open_video("talk.mp4", SamplingPlan(fps=1, resolution=(224, 224))) as reader:
        for batch in reader:
            ...  # batch.pixels uint8 (N, 3, H, W), batch.seconds float64 (N,)

Decoding runs in background threads, or in a child process (`isolate=True`, what the command line
uses). Either way a bounded queue of batches lies between it and the caller, and the time that the
caller waits for it is limited.
"""

import contextlib
import os
import queue
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from types import TracebackType

import av.error
import numpy as np
import torch

from timevlm.errors import TimeVLMError, VideoError
from timevlm.video import isolate as child_process
from timevlm.video.frames import FrameBatch
from timevlm.video.limits import DecodeLimits
from timevlm.video.sampling import SamplingPlan
from timevlm.video.session import ArrayBatch, DecodeSession, ReadRequest

_QUEUED_BATCHES = 2
_POLL_SECONDS = 0.1
_JOIN_SECONDS = 5.0


class _Channel:
    """A bounded queue from the decoding side to the caller; either side can end it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.items: queue.Queue = queue.Queue(maxsize=_QUEUED_BATCHES)
        self.child: subprocess.Popen | None = None

    def put(self, *item: object) -> None:
        while not self.stop.is_set():
            try:
                self.items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def shut(self) -> None:
        """End the decoding side: threads at their next packet, a child process at once."""
        self.stop.set()
        if self.child is not None:
            self.child.kill()


def open_video(
    path: str | os.PathLike[str],
    plan: SamplingPlan,
    *,
    limits: DecodeLimits | None = None,
    backend: str = "auto",
    batch_size: int = 32,
    isolate: bool = False,
    workers: int = 2,
) -> "FrameReader":
    """A reader of the planned frames; returns once the video is indexed and the plan applied to it.

    `backend` is "auto" (PyAV), "pyav", "decord" or "torchcodec". `batch_size` is the most frames in
    a batch (fewer where pictures are large). `isolate` decodes in a child process that is killed at
    the time limit. `workers` decoding threads share the timeline, each with its own container and a
    one-thread decoder. Raises VideoError (file unusable), PlanError (nothing in the asked range,
    too many frames), ChoiceError (backend).
    """
    request = ReadRequest(
        path=os.fspath(path),
        plan=plan,
        limits=limits or DecodeLimits(),
        backend=backend,
        batch_size=batch_size,
        workers=workers,
    )
    return FrameReader(request, isolate=isolate)


class FrameReader:
    """Iterator of FrameBatch in time order, and what became of the plan. Made by `open_video`; read
    once.

    info: VideoInfo. planned_seconds: float64 array (P,), PTS of every frame that is handed out if
    all decode. plan_description: one line. warnings: list of lines, grows while iterating.
    frames_decoded, frames_skipped: counts so far. decode_seconds: wall seconds that the decoding
    side was busy.
    """

    def __init__(self, request: ReadRequest, *, isolate: bool = False) -> None:
        self._request = request
        self._channel = _Channel()
        self._finalizer = weakref.finalize(self, self._channel.shut)
        self._waited = 0.0
        self._done = False
        self.warnings: list[str] = []
        self.frames_decoded = 0
        self.frames_skipped = 0
        self.decode_seconds = 0.0
        self.planned_seconds = np.empty(0)
        produce = _produce_in_child if isolate else _produce_here
        self._thread = threading.Thread(
            target=produce, args=(request, self._channel), name="timevlm-decode", daemon=True
        )
        self._thread.start()
        opening = self._receive()
        self.info, self.planned_seconds, self.plan_description = opening

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        """The next batch. Raises VideoError if decoding fails or the caller waited too long."""
        if self._done:
            raise StopIteration
        batch = self._receive()
        if batch is None:
            self.close()
            raise StopIteration
        self.frames_decoded += len(batch.seconds)
        return FrameBatch(torch.from_numpy(batch.pixels), torch.from_numpy(batch.seconds))

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End decoding and free its threads or process; safe to call more than once."""
        self._done = True
        self._channel.shut()
        while True:
            try:
                self._channel.items.get_nowait()
            except queue.Empty:
                break
        self._thread.join(timeout=_JOIN_SECONDS)

    def _receive(self) -> object:
        """The next item's content, with the counts that came along taken over."""
        remaining = self._request.limits.wall_seconds - self._waited
        started = time.perf_counter()
        try:
            kind, content, warnings = self._channel.items.get(timeout=max(remaining, 0.001))
        except queue.Empty:
            self.close()
            raise self._too_slow() from None
        self._waited += time.perf_counter() - started
        self.warnings.extend(line for line in warnings if line not in self.warnings)
        if kind == "error":
            self.close()
            raise content
        if kind == "end":
            self.frames_skipped = content
            return None
        if isinstance(content, ArrayBatch):
            self.frames_skipped = content.frames_skipped
            self.decode_seconds = content.decode_seconds
        return content

    def _too_slow(self) -> VideoError:
        planned = self.planned_seconds.size
        progress = (
            f"after {self.frames_decoded} of {planned} frames" if planned else "while opening"
        )
        return VideoError(
            f"{self._request.path}: decoding took more than "
            f"{self._request.limits.wall_seconds:g} s {progress}: watch a shorter range, or "
            "raise the limit wall_seconds"
        )


def _produce_here(request: ReadRequest, channel: _Channel) -> None:
    """Decode in this thread (and its workers). Errors travel through the channel."""
    failure: BaseException | None = VideoError(f"{request.path}: the decoder stopped unexpectedly")
    try:
        session = DecodeSession(request)
        opening = (session.info, session.planned_seconds, session.plan_description)
        channel.put("opening", opening, list(session.report.warnings))
        batches = session.batches()
        for batch in batches:
            channel.put("batch", batch, list(session.report.warnings))
            if channel.stop.is_set():
                batches.close()
                return
        channel.put("end", session.frames_skipped, list(session.report.warnings))
        failure = None
    except TimeVLMError as error:
        failure = error
    except (av.error.FFmpegError, OSError, MemoryError) as error:
        failure = VideoError(f"{request.path} cannot be decoded ({type(error).__name__})")
    finally:
        if failure is not None:
            channel.put("error", failure, [])


def _produce_in_child(request: ReadRequest, channel: _Channel) -> None:
    """Pass on what a child process decodes."""
    child = child_process.start_child(request)
    channel.child = child
    if channel.stop.is_set():
        child.kill()
    ended = False
    try:
        for header, payload in child_process.read_messages(child):
            warnings = header.get("warnings", [])
            if header["kind"] == "opening":
                channel.put("opening", child_process.opening_from(header, payload), warnings)
            elif header["kind"] == "batch":
                channel.put("batch", child_process.batch_from(header, payload), warnings)
            elif header["kind"] == "end":
                channel.put("end", header["frames_skipped"], warnings)
                ended = True
            else:
                channel.put("error", child_process.error_from(header), [])
                ended = True
    except (ValueError, KeyError, TypeError, IndexError):
        child.kill()  # not a message of ours: nothing more from it is believed
    finally:
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.stdout.close()
        try:
            code = child.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        if not ended:
            text = f"{request.path}: the decoding process ended early (exit status {code})"
            channel.put("error", VideoError(f"{text}: the file may be damaged"), [])
