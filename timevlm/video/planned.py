"""Decode only what a plan needs: per group of pictures, up to its last wanted frame, on several
workers.

A group of pictures (GOP) is a key frame and what follows it in decode order. A wanted frame needs
its GOP from the key frame on, without the pictures that nothing refers to. Pictures that are shown
before their key frame (open GOP) also need the GOP before. Runs of such GOPs are independent, so
each worker takes the next few of them, with its own container and a one-thread decoder. What comes
out is compared with what was expected; a file whose index turns out to lie is reported as
`IndexLiesError`, for the caller to decode from the start.
"""

import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import av.error
import numpy as np
from av.video.frame import PictureType

from timevlm.errors import TimeVLMError
from timevlm.video.index import VideoIndex
from timevlm.video.limits import DecodeLimits
from timevlm.video.picture import DecodeReport, PictureConverter
from timevlm.video.sequential import frame_pts
from timevlm.video.source import open_container, pick_stream

# Reading over fewer packets than this is cheaper than a seek.
_SEEK_PACKETS = 200
# A segment is what a worker takes at once: small, so that workers end together and frames arrive
# early.
_SEGMENT_FRAMES = 16
_SEGMENT_PACKETS = 250
# Decoded frames that may wait for their turn, over all workers.
_WAITING_BYTES = 128 * 2**20
_POLL_SECONDS = 0.1


class IndexLiesError(Exception):
    """Frames did not come out where the index says they are, without any damage to the file."""


@dataclass(frozen=True)
class Run:
    """Packets that are decoded in one go, and the frames wanted from them."""

    first_packet: int
    last_packet: int
    wide_first_packet: int
    """Start for a second try: one GOP earlier."""
    wide_last_packet: int
    """End for a second try: the whole last GOP."""
    wanted: tuple[tuple[int, int], ...]
    """(PTS in ticks, position in the plan), ascending."""


def plan_runs(index: VideoIndex, wanted_pts: np.ndarray) -> list[Run]:
    """The runs that yield `wanted_pts` (int64 (P,) ticks, ascending), in time order."""
    order = np.argsort(index.packet_pts)
    packets = order[np.searchsorted(index.packet_pts, wanted_pts, sorter=order)]
    starts = index.gop_starts
    ends = np.append(starts[1:], index.packet_pts.size) - 1
    gops = np.searchsorted(starts, packets, side="right") - 1
    newest = np.maximum.accumulate(np.maximum.reduceat(index.packet_pts, starts))
    oldest = np.minimum.reduceat(index.packet_pts, starts)
    # Times that run back over a key frame: such GOPs are decoded in one go, so that frames come in
    # order.
    tangled = np.append(False, oldest[1:] <= newest[:-1])
    leading = wanted_pts < index.packet_pts[starts[gops]]

    groups: list[list[int]] = []  # positions in the plan
    reach: list[tuple[int, int]] = []  # first and last GOP
    by_gop = np.argsort(gops, kind="stable")
    used, firsts = np.unique(gops[by_gop], return_index=True)
    for gop, positions in zip(used.tolist(), np.split(by_gop, firsts[1:]), strict=True):
        needs_before = gop > 0 and bool(tangled[gop] or leading[positions].any())
        first = gop - 1 if needs_before else gop
        while first > 0 and tangled[first]:
            first -= 1
        if groups and first <= reach[-1][1]:
            groups[-1].extend(positions.tolist())
            reach[-1] = (min(first, reach[-1][0]), gop)
        else:
            groups.append(positions.tolist())
            reach.append((first, gop))
    return [
        Run(
            first_packet=int(starts[first]),
            last_packet=int(packets[positions].max()),
            wide_first_packet=int(starts[max(0, first - 1)]),
            wide_last_packet=int(ends[last]),
            wanted=tuple((int(wanted_pts[p]), p) for p in sorted(positions)),
        )
        for positions, (first, last) in zip(groups, reach, strict=True)
    ]


def group_runs(runs: list[Run]) -> list[list[Run]]:
    """Neighbouring runs joined into segments of about equal work."""
    segments: list[list[Run]] = []
    frames = packets = 0
    for run in runs:
        if not segments or frames >= _SEGMENT_FRAMES or packets >= _SEGMENT_PACKETS:
            segments.append([])
            frames = packets = 0
        segments[-1].append(run)
        frames += len(run.wanted)
        packets += run.last_packet - run.first_packet + 1
    return segments


class _Lane:
    """One container and decoder, moved forward run by run."""

    def __init__(
        self,
        index: VideoIndex,
        converter: PictureConverter,
        limits: DecodeLimits,
        report: DecodeReport,
    ) -> None:
        self._index = index
        self._converter = converter
        self._limits = limits
        self._report = report
        self._seekable = index.seekable
        self._container: av.container.InputContainer | None = None
        self._next_packet = 0
        self._key_came_out = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame that it hands out."""
        return self._converter.frame_bytes

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def decode_run(self, run: Run, stop: threading.Event) -> Iterator[tuple[int, np.ndarray]]:
        """(position, pixels) of the run's wanted frames, ascending. Raises IndexLiesError."""
        waiting = list(run.wanted)
        ready: dict[int, np.ndarray] = {}
        damaged = False
        skip = self._index.nonref_skippable
        spans = (
            (run.first_packet, run.last_packet, skip),
            (run.wide_first_packet, run.wide_last_packet, False),
        )
        for first, last, skip_nonref in spans:
            missing = {pts for pts, _ in waiting if pts not in ready}
            for pts, pixels in self._decode_span(first, last, skip_nonref, missing, stop):
                if pixels is None:
                    damaged = True
                    continue
                ready[pts] = pixels
                while waiting and waiting[0][0] in ready:
                    pts, position = waiting.pop(0)
                    yield position, ready.pop(pts)
            if not waiting or stop.is_set():
                return
        # Damage explains missing frames only behind a key frame that came out; a packet that is
        # wrongly marked as a key frame causes decoding errors too.
        if not damaged or not self._key_came_out:
            raise IndexLiesError
        for pts, position in waiting:
            if pts in ready:
                yield position, ready[pts]

    def _decode_span(
        self, first: int, last: int, skip_nonref: bool, missing: set[int], stop: threading.Event
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """(PTS, pixels) of missing frames as they come out; (PTS, None) marks damage."""
        self._go_to(first)
        context = self._stream.codec_context
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        key_pts = int(self._index.packet_pts[first])
        skipping = False
        self._key_came_out = False
        for packet in self._packets_through(first, last):
            if stop.is_set():
                return
            if skip_nonref and skipping == (packet.pts in missing):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            yield from self._decode_packet(packet, key_pts, missing)
        yield from self._decode_packet(None, key_pts, missing)
        context.flush_buffers()

    def _decode_packet(
        self, packet: av.Packet | None, key_pts: int, missing: set[int]
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError):
            yield key_pts, None
            return
        for frame in frames:
            pts = frame_pts(frame)
            if pts == key_pts:
                if not (frame.key_frame or frame.pict_type == PictureType.I):
                    raise IndexLiesError
                self._key_came_out = True
            if pts in missing:
                missing.discard(pts)
                yield pts, self._converter.convert(frame, self._report)

    def _packets_through(self, first: int, last: int) -> Iterator[av.Packet]:
        """Packets first..last in decode order, checked against the index."""
        expected = self._index.packet_pts
        while self._next_packet <= last:
            packet = self._read()
            if packet is None:
                return
            if packet.pts != expected[self._next_packet]:
                raise IndexLiesError
            self._next_packet += 1
            if self._next_packet > first:
                yield packet

    def _read(self) -> av.Packet | None:
        """The next packet with content, or None at the end."""
        if self._held is not None:
            packet, self._held = self._held, None
            return packet
        while True:
            try:
                packet = next(self._packets, None)
            except (av.error.FFmpegError, OSError):
                return None
            if packet is None or packet.size > 0:
                return packet

    def _go_to(self, first: int) -> None:
        """Stand at packet `first` or before it, with the decoder's state of no importance."""
        if self._container is None:
            self._open()
        ahead = first - self._next_packet
        if self._seekable and not 0 <= ahead <= _SEEK_PACKETS:
            self._seek(first)
        elif ahead < 0:
            self._open()

    def _seek(self, first: int) -> None:
        """Seek to packet `first`; if the container lands elsewhere, start over and never seek
        again."""
        index = self._index
        try:
            self._container.seek(int(index.packet_dts[first]), stream=self._stream, backward=True)
            self._packets = self._container.demux(self._stream)
            self._held = None
            packet = self._read()
        except (av.error.FFmpegError, OSError):
            packet = None
        if packet is not None:
            landed = np.flatnonzero(index.packet_pts[: first + 1] == packet.pts)
            if landed.size == 1:
                self._next_packet = int(landed[0])
                self._held = packet
                return
        self._seekable = False
        self._open()

    def _open(self) -> None:
        self.close()
        self._container = open_container(self._index.info.path)
        self._stream = pick_stream(self._container, self._index.info.path, self._limits)
        self._packets = self._container.demux(self._stream)
        self._held: av.Packet | None = None
        self._next_packet = 0


class _Board:
    """Hands segments to workers in order, no further ahead than a window, and holds their
    results."""

    def __init__(self, segments: list[list[Run]], workers: int, frame_bytes: int) -> None:
        self.segments = segments
        self.stop = threading.Event()
        self._window = 3 * workers
        self._room = max(4, _WAITING_BYTES // (self._window * frame_bytes))
        self._results: dict[int, queue.Queue] = {}
        self._taken = 0
        self._delivered = 0
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """Number of the next segment; None when there is none left."""
        with self._changed:
            while self._taken < len(self.segments) and not self.stop.is_set():
                if self._taken < self._delivered + self._window:
                    self._taken += 1
                    return self._taken - 1
                self._changed.wait(_POLL_SECONDS)
        return None

    def put(self, number: int, result: object) -> None:
        """Add to a segment's results; waits while they are full."""
        results = self._results_of(number)
        while not self.stop.is_set():
            try:
                results.put(result, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def results(self, number: int) -> Iterator[tuple[int, np.ndarray]]:
        """A segment's results as they arrive; raises what its worker raised."""
        results = self._results_of(number)
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
        with self._changed:
            self._delivered = number + 1
            del self._results[number]
            self._changed.notify_all()

    def _results_of(self, number: int) -> queue.Queue:
        with self._changed:
            if number not in self._results:
                self._results[number] = queue.Queue(maxsize=self._room)
            return self._results[number]


def _work(board: _Board, lane: _Lane) -> None:
    """One worker: segments until there are none left. Any error ends up at the reader of the
    results."""
    try:
        while (number := board.take()) is not None:
            failure: BaseException | None = None
            try:
                for run in board.segments[number]:
                    for result in lane.decode_run(run, board.stop):
                        board.put(number, result)
            except (IndexLiesError, TimeVLMError) as error:
                failure = error
            finally:
                board.put(number, failure or sys.exception())
    finally:
        lane.close()


def decode_planned(
    index: VideoIndex,
    wanted_pts: np.ndarray,
    make_converter: Callable[[], PictureConverter],
    limits: DecodeLimits,
    report: DecodeReport,
    *,
    workers: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """(position in wanted_pts, uint8 (3, H, W)) for each wanted frame that decodes, in order.

    `wanted_pts` is int64 (P,) ticks, ascending. Raises IndexLiesError as soon as a frame is not
    where the index says; what was handed out before is right.
    """
    segments = group_runs(plan_runs(index, wanted_pts))
    workers = max(1, min(workers, len(segments)))
    lanes = [_Lane(index, make_converter(), limits, report) for _ in range(workers)]
    if workers == 1:
        try:
            never = threading.Event()
            for run in itertools.chain.from_iterable(segments):
                yield from lanes[0].decode_run(run, never)
        finally:
            lanes[0].close()
        return
    board = _Board(segments, workers, lanes[0].frame_bytes)
    threads = [threading.Thread(target=_work, args=(board, lane), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        for number in range(len(segments)):
            yield from board.results(number)
    finally:
        board.stop.set()
        for thread in threads:
            thread.join(timeout=5.0)
