"""Grounding queries: sentences that hold in exactly known intervals of a video."""

import random

from timevlm.synth.full.grounding import make_full_grounding
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.items import GroundingQuery
from timevlm.synth.palette import MOTIONS, NUMBERS, ORDINALS
from timevlm.synth.spec import VideoSpec
from timevlm.synth.timeline import Span, Timeline, Track
from timevlm.synth.wording import GROUNDING_WORDINGS, an
from timevlm.tasks.grounding import merge_spans


def make_grounding(spec: VideoSpec, seed: int, *, limit: int = 4) -> list[GroundingQuery]:
    """Up to `limit` different queries about a video, kinds drawn evenly."""
    if isinstance(spec, FullVideo):
        return make_full_grounding(spec, seed, limit=limit)
    rng = random.Random(f"grounding:{spec.split}:{spec.seed}:{seed}")
    timeline = Timeline(spec)
    found: dict[str, GroundingQuery] = {}
    for _ in range(4 * limit):
        if len(found) == limit:
            break
        kind = rng.choice(tuple(GROUNDING_WORDINGS))
        query = _make_query(timeline, rng, kind)
        if query is not None:
            found.setdefault(query.text, query)
    return list(found.values())


def _make_query(timeline: Timeline, rng: random.Random, kind: str) -> GroundingQuery | None:
    if kind == "scene":
        return _scene_query(timeline, rng)
    track = _pick_track(timeline, rng, kind)
    if track is None:
        return None
    item = track.item
    colour, slots = rng.choice(item.colours), {"shape": item.shape, "a_shape": an(item.shape)}
    if kind == "object":
        slots |= {"object": f"{colour} {item.shape}", "an_object": an(f"{colour} {item.shape}")}
        tracks = timeline.with_look(colour, item.shape)
        spans = [span for t in tracks if (span := t.colour_span(colour)) is not None]
    elif kind == "shape":
        spans = [t.visible for t in timeline.with_shape(item.shape)]
    elif kind == "motion":
        name = rng.choice(timeline.names(track))
        slots |= {"thing": name, "a_thing": an(name), "does": MOTIONS[item.motion].does}
        spans = [track.moving]
    elif kind == "any_motion":
        slots |= {"does": MOTIONS[item.motion].does}
        spans = [t.moving for t in timeline.tracks if t.item.motion == item.motion]
    else:
        slots |= {"colour": item.changed_colour or ""}
        spans = [timeline.around(item.change_seconds)]
    return _query(rng, kind, spans, slots)


def _pick_track(timeline: Timeline, rng: random.Random, kind: str) -> Track | None:
    """A track that a query of this kind can be about."""
    tracks = timeline.tracks
    if kind == "motion":
        tracks = [t for t in tracks if timeline.names(t)]
    elif kind == "any_motion":
        directions_blurred = any(t.item.motion == "circle" for t in tracks)
        tracks = [
            t
            for t in tracks
            if t.item.motion != "still"
            and not (directions_blurred and t.item.motion in ("left", "right", "up", "down"))
        ]
    elif kind == "change":
        tracks = [t for t in timeline.only_shapes() if t.item.changes]
    return rng.choice(tracks) if tracks else None


def _scene_query(timeline: Timeline, rng: random.Random) -> GroundingQuery:
    scenes = timeline.spec.scenes
    index = rng.randrange(len(scenes))
    ordinal = ORDINALS[index]
    if index == len(scenes) - 1 and rng.random() < 0.5:
        ordinal = "last"
    slots = {"ordinal": ordinal, "number": NUMBERS[index + 1]}
    span = (scenes[index].start_seconds, scenes[index].end_seconds)
    return _query(rng, "scene", [span], slots)


def _query(
    rng: random.Random, kind: str, spans: list[Span], slots: dict[str, str]
) -> GroundingQuery:
    text = rng.choice(GROUNDING_WORDINGS[kind]).format(**slots)
    return GroundingQuery(text=text, spans=tuple(merge_spans(spans)), kind=kind)
