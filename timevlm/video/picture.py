"""From a decoded FFmpeg frame to an upright RGB array of the size that was asked for."""

import threading
from dataclasses import dataclass, field

import av
import numpy as np
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


class PictureConverter:
    """Resizes, converts and turns frames; one per decoding thread, because it keeps FFmpeg's
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
        turns = round(frame.rotation / 90) % 4
        height, width = self._size if turns % 2 == 0 else self._size[::-1]
        shrinks = height <= frame.height and width <= frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, turns).transpose(2, 0, 1))
