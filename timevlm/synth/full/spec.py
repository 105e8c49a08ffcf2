"""Specs of level "full": those of level "basic" with cameras, light, text, transitions, patterns.

The clock and the coordinates are those of `timevlm.synth.spec`. Positions are the world's: the
camera decides where on the picture they lie.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from timevlm.synth.full.palette import SOFT_TRANSITIONS
from timevlm.synth.spec import RGB, Background, ObjectSpec, SceneSpec, VideoSpec, tuples


@dataclass(frozen=True, kw_only=True, slots=True)
class FullObject(ObjectSpec):
    """An object that may also have a pattern, spin, bounce or blink a counted number of times.

    `spin_turns`, `num_bounces` and `num_blinks` happen between the start and the end of its motion.
    """

    pattern: str = "plain"
    spin_turns: float = 0.0
    bounce_height: float = 0.0
    num_bounces: int = 0
    num_blinks: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraMove:
    """One camera move; before and after it the camera rests.

    `amount` is the way of a pan or tilt as a share of the frame, the largest zoom factor, or the
    width of a shake.
    """

    kind: str
    start_seconds: float
    end_seconds: float
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LightChange:
    """The light goes evenly from one gain to the other and stays there; a flicker comes back."""

    kind: str
    start_seconds: float
    end_seconds: float
    start_gain: float
    end_gain: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlay:
    """A word or number written over the picture at the top or the bottom ("side").

    `x` is the middle of the text; `boxed` puts a dark plate behind it.
    """

    text: str
    start_seconds: float
    end_seconds: float
    side: str
    x: float
    rgb: RGB
    boxed: bool

    def is_shown(self, seconds: float) -> bool:
        """Whether it is on the picture at a time of its video."""
        return self.start_seconds <= seconds < self.end_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """How a scene gives way to the next one, around or before its end.

    Fades, dissolves and flashes are centred on the scene's end; a freeze and a black screen are
    the last part of the scene that ends.
    """

    kind: str
    duration_seconds: float

    def window(self, end_seconds: float) -> tuple[float, float]:
        """When the transition at a scene's end goes on."""
        if self.kind in SOFT_TRANSITIONS:
            half = self.duration_seconds / 2
            return round(end_seconds - half, 2), round(end_seconds + half, 2)
        return round(end_seconds - self.duration_seconds, 2), end_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class PairEvent:
    """Two objects of a scene meet: "overtakes" or "collides", at a moment."""

    kind: str
    actor: int  # index into the scene's objects
    target: int
    moment_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FullScene(SceneSpec):
    """A scene with at most one camera move, light change, text and meeting of two objects.

    `transition` leads into the next scene; the last scene has none. `blur` is the standard
    deviation of the lens blur as a share of the frame's shorter side.
    """

    objects: tuple[FullObject, ...]
    camera: CameraMove | None = None
    light: LightChange | None = None
    overlay: Overlay | None = None
    transition: Transition | None = None
    pair: PairEvent | None = None
    blur: float = 0.0

    @property
    def transition_kind(self) -> str | None:
        """Kind of the transition into the next scene, None for the last scene."""
        return None if self.transition is None else self.transition.kind

    @property
    def transition_window(self) -> tuple[float, float]:
        """When the transition into the next scene goes on; empty at the end for the last scene."""
        if self.transition is None:
            return self.end_seconds, self.end_seconds
        return self.transition.window(self.end_seconds)

    @property
    def shown(self) -> tuple[float, float]:
        """When the scene's picture can be seen: a black screen at its end does not count."""
        black = self.transition_kind == "black"
        end = self.transition_window[0] if black else self.end_seconds
        return self.start_seconds, end


@dataclass(frozen=True, kw_only=True, slots=True)
class FullVideo(VideoSpec):
    """A video of level "full".

    `jpeg_scale` (2 the finest to 31) sends every frame through JPEG with that quantiser scale.
    """

    scenes: tuple[FullScene, ...]
    jpeg_scale: int | None = None

    @property
    def level(self) -> str:
        """The level of the world that the video belongs to."""
        return "full"

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return {"level": self.level, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FullVideo":
        """The spec that `to_dict` wrote, also after a round trip through JSON."""
        fields = {key: value for key, value in tuples(data).items() if key != "level"}
        return cls(**{**fields, "scenes": tuple(_scene(scene) for scene in data["scenes"])})


_PARTS = {
    "background": Background,
    "camera": CameraMove,
    "light": LightChange,
    "overlay": Overlay,
    "transition": Transition,
    "pair": PairEvent,
}


def _scene(data: dict[str, Any]) -> FullScene:
    parts = {
        name: None if data[name] is None else kind(**tuples(data[name]))
        for name, kind in _PARTS.items()
    }
    objects = tuple(FullObject(**tuples(item)) for item in data["objects"])
    return FullScene(**{**data, **parts, "objects": objects})
