"""What a training step needs but for pixels, prepared ahead by other processes where there are any.

Sampling videos, asking about them and labelling them is Python, some 20 ms a video; a GPU would
wait for it. Worker processes do it while the step before is computed. The step alone decides what
a piece holds, so it makes no difference who prepares it.
"""

import multiprocessing
import pickle
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from timevlm.errors import InputError
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.spec import VideoSpec
from timevlm.training.batches import (
    Batch,
    BatchConfig,
    VideoSample,
    encode_turns,
    sample_videos,
)
from timevlm.training.evaluate_workers import Work, serve
from timevlm.training.kinds import BASIC, Kinds
from timevlm.training.labels import PatchLabels, patch_labels

ALIGN_FRAMES = 32  # frames of a step whose patches are aligned with words
_FRAMES_PER_VIDEO = 8
_PIECES_PER_WORKER = 2  # on order at a time: one in work, one waiting


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The data of one step, all on the CPU: `batch` has no pixels yet.

    `frames` are further frames, drawn from other videos, with the labels of their patches.
    """

    samples: list[VideoSample]
    batch: Batch
    labels: PatchLabels
    frames: list[VideoSample]
    frame_labels: PatchLabels


def prepare_piece(config: BatchConfig, processor: TimeVLMProcessor, grid: int, step: int) -> Piece:
    """The piece of a step, for frames of grid x grid patches."""
    samples = sample_videos(config, step)
    frames = draw_frames(step, ALIGN_FRAMES, config.kinds)
    return Piece(
        samples=samples,
        batch=encode_turns(config, processor, samples, seed=step),
        labels=patch_labels(samples, grid, outline=False),
        frames=frames,
        frame_labels=patch_labels(frames, grid, outline=False),
    )


def draw_frames(step: int, num_frames: int, kinds: Kinds = BASIC) -> list[VideoSample]:
    """Up to 8 frames of each of several videos, about `num_frames` in all.

    Up to half of them show a text, which few frames do and which takes longest to learn.
    """
    num_videos = num_frames // _FRAMES_PER_VIDEO
    videos = BatchConfig(level=kinds.level, num_videos=num_videos, frame_rates=(1.0,))
    generator = torch.Generator().manual_seed(step)
    drawn = []
    for sample in sample_videos(videos, step, first_seed=10_000_000):
        order = torch.randperm(len(sample.seconds), generator=generator)
        has_text = [shows_text(sample.spec, t) for t in sample.seconds[order].tolist()]
        first = [i for i, has in enumerate(has_text) if has][: _FRAMES_PER_VIDEO // 2]
        rest = [i for i in range(len(order)) if i not in first]
        chosen = order[(first + rest)[:_FRAMES_PER_VIDEO]]
        seconds = sample.seconds[chosen.sort().values]
        drawn.append(VideoSample(spec=sample.spec, seconds=seconds, shift=0.0))
    return drawn


def shows_text(spec: VideoSpec, seconds: float) -> bool:
    """Whether a text is on the picture at a time of a video; at level "basic" never."""
    if not isinstance(spec, FullVideo):
        return False
    return any(scene.overlay and scene.overlay.is_shown(seconds) for scene in spec.scenes)


class Pieces:
    """Gives piece after piece; a context, since workers have to be ended.

    `stride` is the distance between the steps that are asked for. Workers start with the first
    piece: a phase that is finished, or that no budget has, wants none. Raises InputError for a
    negative number of workers.
    """

    def __init__(
        self, processor: TimeVLMProcessor, grid: int, *, num_workers: int = 0, stride: int = 1
    ) -> None:
        if num_workers < 0:
            raise InputError(f"{num_workers} workers cannot work; give 0 or more")
        self.processor = processor
        self.grid = grid
        self.stride = stride
        self.num_workers = num_workers
        self._workers: list[_Worker] = []
        self._next = 0  # who is given the next order
        # (step, who makes it), in the order in which they were ordered
        self._ordered: deque[tuple[int, _Worker]] = deque()

    def take(self, step: int, config: BatchConfig) -> Piece:
        """The piece of a step.

        With workers, pieces of the steps after it are ordered with the same `config`; one that was
        ordered earlier is as its order said.
        """
        if not self.num_workers:
            return prepare_piece(config, self.processor, self.grid, step)
        if not self._workers:
            self._workers = [_Worker(self.processor, self.grid) for _ in range(self.num_workers)]
        while self._ordered and self._ordered[0][0] != step:
            self._ordered.popleft()[1].receive()  # nobody wants it any more
        following = self._ordered[-1][0] + self.stride if self._ordered else step
        while len(self._ordered) < _PIECES_PER_WORKER * self.num_workers:
            worker = self._workers[self._next]
            self._next = (self._next + 1) % self.num_workers
            worker.order((config, following))
            self._ordered.append((following, worker))
            following += self.stride
        return self._ordered.popleft()[1].receive()

    def __enter__(self) -> "Pieces":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process that makes pieces, in the order of the orders."""

    def __init__(self, processor: TimeVLMProcessor, grid: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process that ran torch hangs
        self._connection, theirs = context.Pipe()
        arguments = (partial(_open_work, processor, grid), theirs)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = False

    def order(self, item: tuple[BatchConfig, int]) -> None:
        self._connection.send((item,))

    def receive(self) -> Piece:
        if not self._is_ready:
            _receive(self._connection)  # it only says that it has begun
            self._is_ready = True
        _, piece = _receive(self._connection)
        return pickle.loads(piece)

    def end(self) -> None:
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()


def _receive(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError("a process that prepares data ended; its message stands above") from None


def _open_work(processor: TimeVLMProcessor, grid: int) -> Work:
    def work(item: Sequence[Any]) -> bytes:
        config, step = item
        # As bytes: tensors on their own would travel through as many shared files.
        return pickle.dumps(prepare_piece(config, processor, grid, step))

    return work
