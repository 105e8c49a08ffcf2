"""What a video of the world is: frozen values with exact times, written to and read from JSON.

Times are seconds from the start of the video and intervals are half open, `[start, end)`: the
picture at a scene's end time already belongs to the next scene. Positions are shares of the
frame's width and height, radii are shares of its shorter side, so a spec has no resolution.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

RGB = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectSpec:
    """One object of one scene: how it looks, how it moves, and when each of that happens.

    Between `motion_start_seconds` and `motion_end_seconds` it goes evenly from the start to the
    end pose; outside it rests in the nearer one. A circling object turns `orbit_turns` times
    (negative: anticlockwise) around `start_xy`.
    """

    shape: str
    colour: str
    rgb: RGB
    size: str
    motion: str
    start_xy: Point
    end_xy: Point
    start_radius: float
    end_radius: float
    motion_start_seconds: float
    motion_end_seconds: float
    appear_seconds: float
    vanish_seconds: float
    orbit_radius: float = 0.0
    orbit_phase: float = 0.0
    orbit_turns: float = 0.0
    change_seconds: float | None = None
    changed_colour: str | None = None
    changed_rgb: RGB | None = None

    @property
    def changes(self) -> bool:
        """Whether the object changes its colour."""
        return self.change_seconds is not None

    @property
    def colours(self) -> tuple[str, ...]:
        """Every colour the object has at some time, in time order."""
        return (self.colour,) if self.changed_colour is None else (self.colour, self.changed_colour)

    def colour_at(self, seconds: float) -> str:
        """The name of the colour the object has at a time."""
        changed = self.change_seconds is not None and seconds >= self.change_seconds
        return self.changed_colour if changed and self.changed_colour else self.colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """The picture behind the objects, "flat", "gradient" (along `angle`, radians) or "noise"."""

    kind: str
    rgb: RGB
    second_rgb: RGB
    angle: float
    noise_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSpec:
    """One scene between two cuts, with its light and sensor noise (in levels of 0..255)."""

    start_seconds: float
    end_seconds: float
    background: Background
    objects: tuple[ObjectSpec, ...]
    brightness: float
    noise_level: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSpec:
    """A whole video: the ground truth that pictures, questions and captions are made from."""

    seed: int
    split: str
    duration_seconds: float
    scenes: tuple[SceneSpec, ...]

    @property
    def level(self) -> str:
        """The level of the world that the video belongs to."""
        return "basic"

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "VideoSpec":
        """The spec that `to_dict` wrote, also after a round trip through JSON, of either level."""
        if data.get("level") == "full":
            from timevlm.synth.full.spec import FullVideo

            return FullVideo.from_dict(data)
        return cls(**{**data, "scenes": tuple(_scene(scene) for scene in data["scenes"])})


def crop_scenes(spec: VideoSpec, first: int, count: int) -> VideoSpec:
    """The video of `count` scenes from scene `first` on, starting at time 0, of either level.

    A transition at the new end goes: there is no picture left that it could lead to.
    """
    scenes = spec.scenes[first : first + count]
    start = scenes[0].start_seconds
    moved = [_earlier(scene, start) for scene in scenes]
    if "transition" in moved[-1].__dataclass_fields__:
        moved[-1] = dataclasses.replace(moved[-1], transition=None)
    return dataclasses.replace(spec, scenes=tuple(moved), duration_seconds=moved[-1].end_seconds)


def _earlier(value: Any, seconds: float) -> Any:
    """A spec with all its times `seconds` earlier (in hundredths, which holds every event)."""
    if isinstance(value, tuple):
        return tuple(_earlier(item, seconds) for item in value)
    if not dataclasses.is_dataclass(value):
        return value
    changes = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        is_time = field.name.endswith("_seconds") and field.name != "duration_seconds"
        if is_time and old is not None:
            changes[field.name] = round(old - seconds, 2)
        elif not is_time:
            changes[field.name] = _earlier(old, seconds)
    return dataclasses.replace(value, **changes)


def _scene(data: dict[str, Any]) -> SceneSpec:
    background = Background(**tuples(data["background"]))
    objects = tuple(ObjectSpec(**tuples(item)) for item in data["objects"])
    return SceneSpec(**{**data, "background": background, "objects": objects})


def tuples(data: dict[str, Any]) -> dict[str, Any]:
    """The fields with JSON's lists as the tuples that they were."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
