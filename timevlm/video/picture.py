"""From a decoded FFmpeg frame to an upright RGB array of the size that was asked for."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation, VideoReformatter

from timevlm.video.limits import DecodeLimits


@dataclass
class DecodeReport:
    """What went differently than planned. One per reader, shared by its decoding threads."""

    warnings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def warn_once(self, text: str) -> None:
        """Add a warning unless the same line is there already."""
        with self.lock:
            if text not in self.warnings:
                self.warnings.append(text)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: mirrored left to right if so, then turned."""

    quarter_turns: int = 0
    """Counter-clockwise, 0 to 3."""
    mirrored: bool = False

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) after the turn; or, as it undoes itself, that before it."""
        return size if self.quarter_turns % 2 == 0 else size[::-1]

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """A view of (H, W, C) that is upright: (H, W, C), or (W, H, C) after an odd turn."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.quarter_turns)


def orientation_of_matrix(matrix: Sequence[int]) -> Orientation:
    """The one of the 8 orientations that is nearest to FFmpeg's 3 x 3 display matrix, row by row.

    Its first two rows and columns (a, b; c, d) send the stored point (x, y) to (ax + cy, bx + dy),
    y pointing down. Scale and position are ignored; a matrix that flattens the picture turns
    nothing.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    determinant = a * d - b * c
    if determinant < 0:
        a, b = -a, -b
    angle = math.atan2(c - b, a + d) if determinant else 0.0
    return Orientation(round(angle / (math.pi / 2)) % 4, determinant < 0)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix asks for; without one it is upright."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Orientation()
    return orientation_of_matrix(np.frombuffer(bytes(data), dtype=np.int32).tolist())


class PictureConverter:
    """Resizes, converts and orients frames; one per decoding thread, because it keeps FFmpeg's
    scaler.

    size: (height, width) of what it returns, upright.
    """

    def __init__(
        self, size: tuple[int, int], stored_size: tuple[int, int], limits: DecodeLimits
    ) -> None:
        self._size = size
        self._stored_size = stored_size
        self._limits = limits
        self._reformatter = VideoReformatter()

    @property
    def frame_bytes(self) -> int:
        """Bytes of one converted frame."""
        return 3 * self._size[0] * self._size[1]

    def convert(self, frame: av.VideoFrame, report: DecodeReport) -> np.ndarray | None:
        """Contiguous uint8 (3, H, W) RGB, or None if the frame is damaged or too large."""
        if frame.is_corrupt:
            return None
        if frame.width * frame.height > self._limits.max_pixels_per_frame:
            report.warn_once("frames above the limit max_pixels_per_frame were skipped")
            return None
        if (frame.height, frame.width) != self._stored_size:
            report.warn_once(
                f"the picture size changes to {frame.width}x{frame.height} inside the video; "
                "all frames are resized to one size"
            )
        orientation = orientation_of(frame)
        height, width = orientation.turned(self._size)
        shrinks = height <= frame.height and width <= frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        ).to_ndarray()
        return np.ascontiguousarray(orientation.apply(rgb).transpose(2, 0, 1))
