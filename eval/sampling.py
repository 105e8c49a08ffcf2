"""Which frames of a video a model is shown: the sampling rules that published results name.

A `Sampling` is what a run asks for, the same for every video; `plan` turns it into the reader's
`SamplingPlan` for one video. Two rules need the times of the video's frames first
(`needs_frame_times`): `linspace` spreads frames from the very first to the very last, and a rule
with `min_frames` falls back to an even spread on short videos (TimeViper's evaluation: 1 frame/s,
only the first 256 frames, 32 spread frames where there are fewer).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from timevlm import PlanError, SamplingPlan

Mode = Literal["model", "uniform_mid", "linspace", "fps", "fps_head", "fps_then_uniform"]

_NUMBERS = {  # what stands behind the mode, in order; min_frames may be left out
    "model": (),
    "uniform_mid": ("frames",),
    "linspace": ("frames",),
    "fps": ("fps",),
    "fps_head": ("fps", "frames", "min_frames"),
    "fps_then_uniform": ("fps", "frames"),
}
PRESETS = {"timeviper": "fps_head:1:256:32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """A sampling rule and its numbers. Raises PlanError where they contradict each other."""

    mode: Mode = "model"
    """`model`: what the model's makers chose; the runner resolves it before it reads a video."""
    fps: float | None = None
    """Frames per second of video."""
    frames: int | None = None
    """How many frames (`uniform_mid`, `linspace`), or at most how many."""
    min_frames: int | None = None
    """A video in which `fps` finds fewer gets this many, evenly spread."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise PlanError(f"unknown sampling {self.mode!r}; write one of {_forms()}")
        given = {
            name for name in ("fps", "frames", "min_frames") if getattr(self, name) is not None
        }
        allowed = set(_NUMBERS[self.mode])
        if not allowed - {"min_frames"} <= given <= allowed:
            raise PlanError(f"sampling {self.mode!r} is written {_form(self.mode)}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise PlanError(f"sampling rate {self.fps} is not a number of frames/s above 0")
        least = 2 if self.mode == "linspace" else 1
        for count in (self.frames, self.min_frames):
            if count is not None and count < least:
                raise PlanError(f"sampling {self.mode} of {count} frames; give {least} or more")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The sampling written as `mode:number:...`, or a preset's name. Raises PlanError."""
        mode, *numbers = PRESETS.get(text, text).split(":")
        if mode not in _NUMBERS or len(numbers) > len(_NUMBERS[mode]):
            raise PlanError(f"unknown sampling {text!r}; write one of {_forms()}")
        values: dict[str, Any] = {}
        for name, number in zip(_NUMBERS[mode], numbers, strict=False):
            try:
                values[name] = float(number) if name == "fps" else int(number)
            except ValueError:
                raise PlanError(
                    f"{number!r} in sampling {text!r} is not a number; write {_form(mode)}"
                ) from None
        return cls(mode=mode, **values)

    def __str__(self) -> str:
        numbers = [self.fps, self.frames, self.min_frames]
        return ":".join([self.mode, *(f"{n:g}" for n in numbers if n is not None)])

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)

    @property
    def needs_frame_times(self) -> bool:
        """Whether `plan` must know the times of the video's frames."""
        return self.mode == "linspace" or self.min_frames is not None

    def plan(
        self,
        *,
        clip: tuple[float, float] | None = None,
        resolution: tuple[int, int] | None = None,
        frame_seconds: Sequence[float] = (),
    ) -> SamplingPlan:
        """The reader's plan for one video.

        `clip` is (start, end) in seconds; `frame_seconds` are the times of all frames inside it,
        needed where `needs_frame_times`. Raises PlanError.
        """
        start, end = clip or (None, None)
        common = {"start": start, "end": end, "resolution": resolution}
        if self.mode == "model":
            raise PlanError("sampling 'model' must be resolved by the model before it is planned")
        if self.needs_frame_times and not len(frame_seconds):
            raise PlanError(f"sampling {self} needs the times of the video's frames")
        if self.mode == "linspace":
            return _linspace(self.frames, frame_seconds, common)
        if self.mode == "uniform_mid":
            return SamplingPlan(mode="uniform", max_frames=self.frames, **common)
        plan = SamplingPlan(mode=self.mode, fps=self.fps, max_frames=self.frames, **common)
        if self.min_frames is not None:
            seconds = float(frame_seconds[-1]) - float(frame_seconds[0])
            if seconds * self.fps + 1 < self.min_frames:
                return SamplingPlan(mode="uniform", max_frames=self.min_frames, **common)
        return plan


def from_options(
    sampling: str | None, *, fps: float | None = None, max_frames: int | None = None
) -> Sampling:
    """The sampling that command-line options ask for.

    `--fps` alone is `fps`, `--max-frames` alone `uniform_mid`, both together `fps_then_uniform`;
    nothing at all leaves it to the model. Raises PlanError if `--sampling` stands beside them.
    """
    if sampling is not None:
        if fps is not None or max_frames is not None:
            raise PlanError("--sampling already says how many frames; drop --fps and --max-frames")
        return Sampling.parse(sampling)
    if fps is None and max_frames is None:
        return Sampling()
    if fps is None:
        return Sampling(mode="uniform_mid", frames=max_frames)
    if max_frames is None:
        return Sampling(mode="fps", fps=fps)
    return Sampling(mode="fps_then_uniform", fps=fps, frames=max_frames)


def _linspace(count: int, frame_seconds: Sequence[float], common: dict[str, Any]) -> SamplingPlan:
    """`count` frames from the first to the last one, both included."""
    first, last = float(frame_seconds[0]), float(frame_seconds[-1])
    if last <= first:
        return SamplingPlan(mode="uniform", max_frames=1, **common)
    # The grid first + k * step ends exactly on the last frame; a target beyond it would show the
    # last frame again, and the reader hands out each frame once.
    return SamplingPlan(
        mode="fps_head", fps=(count - 1) / (last - first), max_frames=count, **common
    )


def _form(mode: str) -> str:
    return ":".join([mode, *(name.upper() for name in _NUMBERS[mode])])


def _forms() -> str:
    return ", ".join([*(_form(mode) for mode in _NUMBERS), *PRESETS])
