"""Facts of a video of level "full": its tracks, its events in time order, and what moves when."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from timevlm.synth.full.palette import (
    CAMERA_MOVES,
    MOTIONS,
    SOFT_TRANSITIONS,
    STRAIGHT,
    TRAVELLING,
)
from timevlm.synth.full.spec import FullScene, FullVideo
from timevlm.synth.timeline import Span, Timeline, Track
from timevlm.tasks.grounding import merge_spans

# A stop or a start must leave this much of the other state to be seen.
_MIN_REST = 1.5
_EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happens at one moment, as a clause: "the red circle appears"."""

    kind: str
    seconds: float
    text: str


class FullTimeline(Timeline):
    """The facts that questions, grounding queries and captions of a video rest on."""

    spec: FullVideo

    def __init__(self, spec: FullVideo) -> None:
        super().__init__(spec)
        self.scenes: tuple[FullScene, ...] = spec.scenes
        self.soft_windows = [
            scene.transition_window
            for scene in spec.scenes
            if scene.transition_kind in SOFT_TRANSITIONS
        ]

    def names(self, track: Track) -> list[str]:
        """The names that mean this object alone, found once for each track."""
        return self._names[id(track)]

    @cached_property
    def _names(self) -> dict[int, list[str]]:
        return {id(track): super(FullTimeline, self).names(track) for track in self.tracks}

    def may_do(self, track: Track, motion: str) -> bool:
        """Whether a strict viewer could say that the object does this at some time."""
        own, scene = track.item.motion, self.scenes[track.scene_index]
        camera = None if scene.camera is None else scene.camera.kind
        if own == motion:
            return True
        if camera is not None and camera.startswith(("pan", "tilt")) and motion in TRAVELLING:
            return True
        if camera is not None and camera.startswith("zoom") and motion in ("grow", "shrink"):
            return True
        if camera == "shake" and motion in ("bounce", "still"):
            return True
        if motion == "still":
            return track.rests or own not in TRAVELLING
        if own in ("circle", "bounce"):
            return motion in STRAIGHT or motion == "circle"
        # On its way along a diagonal an object also moves along both sides.
        return own == "diagonal" and motion in STRAIGHT

    def wrong_motions(self, track: Track) -> list[str]:
        """Motions (keys) that the object clearly does not do."""
        return [motion for motion in MOTIONS if not self.may_do(track, motion)]

    def camera_moves(self, track: Track) -> bool:
        """Whether the camera moves in the object's scene."""
        return self.scenes[track.scene_index].camera is not None

    def is_sharp(self, seconds: float) -> bool:
        """Whether the picture around a moment is free of fades, dissolves and flashes."""
        return not any(start - _EPS <= seconds <= end + _EPS for start, end in self.soft_windows)

    def stop_seconds(self, track: Track) -> float | None:
        """When a travelling object comes to rest, long enough before it or its scene goes."""
        item, scene = track.item, self.scenes[track.scene_index]
        end = item.motion_end_seconds
        rest = min(item.vanish_seconds, scene.transition_window[0]) - end
        if item.motion not in TRAVELLING | {"spin"} or rest < _MIN_REST:
            return None
        return end

    def start_seconds(self, track: Track) -> float | None:
        """When an object that rested at first begins to move."""
        item = track.item
        rest = item.motion_start_seconds - item.appear_seconds
        if item.motion not in TRAVELLING | {"spin"} or rest < _MIN_REST:
            return None
        return item.motion_start_seconds if self.is_sharp(item.motion_start_seconds) else None

    def comes_late(self, track: Track) -> bool:
        """Whether the object appears in the middle of its scene."""
        return track.item.appear_seconds > self.scenes[track.scene_index].start_seconds

    def goes_early(self, track: Track) -> bool:
        """Whether the object vanishes while its scene is still shown."""
        return track.item.vanish_seconds < self.scenes[track.scene_index].shown[1]

    @cached_property
    def events(self) -> list[Event]:
        """All moments with a clause of their own, in time order; clauses are unique."""
        found = [event for track in self.tracks for event in self._track_events(track)]
        for index, scene in enumerate(self.scenes):
            found += self._scene_events(index, scene)
        texts = [event.text for event in found]
        unique = [event for event in found if texts.count(event.text) == 1]
        return sorted(unique, key=lambda event: event.seconds)

    def _track_events(self, track: Track) -> list[Event]:
        names = self.names(track)
        if not names:
            return []
        name, item = names[0], track.item
        moments = [
            ("appear", item.appear_seconds if self.comes_late(track) else None, "appears"),
            ("vanish", item.vanish_seconds if self.goes_early(track) else None, "vanishes"),
            ("start", self.start_seconds(track), "starts to move"),
            ("stop", self.stop_seconds(track), "stops"),
        ]
        if item.motion == "spin":
            moments[2:] = []
        found = [
            Event(kind=kind, seconds=seconds, text=f"the {name} {does}")
            for kind, seconds, does in moments
            if seconds is not None
        ]
        if item.changes and len(self.with_shape(item.shape)) == 1:
            text = f"the {item.shape} turns {item.changed_colour}"
            found.append(Event(kind="change", seconds=item.change_seconds, text=text))
        return found

    def _scene_events(self, index: int, scene: FullScene) -> list[Event]:
        found = []
        if scene.pair is not None:
            actor, target = (
                self.names(self.track_of(index, i)) for i in (scene.pair.actor, scene.pair.target)
            )
            if actor and target:
                link = "overtakes" if scene.pair.kind == "overtakes" else "collides with"
                text = f"the {actor[0]} {link} the {target[0]}"
                found.append(Event(kind="meet", seconds=scene.pair.moment_seconds, text=text))
        if scene.camera is not None:
            text = f"the camera {CAMERA_MOVES[scene.camera.kind].does}"
            found.append(Event(kind="camera", seconds=scene.camera.start_seconds, text=text))
        if scene.overlay is not None:
            text = f"the text {scene.overlay.text} appears"
            found.append(Event(kind="text", seconds=scene.overlay.start_seconds, text=text))
        return found

    def track_of(self, scene_index: int, number: int) -> Track:
        """The track of a scene's object by its number in the scene."""
        tracks = [t for t in self.tracks if t.scene_index == scene_index]
        return tracks[number]

    @cached_property
    def moments(self) -> list[float]:
        """Every moment at which a description of the picture changes, sorted."""
        found = set(self.event_seconds())
        for start, end in self.soft_windows:
            found.update((start, end))
        for scene in self.scenes:
            found.update(scene.transition_window)
            found.update(scene.shown)
            for part in (scene.camera, scene.light, scene.overlay):
                if part is not None:
                    found.update((part.start_seconds, part.end_seconds))
            if scene.pair is not None:
                found.add(scene.pair.moment_seconds)
        return sorted(found)

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing begins, ends or blends within half a second of a moment."""
        edges = (0.0, self.spec.duration_seconds)
        if any(abs(seconds - other) < 0.5 for other in (*self.moments, *edges)):
            return False
        windows = [s.transition_window for s in self.scenes if s.transition_kind != "freeze"]
        return not any(start <= seconds < end for start, end in windows)

    def still_spans(self) -> tuple[Span, ...]:
        """When nothing moves: no object, no camera, no fade; a frozen picture is still too."""
        busy = [t.moving for t in self.tracks if t.item.motion != "still"]
        busy += [
            (part.start_seconds, part.end_seconds)
            for scene in self.scenes
            for part in (scene.camera, scene.light)
            if part is not None
        ]
        busy += self.soft_windows
        spans, start = [], 0.0
        for begin, end in merge_spans(busy):
            spans.append((start, begin))
            start = end
        spans.append((start, self.spec.duration_seconds))
        # A black screen is no picture in which something could move, nor one that stands still.
        dark = self.transition_spans("black")
        spans = [part for span in spans for part in outside(span, dark)]
        return tuple((a, b) for a, b in spans if b - a >= 1.0)

    def transition_spans(self, kind: str) -> list[Span]:
        """When transitions of a kind go on; a hard cut is shown by the pictures beside it."""
        spans = []
        for scene in self.scenes:
            if scene.transition_kind == kind:
                cut = scene.end_seconds
                spans.append(self.around(cut) if kind == "cut" else scene.transition_window)
        return spans

    def transitions(self) -> list[tuple[int, str]]:
        """(index of the scene that ends, kind) of every transition."""
        return [(i, s.transition_kind) for i, s in enumerate(self.scenes) if s.transition_kind]

    def dims(self, index: int) -> bool:
        """Whether a transition of its own lets a scene's picture get brighter or darker."""
        around = [self.scenes[index].transition_kind]
        if index:
            around.append(self.scenes[index - 1].transition_kind)
        return any(kind in ("fade", "flash", "black") for kind in around)


def outside(span: Span, others: Sequence[Span]) -> list[Span]:
    """The parts of a span outside of other, sorted spans."""
    parts, start = [], span[0]
    for begin, end in others:
        if end <= start or begin >= span[1]:
            continue
        if begin > start:
            parts.append((start, begin))
        start = max(start, end)
    return [*parts, (start, span[1])] if start < span[1] else parts
