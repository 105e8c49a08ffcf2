"""Sentences about videos of level "full" that hold in exactly known intervals."""

import random
from collections.abc import Callable

from timevlm.synth.full.palette import CAMERA_MOVES, LIGHT_CHANGES, MOTIONS, NUMBERS, TRANSITIONS
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import GROUNDING_WORDINGS, draw_wording
from timevlm.synth.items import GroundingQuery, Span
from timevlm.synth.palette import ORDINALS
from timevlm.synth.timeline import Track
from timevlm.synth.wording import an
from timevlm.tasks.grounding import merge_spans

# What a sentence is about: its spans and the words that go into its slots.
Found = tuple[list[Span], dict[str, str]]


def make_full_grounding(spec: FullVideo, seed: int, *, limit: int = 4) -> list[GroundingQuery]:
    """Up to `limit` different queries about a video, kinds drawn evenly."""
    rng = random.Random(f"grounding:full:{spec.split}:{spec.seed}:{seed}")
    timeline = FullTimeline(spec)
    queries: dict[tuple[str, tuple[Span, ...]], GroundingQuery] = {}
    for _ in range(6 * limit):
        if len(queries) == limit:
            break
        kind = rng.choice(tuple(FINDERS))
        found = FINDERS[kind](timeline, rng)
        if found is None or not found[0]:
            continue
        spans, slots = tuple(merge_spans(found[0])), found[1]
        text = draw_wording(rng, GROUNDING_WORDINGS, kind, spec.split, slots)
        # One fact in two wordings would count twice.
        queries.setdefault((kind, spans), GroundingQuery(text=text, spans=spans, kind=kind))
    return list(queries.values())


def _thing(timeline: FullTimeline, rng: random.Random, track: Track) -> dict[str, str]:
    name = rng.choice(timeline.names(track))
    return {"thing": name, "a_thing": an(name)}


def _named(timeline: FullTimeline) -> list[Track]:
    return [t for t in timeline.tracks if timeline.names(t)]


def _object(timeline: FullTimeline, rng: random.Random) -> Found | None:
    colour, shape = rng.choice(sorted(timeline.looks()))
    spans = [s for t in timeline.with_look(colour, shape) if (s := t.colour_span(colour))]
    name = f"{colour} {shape}"
    return spans, {"object": name, "an_object": an(name)}


def _shape(timeline: FullTimeline, rng: random.Random) -> Found | None:
    shape = rng.choice(timeline.tracks).item.shape
    spans = [t.visible for t in timeline.with_shape(shape)]
    return spans, {"shape": shape, "a_shape": an(shape)}


def _motion(timeline: FullTimeline, rng: random.Random) -> Found | None:
    tracks = [t for t in _named(timeline) if t.item.motion != "still"]
    if not tracks:
        return None
    track = rng.choice(tracks)
    words = MOTIONS[track.item.motion]
    slots = {"does": words.does, "doing": words.doing}
    return [track.moving], {**_thing(timeline, rng, track), **slots}


def _any_motion(timeline: FullTimeline, rng: random.Random) -> Found | None:
    motions = sorted({t.item.motion for t in timeline.tracks} - {"still"})
    # Others must not do it in passing, as a diagonal does both its directions.
    clear = [
        motion
        for motion in motions
        if all(t.item.motion == motion or not timeline.may_do(t, motion) for t in timeline.tracks)
    ]
    if not clear:
        return None
    motion = rng.choice(clear)
    words = MOTIONS[motion]
    spans = [t.moving for t in timeline.tracks if t.item.motion == motion]
    return spans, {"does": words.does, "doing": words.doing}


def _change(timeline: FullTimeline, rng: random.Random) -> Found | None:
    items = [t.item for t in timeline.only_shapes() if t.item.changes]
    if not items:
        return None
    item = rng.choice(items)
    slots = {"shape": item.shape, "a_shape": an(item.shape), "colour": item.changed_colour}
    return [timeline.around(item.change_seconds)], slots


def _scene(timeline: FullTimeline, rng: random.Random) -> Found | None:
    if len(timeline.scenes) < 2:
        return None
    index = rng.randrange(len(timeline.scenes))
    return [timeline.scenes[index].shown], {
        "ordinal": ORDINALS[index],
        "number": NUMBERS[index + 1],
    }


def _appear(timeline: FullTimeline, rng: random.Random) -> Found | None:
    tracks = [t for t in _named(timeline) if timeline.comes_late(t)]
    if not tracks:
        return None
    track = rng.choice(tracks)
    return [timeline.around(track.visible[0])], _thing(timeline, rng, track)


def _vanish(timeline: FullTimeline, rng: random.Random) -> Found | None:
    tracks = [t for t in _named(timeline) if timeline.goes_early(t)]
    if not tracks:
        return None
    track = rng.choice(tracks)
    return [timeline.around(track.visible[1])], _thing(timeline, rng, track)


def _stop(timeline: FullTimeline, rng: random.Random) -> Found | None:
    stops = [(t, s) for t in _named(timeline) if (s := timeline.stop_seconds(t)) is not None]
    if not stops:
        return None
    track, seconds = rng.choice(stops)
    return [timeline.around(seconds)], _thing(timeline, rng, track)


def _meet(timeline: FullTimeline, rng: random.Random) -> Found | None:
    meetings = [event for event in timeline.events if event.kind == "meet"]
    if not meetings:
        return None
    event = rng.choice(meetings)
    return [timeline.around(event.seconds)], {"event": event.text}


def _camera(timeline: FullTimeline, rng: random.Random) -> Found | None:
    moves = [s.camera for s in timeline.scenes if s.camera is not None]
    if not moves:
        return None
    kind = rng.choice(moves).kind
    words = CAMERA_MOVES[kind]
    spans = [(m.start_seconds, m.end_seconds) for m in moves if m.kind == kind]
    return spans, {"does": words.does, "doing": words.doing}


def _camera_moves(timeline: FullTimeline, rng: random.Random) -> Found | None:
    moves = [s.camera for s in timeline.scenes if s.camera is not None]
    return [(m.start_seconds, m.end_seconds) for m in moves], {}


def _transition(timeline: FullTimeline, rng: random.Random) -> Found | None:
    kinds = sorted({kind for _, kind in timeline.transitions()})
    if not kinds:
        return None
    kind = rng.choice(kinds)
    return timeline.transition_spans(kind), {"a_transition": an(TRANSITIONS[kind])}


def _any_transition(timeline: FullTimeline, rng: random.Random) -> Found | None:
    spans = [
        timeline.around(scene.end_seconds)
        if kind in ("cut", "freeze")
        else (scene.transition_window[0], max(scene.transition_window[1], scene.end_seconds))
        for scene in timeline.scenes
        if (kind := scene.transition_kind) is not None
    ]
    return spans, {}


def _still(timeline: FullTimeline, rng: random.Random) -> Found | None:
    return list(timeline.still_spans()), {}


def _text(timeline: FullTimeline, rng: random.Random) -> Found | None:
    texts = [s.overlay for s in timeline.scenes if s.overlay is not None]
    if not texts:
        return None
    overlay = rng.choice(texts)
    return [(overlay.start_seconds, overlay.end_seconds)], {"text": overlay.text}


def _any_text(timeline: FullTimeline, rng: random.Random) -> Found | None:
    texts = [s.overlay for s in timeline.scenes if s.overlay is not None]
    return [(o.start_seconds, o.end_seconds) for o in texts], {}


def _light(timeline: FullTimeline, rng: random.Random) -> Found | None:
    """Light changes of a kind, where no fade or flash looks like one."""
    if any(timeline.dims(index) for index in range(len(timeline.scenes))):
        return None
    changes = [s.light for s in timeline.scenes if s.light is not None]
    if not changes:
        return None
    kind = rng.choice(changes).kind
    spans = [(c.start_seconds, c.end_seconds) for c in changes if c.kind == kind]
    return spans, {"does": LIGHT_CHANGES[kind]}


FINDERS: dict[str, Callable[[FullTimeline, random.Random], Found | None]] = {
    "object": _object,
    "shape": _shape,
    "motion": _motion,
    "any_motion": _any_motion,
    "change": _change,
    "scene": _scene,
    "appear": _appear,
    "vanish": _vanish,
    "stop": _stop,
    "meet": _meet,
    "camera": _camera,
    "camera_moves": _camera_moves,
    "transition": _transition,
    "any_transition": _any_transition,
    "still": _still,
    "text": _text,
    "any_text": _any_text,
    "light": _light,
}
