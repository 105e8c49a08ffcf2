"""Decode every frame from the start: slow, and right on every file that decodes at all.

Used when a file's packets do not say which frame is where (timestamps missing, repeated or wrong),
and as the twin that planned decoding is tested against.
"""

from collections.abc import Iterator

import av
import av.error
import numpy as np

from timevlm.video.limits import DecodeLimits
from timevlm.video.picture import DecodeReport, PictureConverter
from timevlm.video.source import open_container, pick_stream


def frame_pts(frame: av.VideoFrame) -> int | None:
    """Presentation time in ticks; where the file has none, the decoder's own guess from decode
    times."""
    return frame.pts if frame.pts is not None else frame.dts


class FrameClock:
    """PTS of frames in the order shown, also where a container stores decode times in their place.

    The rule is FFmpeg's best-effort timestamp (libavcodec, `guess_correct_pts`): of the two times
    that come with a frame, believe the one that has run backwards less often so far. A frame with
    neither follows its predecessor at the last step.
    """

    def __init__(self, container_name: str) -> None:
        self._last = {"pts": None, "dts": None}
        # AVI stores decode times only, so there nothing else is believed.
        self._faults = {"pts": int(container_name == "avi"), "dts": 0}
        self._newest: int | None = None
        self._step = 0

    def ticks_of(self, frame: av.VideoFrame) -> int | None:
        """PTS in ticks, strictly ascending from call to call; None for a frame that has no
        place."""
        times = {"pts": frame.pts, "dts": frame.dts}
        for name, value in times.items():
            if value is not None:
                last = self._last[name]
                self._faults[name] += last is not None and value <= last
                self._last[name] = value
        if self._faults["pts"] > self._faults["dts"]:
            ticks = times["dts"]
            if ticks is None and self._newest is not None and self._step:
                ticks = self._newest + self._step
        else:
            ticks = times["pts"] if times["pts"] is not None else times["dts"]
        if ticks is None or (self._newest is not None and ticks <= self._newest):
            return None
        if self._newest is not None:
            self._step = ticks - self._newest
        self._newest = ticks
        return ticks


def iterate_frames(path: str, limits: DecodeLimits) -> Iterator[tuple[int, av.VideoFrame]]:
    """(PTS in ticks, frame) in the order shown, PTS strictly ascending; what cannot be decoded is
    left out."""
    container = open_container(path)
    try:
        stream = pick_stream(container, path, limits)
        clock = FrameClock(container.format.name)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError):
                packet = None
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                frames = []
            for frame in frames:
                pts = clock.ticks_of(frame)
                if pts is not None:
                    yield pts, frame
            if packet is None:
                return
    finally:
        container.close()


def decode_sequential(
    path: str,
    wanted_pts: np.ndarray,
    converter: PictureConverter,
    limits: DecodeLimits,
    report: DecodeReport,
) -> Iterator[tuple[int, np.ndarray]]:
    """(position in wanted_pts, uint8 (3, H, W)) for each wanted frame that decodes, in order.

    `wanted_pts` is int64 (P,), ascending.
    """
    if wanted_pts.size == 0:
        return
    position_of = {int(pts): position for position, pts in enumerate(wanted_pts)}
    last = int(wanted_pts[-1])
    for pts, frame in iterate_frames(path, limits):
        if pts in position_of:
            pixels = converter.convert(frame, report)
            if pixels is not None:
                yield position_of[pts], pixels
        if pts >= last:
            return
