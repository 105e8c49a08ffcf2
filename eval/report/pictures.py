"""Single frames of a video as small JPEG files.

Frames come from `timevlm.video`; PyAV scales and encodes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from timevlm import PlanError, SamplingPlan, VideoError
from timevlm.video import DecodeLimits, open_video

LONGEST_SIDE = 320
"""Pixels of a picture's longer side."""
_QUALITY = "5"  # FFmpeg's scale for JPEG: 2 is best, 31 worst
DECODE_LIMITS = DecodeLimits(wall_seconds=30.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: the second at which it is shown (PTS), its JPEG data and size in pixels."""

    seconds: float
    label: str
    jpeg: bytes
    width: int
    height: int


def take_pictures(
    path: Path, moments: Sequence[tuple[float, str]], *, isolate: bool
) -> list[Picture]:
    """The frames on screen at the given seconds, with their labels, in the order given.

    `isolate` decodes the first in a child process, for files that nothing has read before: what did
    no harm there does none here. A moment at which the video shows nothing is left out. Raises
    VideoError for a file that cannot be used, or that keeps the caller waiting too long.
    """
    found = []
    for seconds, label in moments:
        # One frame, the one on screen at the range's first instant.
        plan = SamplingPlan(start=max(seconds, 0.0), fps=1.0, max_frames=1, mode="fps_head")
        try:
            with open_video(
                path, plan, limits=DECODE_LIMITS, batch_size=1, isolate=isolate, workers=1
            ) as reader:
                batch = next(iter(reader), None)
        except PlanError:
            continue
        if batch is not None:
            pixels = batch.pixels[0].permute(1, 2, 0).numpy()
            jpeg, width, height = encode_jpeg(pixels)
            isolate = False
            found.append(Picture(float(batch.seconds[0]), label, jpeg, width, height))
    return found


def encode_jpeg(pixels: np.ndarray) -> tuple[bytes, int, int]:
    """(JPEG data, width, height) of uint8 pixels (H, W, 3), scaled down to `LONGEST_SIDE`.

    Raises VideoError if FFmpeg cannot encode.
    """
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    scale = min(1.0, LONGEST_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(scale * side)) for side in (frame.width, frame.height))
    try:
        codec = av.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
        codec.time_base = Fraction(1, 1)
        codec.options = {"qmin": _QUALITY, "qmax": _QUALITY}
        scaled = frame.reformat(width, height, format="yuvj420p", interpolation="AREA")
        packets = [*codec.encode(scaled), *codec.encode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"a picture of {width}x{height} cannot be encoded: {error}") from error
    return b"".join(map(bytes, packets)), width, height
