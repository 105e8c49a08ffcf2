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


def iterate_frames(path: str, limits: DecodeLimits) -> Iterator[tuple[int, av.VideoFrame]]:
    """(PTS in ticks, frame) in the order shown, PTS strictly ascending; what cannot be decoded is
    left out."""
    container = open_container(path)
    try:
        stream = pick_stream(container, path, limits)
        newest: int | None = None
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
                pts = frame_pts(frame)
                if pts is not None and (newest is None or pts > newest):
                    newest = pts
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
