"""Makers of questions about single objects and pairs: looks, motion, speed, relations."""

import math

from timevlm.synth.full.asking import Asker, Maker, shared_span, travels
from timevlm.synth.full.motion import place_at
from timevlm.synth.full.palette import COLOURS, MOTIONS, PATTERNS
from timevlm.synth.full.spec import FullObject
from timevlm.synth.full.wording import NOT_IN_VIDEO, WHERE
from timevlm.synth.items import Question
from timevlm.synth.palette import SHAPES, SIZES
from timevlm.synth.timeline import Track

_TIMES = 9  # at which a relation is checked
_MIN_WAY = 0.18
_MIN_SLOPE = 1.8
_MIN_SIZE_RATIO = 1.3
_MIN_SPEED_RATIO = 1.5


def _absent_shape(asker: Asker) -> str | None:
    shown = {t.item.shape for t in asker.timeline.tracks}
    absent = [shape for shape in SHAPES if shape not in shown]
    return asker.rng.choice(absent) if absent else None


def _colour_of_shape(asker: Asker) -> Question | None:
    seen = {colour for colour, _ in asker.timeline.looks()}
    if asker.absent() and (shape := _absent_shape(asker)) is not None:
        choices = asker.words(NOT_IN_VIDEO, seen, COLOURS)
        return asker.ask("colour.of_shape", NOT_IN_VIDEO, choices, asker.whole, shape=shape)
    track = asker.pick([t for t in asker.timeline.only_shapes() if not t.item.changes])
    if track is None:
        return None
    item = track.item
    choices = asker.words(item.colour, seen, COLOURS)
    return asker.ask("colour.of_shape", item.colour, choices, [track.visible], shape=item.shape)


def _colour_around_change(asker: Asker) -> Question | None:
    track = asker.pick([t for t in asker.timeline.only_shapes() if t.item.changes])
    if track is None:
        return None
    before, after = track.item.colours
    kind, answer, other = asker.rng.choice((("before", before, after), ("after", after, before)))
    rest = [colour for colour in COLOURS if colour not in (before, after)]
    choices = asker.shuffled(answer, [other, *asker.rng.sample(rest, 2)])
    spans = [asker.timeline.around(track.item.change_seconds), track.colour_span(answer)]
    return asker.ask(f"colour.{kind}", answer, choices, spans, shape=track.item.shape)


def _doer(asker: Asker) -> Track | None:
    """A track that alone does its motion; resting ones are too many to be meant."""
    return asker.pick([t for t in asker.timeline.only_motions() if t.item.motion != "still"])


def _idle_motion(asker: Asker) -> str | None:
    """A motion that nothing in the video does."""
    timeline = asker.timeline
    idle = [
        motion
        for motion in MOTIONS
        if motion != "still" and not any(timeline.may_do(t, motion) for t in timeline.tracks)
    ]
    return asker.rng.choice(idle) if idle else None


def _of_motion(asker: Asker, kind: str) -> Question | None:
    by_colour = kind == "colour.of_motion"
    allowed = COLOURS if by_colour else SHAPES
    seen = {look[0 if by_colour else 1] for look in asker.timeline.looks()}
    if asker.absent() and (motion := _idle_motion(asker)) is not None:
        answer, spans = NOT_IN_VIDEO, asker.whole
    else:
        track = _doer(asker)
        if track is None or (by_colour and track.item.changes):
            return None
        motion, spans = track.item.motion, [track.moving]
        answer = track.item.colour if by_colour else track.item.shape
    words = MOTIONS[motion]
    choices = asker.words(answer, seen, allowed)
    return asker.ask(kind, answer, choices, spans, does=words.does, doing=words.doing)


def _colour_of_motion(asker: Asker) -> Question | None:
    return _of_motion(asker, "colour.of_motion")


def _shape_of_motion(asker: Asker) -> Question | None:
    return _of_motion(asker, "shape.of_motion")


def _shape_of_colour(asker: Asker) -> Question | None:
    seen = {shape for _, shape in asker.timeline.looks()}
    shown = {colour for colour, _ in asker.timeline.looks()}
    absent = [colour for colour in COLOURS if colour not in shown]
    if asker.absent() and absent:
        choices = asker.words(NOT_IN_VIDEO, seen, SHAPES)
        colour = asker.rng.choice(absent)
        return asker.ask("shape.of_colour", NOT_IN_VIDEO, choices, asker.whole, colour=colour)
    track = asker.pick(asker.timeline.only_colours())
    if track is None:
        return None
    item = track.item
    choices = asker.words(item.shape, seen, SHAPES)
    return asker.ask("shape.of_colour", item.shape, choices, [track.visible], colour=item.colour)


def _shape_of_change(asker: Asker) -> Question | None:
    changing = [t for t in asker.timeline.tracks if t.item.changes]
    if len(changing) != 1:
        return None
    item = changing[0].item
    choices = asker.words(item.shape, {s for _, s in asker.timeline.looks()}, SHAPES)
    spans = [asker.timeline.around(item.change_seconds)]
    return asker.ask("shape.of_change", item.shape, choices, spans)


def _shape_of_pattern(asker: Asker) -> Question | None:
    worn = [t.item.pattern for t in asker.timeline.tracks]
    once = [t for t in asker.timeline.tracks if worn.count(t.item.pattern) == 1]
    track = asker.pick([t for t in once if t.item.pattern != "plain"])
    if track is None:
        return None
    item = track.item
    choices = asker.words(item.shape, {s for _, s in asker.timeline.looks()}, SHAPES)
    return asker.ask("shape.of_pattern", item.shape, choices, [track.visible], pattern=item.pattern)


def _size_of_object(asker: Asker) -> Question | None:
    choices = asker.shuffled(NOT_IN_VIDEO, SIZES)
    # All four choices are always offered, so a quarter of the answers may be this one.
    if asker.rng.random() < 0.2:
        name = asker.absent_look()
        return asker.ask("size.of_object", NOT_IN_VIDEO, choices, asker.whole, thing=name)
    # A camera that zooms and an object that grows leave no one size to name.
    tracks = [
        t for t in asker.named() if t.item.motion not in ("grow", "shrink") and not _zooms(asker, t)
    ]
    if not tracks:
        return None
    size = asker.rng.choice(sorted({t.item.size for t in tracks}))
    track = asker.rng.choice([t for t in tracks if t.item.size == size])
    return asker.ask("size.of_object", size, choices, [track.visible], thing=asker.name(track))


def _zooms(asker: Asker, track: Track) -> bool:
    camera = asker.timeline.scenes[track.scene_index].camera
    return camera is not None and camera.kind.startswith("zoom")


def _pattern_of_object(asker: Asker) -> Question | None:
    if asker.rarely("no pattern", 0.3) and asker.absent():
        choices = asker.shuffled(NOT_IN_VIDEO, asker.rng.sample(PATTERNS, 3))
        name = asker.absent_look()
        return asker.ask("pattern.of_object", NOT_IN_VIDEO, choices, asker.whole, thing=name)
    named = asker.named()
    if not named:
        return None
    # A pattern first: plain objects are the most common.
    pattern = asker.rng.choice(sorted({t.item.pattern for t in named}))
    if pattern == "plain" and not asker.rarely("plain", 0.4):
        return None
    track = asker.rng.choice([t for t in named if t.item.pattern == pattern])
    wrong = [other for other in PATTERNS if other != pattern]
    asker.rng.shuffle(wrong)
    choices = asker.shuffled(pattern, wrong, decoy=True)
    name = asker.name(track)
    return asker.ask("pattern.of_object", pattern, choices, [track.visible], thing=name)


def _motion_of_object(asker: Asker) -> Question | None:
    if asker.absent():
        wrong = [MOTIONS[m].does for m in asker.rng.sample(list(MOTIONS), 3)]
        choices = asker.shuffled(NOT_IN_VIDEO, wrong)
        name = asker.absent_look()
        return asker.ask("motion.of_object", NOT_IN_VIDEO, choices, asker.whole, thing=name)
    # What rests under a moving camera seems to move.
    named = [
        t
        for t in asker.named()
        if not (t.item.motion == "still" and asker.timeline.camera_moves(t))
    ]
    if not named:
        return None
    motion = asker.rng.choice(sorted({t.item.motion for t in named}))
    if motion == "still" and asker.rng.random() < 0.5:
        return None
    track = asker.rng.choice([t for t in named if t.item.motion == motion])
    wrong = [MOTIONS[other].does for other in asker.timeline.wrong_motions(track)]
    asker.rng.shuffle(wrong)
    if len(wrong) < 3:
        return None
    answer = MOTIONS[motion].does
    choices = asker.shuffled(answer, wrong, decoy=True)
    name = asker.name(track)
    return asker.ask("motion.of_object", answer, choices, [track.moving], thing=name)


def _motion_which(asker: Asker) -> Question | None:
    track = _doer(asker)
    if track is None or not asker.timeline.names(track):
        return None
    words, name = MOTIONS[track.item.motion], asker.timeline.names(track)[0]
    others = [t for t in asker.timeline.tracks if t is not track]
    choices = asker.names_for(name, others)
    slots = {"does": words.does, "doing": words.doing}
    return asker.ask("motion.which", f"the {name}", choices, [track.moving], **slots)


def speed(item: FullObject) -> float:
    """Mean speed of an object while it travels, in frame sides a second."""
    seconds = item.motion_end_seconds - item.motion_start_seconds
    (x0, y0), (x1, y1) = item.start_xy, item.end_xy
    way = math.hypot(x1 - x0, y1 - y0)
    way += 2.0 * math.pi * item.orbit_radius * abs(item.orbit_turns)
    way += 2.0 * item.bounce_height * item.num_bounces
    return way / seconds


def _speed_pair(asker: Asker) -> Question | None:
    movers = [t for t in asker.named() if travels(t) and t.item.motion != "bounce"]
    pairs = [
        (a, b) for a in movers for b in movers if speed(a.item) >= _MIN_SPEED_RATIO * speed(b.item)
    ]
    if not pairs:
        return None
    pair = asker.rng.choice(pairs)
    names = [asker.name(t) for t in pair]
    kind, answer = asker.rng.choice((("speed.pair", names[0]), ("speed.slower", names[1])))
    return _of_two(asker, kind, answer, names, [t.moving for t in pair])


def _of_two(
    asker: Asker, kind: str, answer: str, names: list[str], spans: list[tuple[float, float]]
) -> Question | None:
    """A question that offers the two names it speaks of."""
    asker.rng.shuffle(names)
    choices = [f"the {name}" for name in names]
    return asker.ask(kind, f"the {answer}", choices, spans, a=names[0], b=names[1])


def _speed_fastest(asker: Asker) -> Question | None:
    movers = sorted((t for t in asker.timeline.tracks if travels(t)), key=lambda t: speed(t.item))
    if len(movers) < 2 or speed(movers[-1].item) < 1.35 * speed(movers[-2].item):
        return None
    track = movers[-1]
    if not asker.timeline.names(track):
        return None
    name = asker.timeline.names(track)[0]
    choices = asker.names_for(name, movers[:-1])
    spans = [t.moving for t in movers]
    return asker.ask("speed.fastest", f"the {name}", choices, spans)


def side_of(one: Track, other: Track) -> str | None:
    """Where one object lies from another all the while that both are seen; None if it varies."""
    span = shared_span(one, other)
    if span is None:
        return None
    sides = set()
    for i in range(_TIMES):
        seconds = span[0] + (span[1] - span[0]) * i / (_TIMES - 1) * 0.999
        x, y, _ = place_at(one.item, seconds)
        other_x, other_y, _ = place_at(other.item, seconds)
        dx, dy = x - other_x, y - other_y
        if abs(dx) >= max(_MIN_WAY, _MIN_SLOPE * abs(dy)):
            sides.add(WHERE[0 if dx < 0 else 1])
        elif abs(dy) >= max(_MIN_WAY, _MIN_SLOPE * abs(dx)):
            sides.add(WHERE[2 if dy < 0 else 3])
        else:
            sides.add("")
    return sides.pop() if len(sides) == 1 and "" not in sides else None


def _scene_pairs(asker: Asker) -> list[tuple[Track, Track]]:
    named = asker.named()
    return [
        (a, b)
        for a in named
        for b in named
        if a is not b and a.scene_index == b.scene_index and shared_span(a, b) is not None
    ]


def _relation_where(asker: Asker) -> Question | None:
    pairs = [(a, b, side) for a, b in _scene_pairs(asker) if (side := side_of(a, b))]
    if not pairs:
        return None
    one, other, side = asker.rng.choice(pairs)
    choices = asker.shuffled(side, [word for word in WHERE if word != side])
    names = {"a": asker.name(one), "b": asker.name(other)}
    return asker.ask("relation.where", side, choices, [shared_span(one, other)], **names)


def is_bigger(one: Track, other: Track) -> bool:
    """Whether an object is clearly bigger than another all the while that both are seen."""
    span = shared_span(one, other)
    if span is None:
        return False
    # Sizes change evenly, so the ends decide; each object rests outside of its motion.
    moments = {*span, *(t for t in (*one.moving, *other.moving) if span[0] <= t <= span[1])}
    sizes = [(place_at(one.item, t)[2], place_at(other.item, t)[2]) for t in moments]
    return all(a >= _MIN_SIZE_RATIO * b for a, b in sizes)


def _relation_size(asker: Asker) -> Question | None:
    pairs = [(a, b) for a, b in _scene_pairs(asker) if is_bigger(a, b)]
    if not pairs:
        return None
    pair = asker.rng.choice(pairs)
    names = [asker.name(t) for t in pair]
    kind, answer = asker.rng.choice((("bigger", names[0]), ("smaller", names[1])))
    return _of_two(asker, f"relation.{kind}", answer, names, [shared_span(*pair)])


def _relation_meeting(asker: Asker) -> Question | None:
    timeline = asker.timeline
    found = []
    for index, scene in enumerate(timeline.scenes):
        if scene.pair is not None:
            actor = timeline.track_of(index, scene.pair.actor)
            target = timeline.track_of(index, scene.pair.target)
            if timeline.names(actor) and timeline.names(target):
                found.append((scene.pair, actor, target))
    if not found:
        return None
    pair, actor, target = asker.rng.choice(found)
    kind = "relation.collides"
    if pair.kind == "overtakes":
        kind = asker.rng.choice(("relation.overtakes", "relation.overtaken"))
    swap = kind == "relation.overtaken" or (
        kind == "relation.collides" and asker.rng.random() < 0.5
    )
    subject, answer = (target, actor) if swap else (actor, target)
    name = timeline.names(answer)[0]
    others = [t for t in timeline.tracks if t is not subject and t is not answer]
    choices = asker.names_for(name, others)
    spans = [timeline.around(pair.moment_seconds)]
    return asker.ask(kind, f"the {name}", choices, spans, thing=asker.name(subject))


MAKERS: dict[str, tuple[Maker, ...]] = {
    "colour": (_colour_of_shape, _colour_around_change, _colour_of_motion),
    "shape": (_shape_of_colour, _shape_of_motion, _shape_of_change, _shape_of_pattern),
    "size": (_size_of_object,),
    "pattern": (_pattern_of_object,),
    "motion": (_motion_of_object, _motion_of_object, _motion_which),
    "speed": (_speed_pair, _speed_fastest),
    "relation": (_relation_where, _relation_size, _relation_meeting, _relation_meeting),
}
