"""Caps on what a video file may cost, so that one hostile or broken file cannot stop a program."""

from dataclasses import dataclass

from timevlm.errors import PlanError


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What decoding may use. Every cap that can be checked from the header is checked before
    decoding.

    The defaults admit any ordinary film; a server lowers them.
    """

    max_bytes: int = 64 * 2**30
    """Size of the file."""
    max_seconds: float = 48 * 3600.0
    """Duration of the video stream, in seconds."""
    max_frames: int = 250_000
    """Frames that one plan may select."""
    max_pixels_per_frame: int = 8192 * 4352
    """Width times height of a decoded picture; checked on every frame, since it can change."""
    wall_seconds: float = 3600.0
    """Longest total time, in seconds, that the caller may be kept waiting for frames. Time that the
    caller spends on its own work is not counted."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_seconds", "max_frames", "max_pixels_per_frame"):
            value = getattr(self, name)
            if not value > 0:
                raise PlanError(f"limit {name}={value} must be above 0")
        if not self.wall_seconds > 0:
            raise PlanError(f"limit wall_seconds={self.wall_seconds} must be above 0")
