"""Which frames of a video to look at: a plan is a value that is printed and stored with every
result.

The only clock is the presentation timestamp (PTS) in seconds that the decoder reports; the plan
never computes a time as index / fps. A frame stands for a target time t when it is the one on
screen then: the last frame whose PTS is at most t (with half a clock tick of tolerance, at most 0.5
ms, since containers round timestamps).
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

from timevlm.errors import PlanError

Mode = Literal["auto", "uniform", "fps", "fps_head", "fps_then_uniform"]

# Float noise of start + k / fps over a day, far below any container's clock tick.
_EPSILON_SECONDS = 1e-7
# AVI ticks once per frame: half of that is no rounding error. Matroska's millisecond is the
# coarsest.
_MAX_TOLERANCE_SECONDS = 5e-4


@dataclass(frozen=True)
class Selection:
    """What a plan chose from one video."""

    indices: np.ndarray
    """int64 (P,), ascending, no duplicates: positions in the array of frame times."""
    rule: str
    """The mode that was used, in words."""
    capped: str | None
    """How max_frames cut or thinned the choice, in words; None when it did not."""


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """Which part of a video is watched, how densely, and at what picture size.

    Every combination of fields is legal. Precedence:

    1. `start` and `end` (PTS seconds; the range is start <= t < end) are applied first, clipped to
       the video.
    2. `mode` picks target times in that range. `fps=None` means every frame, `max_frames=None`
       means no cap.
       - "uniform": `max_frames` targets, the midpoints of equal segments (fewer if `fps` is given
         and lower than that density). Without `max_frames`: as "fps".
       - "fps": start + k / fps. If that is more than `max_frames`, the rate is divided by the
         smallest whole number that fits, so that the times stay on the grid.
       - "fps_head": as "fps", but only the first `max_frames` of them.
       - "fps_then_uniform": as "fps" while it fits in `max_frames`, else "uniform" over the whole
         range.
       - "auto": "uniform" if only `max_frames` is given, else "fps_then_uniform".
    3. Each target becomes the frame on screen at that time; targets that share a frame count once.
    4. `resolution` (height, width) resizes what is left.

    Nothing is cut silently: `describe` and the reader's warnings say when a cap thinned or cut the
    choice.
    """

    start: float | None = None
    """First second of interest (PTS); None: the first frame."""
    end: float | None = None
    """Second where interest ends (PTS, exclusive); None: the end of the video."""
    fps: float | None = None
    """Frames per second of video; None: every frame."""
    max_frames: int | None = None
    """Most frames to hand out; None: no cap."""
    mode: Mode = "auto"
    resolution: tuple[int, int] | None = None
    """(height, width) in pixels of the frames handed out; None: as stored."""

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise PlanError(f"{name}={value} is not a time: give seconds as a finite number")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise PlanError(
                f"end={self.end:g} s is not after start={self.start:g} s: "
                "give an end above the start"
            )
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise PlanError(f"fps={self.fps} is not a frame rate: give a finite number above 0")
        if self.max_frames is not None and self.max_frames < 1:
            raise PlanError(f"max_frames={self.max_frames} leaves nothing to watch: give 1 or more")
        if self.mode not in get_args(Mode):
            allowed = ", ".join(get_args(Mode))
            raise PlanError(f"unknown sampling mode {self.mode!r}: use one of {allowed}")
        if self.resolution is not None:
            object.__setattr__(self, "resolution", tuple(self.resolution))
            if len(self.resolution) != 2 or any(not 1 <= side <= 16384 for side in self.resolution):
                raise PlanError(
                    f"resolution={self.resolution} is not (height, width): give two numbers "
                    "from 1 to 16384"
                )

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        fields = asdict(self)
        if self.resolution is not None:
            fields["resolution"] = list(self.resolution)
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, object]) -> "SamplingPlan":
        """The plan that `to_dict` wrote. Raises PlanError for unknown or contradictory fields."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            allowed = ", ".join(cls.__dataclass_fields__)
            raise PlanError(f"unknown plan fields {', '.join(unknown)}: allowed are {allowed}")
        return cls(**fields)

    def select(
        self,
        frame_seconds: np.ndarray,
        *,
        end_seconds: float | None = None,
        tick_seconds: float = 0.0,
    ) -> np.ndarray:
        """Positions of the chosen frames: int64 (P,), ascending, without duplicates.

        `frame_seconds` is float64 (N,), ascending: the PTS of every frame. `end_seconds` is when
        the last frame leaves the screen (default: one median frame step after its PTS);
        `tick_seconds` is the container's clock step. Raises PlanError if the range holds no frame.
        """
        return self.resolve(
            frame_seconds, end_seconds=end_seconds, tick_seconds=tick_seconds
        ).indices

    def resolve(
        self,
        frame_seconds: np.ndarray,
        *,
        end_seconds: float | None = None,
        tick_seconds: float = 0.0,
    ) -> Selection:
        """As `select`, with the rule used and what a cap did."""
        times = np.asarray(frame_seconds, dtype=np.float64)
        if times.size == 0:
            raise PlanError("the video holds no frames to choose from")
        tolerance = min(tick_seconds / 2, _MAX_TOLERANCE_SECONDS) + _EPSILON_SECONDS
        first, last = self._range(times, end_seconds, tolerance)
        if self._is_uniform():
            return self._uniform(times, first, last, tolerance)
        grid = self._grid(times, first, last, tolerance)
        cap = self.max_frames
        if cap is None or grid.size <= cap:
            return Selection(grid, self._rate_text(), None)
        if self.mode == "fps_head":
            until = times[grid[cap]]
            note = f"only the first {cap} of {grid.size} frames, cut at {until:.3f} s"
            return Selection(grid[:cap], self._rate_text(), note)
        if self.mode == "fps":
            stride = math.ceil(grid.size / cap)
            note = f"{grid.size} frames thinned to every {stride}th because max_frames={cap}"
            return Selection(grid[::stride], self._rate_text(), note)
        spread = self._uniform(times, first, last, tolerance)
        note = f"{grid.size} frames thinned to {spread.indices.size}, evenly spread"
        return Selection(spread.indices, self._rate_text(), f"{note} (max_frames={cap})")

    def describe(
        self,
        frame_seconds: np.ndarray,
        *,
        end_seconds: float | None = None,
        tick_seconds: float = 0.0,
    ) -> str:
        """One line for people: how many frames, from where to where, by which rule, and what a cap
        did."""
        chosen = self.resolve(frame_seconds, end_seconds=end_seconds, tick_seconds=tick_seconds)
        times = np.asarray(frame_seconds, dtype=np.float64)[chosen.indices]
        line = f"{times.size} of {len(frame_seconds)} frames, {times[0]:.3f}-{times[-1]:.3f} s"
        line += f", {chosen.rule}"
        if self.resolution is not None:
            line += f", resized to {self.resolution[1]}x{self.resolution[0]}"
        return f"{line}; {chosen.capped}" if chosen.capped else line

    def _is_uniform(self) -> bool:
        only_cap = self.max_frames is not None and self.fps is None
        return (self.mode == "uniform" and self.max_frames is not None) or (
            self.mode == "auto" and only_cap
        )

    def _rate_text(self) -> str:
        return "every frame" if self.fps is None else f"{self.fps:g} frames/s"

    def _range(
        self, times: np.ndarray, end_seconds: float | None, tolerance: float
    ) -> tuple[float, float]:
        """The asked range clipped to the video: (first target, exclusive end), in seconds."""
        if end_seconds is None:
            step = float(np.median(np.diff(times))) if times.size > 1 else 1.0
            end_seconds = float(times[-1]) + step
        video_end = max(end_seconds, float(times[-1]) + 2 * tolerance)
        first = float(times[0]) if self.start is None else max(self.start, float(times[0]))
        last = video_end if self.end is None else min(self.end, video_end)
        if last - first <= tolerance:
            asked = f"{self.start or 0.0:g}-{'end' if self.end is None else format(self.end, 'g')}"
            raise PlanError(
                f"no frames in the asked range {asked} s: the video runs from "
                f"{times[0]:.3f} to {video_end:.3f} s"
            )
        return first, last

    def _grid(self, times: np.ndarray, first: float, last: float, tolerance: float) -> np.ndarray:
        if self.fps is None:
            low = max(0, int(np.searchsorted(times, first + tolerance, side="right")) - 1)
            high = int(np.searchsorted(times, last - tolerance, side="left"))
            return np.arange(low, max(high, low + 1), dtype=np.int64)
        return _on_screen(times, first, 1.0 / self.fps, last - tolerance, tolerance)

    def _uniform(self, times: np.ndarray, first: float, last: float, tolerance: float) -> Selection:
        count = self.max_frames or times.size
        if self.fps is not None:
            count = min(count, max(1, math.ceil((last - first - tolerance) * self.fps)))
        segment = (last - first) / count
        rule = f"uniform, one per {segment:.3f} s"
        return Selection(
            _on_screen(times, first + segment / 2, segment, last, tolerance), rule, None
        )


def _on_screen(
    times: np.ndarray, first_target: float, step: float, end: float, tolerance: float
) -> np.ndarray:
    """Positions of the frames on screen at first_target + k * step < end, each once.

    Asks for every frame which target is the first in its time on screen, so that the cost does not
    grow with the number of targets.
    """
    leaves = np.append(times[1:], np.inf) - tolerance
    earliest = np.maximum(np.ceil((times - tolerance - first_target) / step), 0.0)
    targets = first_target + earliest * step
    return np.flatnonzero((targets < leaves) & (targets < end)).astype(np.int64)
