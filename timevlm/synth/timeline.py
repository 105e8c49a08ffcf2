"""Facts that questions rest on: who is seen when, and which words name only one thing."""

from dataclasses import dataclass

from timevlm.synth.palette import DIRECTIONS, MOTIONS
from timevlm.synth.spec import ObjectSpec, SceneSpec, VideoSpec

Span = tuple[float, float]

# A moment (a colour change, an appearance) is shown by the pictures on both sides of it.
MOMENT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """An object and its scene. Scenes share no objects: the same look twice is two tracks."""

    scene_index: int
    scene: SceneSpec
    item: ObjectSpec

    @property
    def visible(self) -> Span:
        """When the object is in the picture (a blinking one counts as visible throughout)."""
        return (self.item.appear_seconds, self.item.vanish_seconds)

    @property
    def moving(self) -> Span:
        """When the object's motion goes on."""
        return (self.item.motion_start_seconds, self.item.motion_end_seconds)

    @property
    def rests(self) -> bool:
        """Whether the object also stands still for a while before or after its motion."""
        return self.moving != self.visible

    def colour_span(self, colour: str) -> Span | None:
        """When the object has a colour, None if never."""
        start, end = self.visible
        item = self.item
        if item.change_seconds is None:
            return (start, end) if colour == item.colour else None
        if colour == item.colour:
            return (start, item.change_seconds)
        return (item.change_seconds, end) if colour == item.changed_colour else None


class Timeline:
    """The tracks of a video and the references that are unambiguous in it."""

    def __init__(self, spec: VideoSpec) -> None:
        self.spec = spec
        self.tracks = [
            Track(scene_index=index, scene=scene, item=item)
            for index, scene in enumerate(spec.scenes)
            for item in scene.objects
        ]

    def looks(self) -> set[tuple[str, str]]:
        """Every (colour, shape) that is seen at some time."""
        return {(colour, t.item.shape) for t in self.tracks for colour in t.item.colours}

    def with_shape(self, shape: str) -> list[Track]:
        """The tracks of a shape."""
        return [t for t in self.tracks if t.item.shape == shape]

    def with_look(self, colour: str, shape: str) -> list[Track]:
        """The tracks that have this shape and, at some time, this colour."""
        return [t for t in self.with_shape(shape) if colour in t.item.colours]

    def only_shapes(self) -> list[Track]:
        """Tracks whose shape no other object of the video has."""
        return [t for t in self.tracks if len(self.with_shape(t.item.shape)) == 1]

    def only_colours(self) -> list[Track]:
        """Unchanging tracks whose colour no other object ever has."""
        return [
            t
            for t in self.tracks
            if not t.item.changes
            and sum(t.item.colour in other.item.colours for other in self.tracks) == 1
        ]

    def only_motions(self) -> list[Track]:
        """Tracks whose motion nothing else in the video does, not even for a while."""
        return [
            t
            for t in self.tracks
            if sum(self.may_do(other, t.item.motion) for other in self.tracks) == 1
        ]

    def may_do(self, track: Track, motion: str) -> bool:
        """Whether a strict viewer could say that the object does this at some time."""
        own = track.item.motion
        if motion == "still":
            return track.rests or own in ("still", "blink")
        return own == motion or (own == "circle" and motion in DIRECTIONS)

    def names(self, track: Track) -> list[str]:
        """The names that mean this object alone: "red circle", and "circle" if no other is one."""
        item, names = track.item, []
        if not item.changes and len(self.with_look(item.colour, item.shape)) == 1:
            names.append(f"{item.colour} {item.shape}")
        if len(self.with_shape(item.shape)) == 1:
            names.append(item.shape)
        return names

    def wrong_motions(self, track: Track) -> list[str]:
        """Motions (keys) that the object clearly does not do."""
        return [motion for motion in MOTIONS if not self.may_do(track, motion)]

    def around(self, seconds: float) -> Span:
        """The span of a moment, kept inside the video."""
        end = min(self.spec.duration_seconds, seconds + MOMENT_SECONDS)
        return (max(0.0, seconds - MOMENT_SECONDS), end)

    def event_seconds(self) -> list[float]:
        """All moments at which something in the video changes, sorted, without its two ends."""
        moments = {scene.start_seconds for scene in self.spec.scenes}
        for track in self.tracks:
            moments.update(track.visible)
            moments.update(track.moving)
            if track.item.change_seconds is not None:
                moments.add(track.item.change_seconds)
        return sorted(moments - {0.0, self.spec.duration_seconds})
