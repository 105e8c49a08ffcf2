"""Which frames of a video to look at: a plan is a value that is printed and stored with every
result.

The only clock is the presentation timestamp (PTS) in seconds that the decoder reports; the plan
never computes a time as index / fps. A frame stands for a target time t when it is the one on
screen then: the last frame whose PTS is at most t (with half a clock tick of tolerance, at most 0.5
ms, since containers round timestamps).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from timevlm.errors import PlanError

Mode = Literal["auto", "uniform", "fps", "fps_head", "fps_then_uniform"]
FocusSpan = tuple[float, float, float]

# Share of the budget that stays outside of the focus, so that what nobody expected is seen too.
REST_SHARE = 0.25

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
    3. `focus` decides which frames are left out, in place of `mode`, where frames must be left out:
       if the "fps" targets are more than `max_frames`, three quarters of `max_frames` go to the
       focus spans (frames per second in proportion to the weights, never denser than `fps`) and
       the others, evenly, to the rest of the range. Spans outside of the range have no effect, nor
       has a focus where everything fits.
    4. Each target becomes the frame on screen at that time; targets that share a frame count once.
    5. `resolution` (height, width) resizes what is left.

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
    focus: tuple[FocusSpan, ...] = ()
    """(start, end, weight) of the parts to spend the budget on: PTS seconds, weight above 0."""

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
        object.__setattr__(self, "focus", _checked_focus(self.focus))

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values; `focus` only where there is one."""
        fields = asdict(self)
        if self.resolution is not None:
            fields["resolution"] = list(self.resolution)
        # A plan without a focus keeps the form, and so the cache key, that it always had.
        if self.focus:
            fields["focus"] = [list(span) for span in self.focus]
        else:
            del fields["focus"]
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
        spans = [span for span in self.focus if span[0] < last and span[1] > first]
        if self._is_uniform() and not spans:
            return self._uniform(times, first, last, tolerance)
        grid = self._grid(times, first, last, tolerance)
        cap = self.max_frames
        if cap is None or grid.size <= cap:
            return Selection(grid, self._rate_text(), None)
        if spans:
            return self._focused(times[grid], grid, spans)
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

    def _focused(
        self, seconds: np.ndarray, grid: np.ndarray, spans: Sequence[FocusSpan]
    ) -> Selection:
        """Most of the budget to the candidates inside the spans, the remainder to those outside."""
        budget = self.max_frames or grid.size
        members = [np.flatnonzero((seconds >= s) & (seconds < e)) for s, e, _ in spans]
        rest = max(1, round(REST_SHARE * budget)) if budget > 1 else 0
        weights = [weight for _, _, weight in spans]
        shares = divide_budget([m.size for m in members], weights, budget - rest)
        chosen = [spread(m, share) for m, share in zip(members, shares, strict=True)]
        inside = np.concatenate(members)
        outside = np.setdiff1d(np.arange(grid.size), inside)
        # What the spans do not use goes to the rest, and the other way round.
        num_outside = min(budget - sum(shares), outside.size)
        spare = budget - num_outside - sum(shares)
        if spare:
            left = np.setdiff1d(inside, np.concatenate(chosen))
            chosen.append(spread(left, spare))
        picked = np.union1d(np.concatenate(chosen), spread(outside, num_outside))
        note = (
            f"{grid.size} frames thinned to {picked.size}: {picked.size - num_outside} in "
            f"{len(spans)} focus spans ({sum(e - s for s, e, _ in spans):.1f} s), {num_outside} "
            f"over the rest (max_frames={budget})"
        )
        return Selection(grid[picked], self._rate_text(), note)

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


def divide_budget(sizes: Sequence[int], weights: Sequence[float], budget: int) -> list[int]:
    """How many of each span's `sizes` candidates to take: at most `budget` in all, exact for it.

    The share taken of a span is in proportion to its weight and at most everything; what a full
    span leaves goes to the others. Every span that holds a candidate gets one while the budget
    lasts, heavier spans first, so that a short one is not rounded away.
    """
    budget = min(budget, sum(sizes))
    order = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: (-weights[i], i))
    taken = [0] * len(sizes)
    for i in order[:budget]:
        taken[i] = 1
    if budget <= len(order):
        return taken
    # Raise the common level until the spans' shares, each cut at its size, use the budget up.
    wanted = [weight * size for weight, size in zip(weights, sizes, strict=True)]
    left, open_spans = float(budget), set(order)
    shares = [0.0] * len(sizes)
    while open_spans:
        level = left / sum(wanted[i] for i in open_spans)
        full = {i for i in open_spans if level * wanted[i] >= sizes[i]}
        if not full:
            for i in open_spans:
                shares[i] = level * wanted[i]
            break
        for i in full:
            shares[i] = float(sizes[i])
            left -= sizes[i]
        open_spans -= full
    taken = [max(one, math.floor(share)) for one, share in zip(taken, shares, strict=True)]
    # Rounding: the budget's last frames go where most is missing, or come from where least is.
    while sum(taken) != budget:
        step = 1 if sum(taken) < budget else -1
        able = [i for i in order if 1 <= taken[i] + step <= sizes[i]]
        taken[max(able, key=lambda i: step * (shares[i] - taken[i]))] += step
    return taken


def spread(members: np.ndarray, count: int) -> np.ndarray:
    """`count` of the ascending `members`, evenly spaced; both ends are among two or more."""
    if count <= 0:
        return members[:0]
    if count == 1:
        return members[members.size // 2 : members.size // 2 + 1]
    return members[np.round(np.linspace(0, members.size - 1, count)).astype(np.int64)]


def _checked_focus(focus: Sequence[Sequence[float]]) -> tuple[FocusSpan, ...]:
    """Focus spans in time order. Raises PlanError for spans that are none, or overlap."""
    try:
        spans = sorted((float(start), float(end), float(weight)) for start, end, weight in focus)
    except (TypeError, ValueError):
        raise PlanError(
            f"focus={focus!r} is no list of (start, end, weight): give three numbers a span"
        ) from None
    for start, end, weight in spans:
        if not (math.isfinite(start) and math.isfinite(end) and start < end):
            raise PlanError(f"focus span {start:g}-{end:g} s: give finite seconds, end above start")
        if not (math.isfinite(weight) and weight > 0):
            raise PlanError(f"focus weight {weight:g}: give a finite number above 0")
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise PlanError(
                f"focus spans {before[0]:g}-{before[1]:g} s and {after[0]:g}-{after[1]:g} s "
                "overlap: merge them"
            )
    return tuple(spans)
