"""Questions about a video with answers that follow from its timeline, unambiguous by construction.

Each maker picks its referent among the tracks that the words fit alone, and its wrong choices
among things that are certainly false; it returns None where the video offers no such question.
"""

import random
from collections.abc import Callable, Sequence

from timevlm.errors import InputError
from timevlm.synth.choices import (
    colour_choices,
    count_choices,
    interval_choices,
    moment_choices,
    scene_choices,
    shape_choices,
    shuffled_choices,
)
from timevlm.synth.full.questions import make_full_questions
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.grounding import GroundingQuery, make_grounding
from timevlm.synth.items import Question
from timevlm.synth.palette import COLOURS, MOTIONS, NUMBERS, ORDINALS, SHAPES
from timevlm.synth.spec import VideoSpec
from timevlm.synth.timeline import Span, Timeline, Track
from timevlm.synth.wording import (
    FAMILIES,
    QUESTION_WORDINGS,
    an,
    at_time,
    format_seconds,
    from_to,
)
from timevlm.tasks.grounding import merge_spans

__all__ = ["GroundingQuery", "Question", "make_grounding", "make_questions"]


Maker = Callable[[Timeline, random.Random], Question | None]


def make_questions(
    spec: VideoSpec, seed: int, *, per_family: int = 2, families: Sequence[str] | None = None
) -> list[Question]:
    """Different questions about a video in mixed order, at most `per_family` of each family.

    A family gives fewer, or none, where the video has nothing unambiguous to ask. Without
    `families`, all those of the video's level are asked.

    Raises:
        InputError: a family is unknown, or the video has more scenes than there are ordinals.
    """
    if isinstance(spec, FullVideo):
        return make_full_questions(spec, seed, per_family=per_family, families=families)
    if len(spec.scenes) > len(ORDINALS):
        raise InputError(
            f"the video has {len(spec.scenes)} scenes; these questions number at most "
            f"{len(ORDINALS)}, so ask a long video with make_needle_questions"
        )
    families = FAMILIES if families is None else families
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        raise InputError(f"unknown family {unknown[0]!r}; choose among {', '.join(FAMILIES)}")
    rng = random.Random(f"questions:{spec.split}:{spec.seed}:{seed}")
    timeline = Timeline(spec)
    questions: list[Question] = []
    for family in families:
        makers = [maker for kind, maker in MAKERS.items() if kind.split(".")[0] == family]
        found: dict[tuple[str, str], Question] = {}
        for _ in range(4 * per_family):
            if len(found) == per_family:
                break
            question = rng.choice(makers)(timeline, rng)
            # The answer belongs to the key so that no two wordings of one fact stand side by side.
            if question is not None:
                found.setdefault((question.kind, question.answer), question)
        questions.extend(found.values())
    rng.shuffle(questions)
    return questions


def _question(
    rng: random.Random,
    kind: str,
    choices: tuple[str, ...] | None,
    answer: str,
    spans: Sequence[Span],
    **slots: str,
) -> Question | None:
    if choices is None:
        return None
    return Question(
        family=kind.split(".")[0],
        kind=kind,
        text=rng.choice(QUESTION_WORDINGS[kind]).format(**slots),
        answer=answer,
        choices=choices,
        answer_spans=tuple(merge_spans(spans)),
    )


def _pick(rng: random.Random, tracks: Sequence[Track]) -> Track | None:
    return rng.choice(tracks) if tracks else None


def _colour_of_shape(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, [t for t in timeline.only_shapes() if not t.item.changes])
    if track is None:
        return None
    item = track.item
    choices = colour_choices(timeline, rng, item.colour)
    return _question(
        rng, "colour.of_shape", choices, item.colour, [track.visible], shape=item.shape
    )


def _colour_around_change(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, [t for t in timeline.only_shapes() if t.item.changes])
    if track is None:
        return None
    item = track.item
    before, after = item.colours
    kind, answer, other = rng.choice((("before", before, after), ("after", after, before)))
    choices = colour_choices(timeline, rng, answer, near_miss=other)
    spans = [timeline.around(item.change_seconds), track.colour_span(answer)]
    return _question(rng, f"colour.{kind}", choices, answer, spans, shape=item.shape)


def _colour_of_motion(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, [t for t in timeline.only_motions() if not t.item.changes])
    if track is None:
        return None
    item = track.item
    choices = colour_choices(timeline, rng, item.colour)
    does = MOTIONS[item.motion].does
    return _question(rng, "colour.of_motion", choices, item.colour, [track.moving], does=does)


def _shape_of_colour(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, timeline.only_colours())
    if track is None:
        return None
    item = track.item
    choices = shape_choices(timeline, rng, item.shape)
    return _question(
        rng, "shape.of_colour", choices, item.shape, [track.visible], colour=item.colour
    )


def _shape_of_motion(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, timeline.only_motions())
    if track is None:
        return None
    item = track.item
    choices = shape_choices(timeline, rng, item.shape)
    does = MOTIONS[item.motion].does
    return _question(rng, "shape.of_motion", choices, item.shape, [track.moving], does=does)


def _shape_of_change(timeline: Timeline, rng: random.Random) -> Question | None:
    changing = [t for t in timeline.tracks if t.item.changes]
    if len(changing) != 1:
        return None
    item = changing[0].item
    choices = shape_choices(timeline, rng, item.shape)
    spans = [timeline.around(item.change_seconds)]
    return _question(rng, "shape.of_change", choices, item.shape, spans)


def _motion_of_object(timeline: Timeline, rng: random.Random) -> Question | None:
    named = [t for t in timeline.tracks if not t.item.changes and timeline.names(t)]
    if not named:
        return None
    # A motion first: resting objects are the most common, and "stays still" is the hardest to
    # offer as a wrong answer, so that guessing it would pay.
    motion = rng.choice(sorted({t.item.motion for t in named}))
    if motion == "still" and rng.random() < 0.5:
        return None
    track = rng.choice([t for t in named if t.item.motion == motion])
    answer = MOTIONS[track.item.motion].does
    wrong = [MOTIONS[motion].does for motion in timeline.wrong_motions(track)]
    choices = shuffled_choices(rng, answer, rng.sample(wrong, 3))
    name = rng.choice(timeline.names(track))
    return _question(rng, "motion.of_object", choices, answer, [track.moving], thing=name)


def _order_of_two(timeline: Timeline, rng: random.Random) -> Question | None:
    named = [t for t in timeline.tracks if timeline.names(t)]
    pairs = [(a, b) for a in named for b in named if b.visible[0] - a.visible[0] >= 2.0]
    if not pairs:
        return None
    pair = rng.choice(pairs)
    names = [rng.choice(timeline.names(track)) for track in pair]
    kind, answer = rng.choice((("first", names[0]), ("last", names[1])))
    spans = [track.visible for track in pair]
    rng.shuffle(names)
    choices = shuffled_choices(
        rng, f"the {answer}", [f"the {name}" for name in names if name != answer]
    )
    return _question(rng, f"order.{kind}", choices, f"the {answer}", spans, a=names[0], b=names[1])


def _order_of_scenes(timeline: Timeline, rng: random.Random) -> Question | None:
    scenes = timeline.spec.scenes
    kind, step = rng.choice((("after", 1), ("before", -1)))
    tracks = [
        t
        for t in timeline.tracks
        if timeline.names(t)
        and 0 <= t.scene_index + step < len(scenes)
        and not any(item.changes for item in scenes[t.scene_index + step].objects)
    ]
    track = _pick(rng, tracks)
    if track is None:
        return None
    scene = scenes[track.scene_index + step]
    looks = [(item.colour, item.shape) for item in scene.objects]
    answer, choices = scene_choices(timeline, rng, looks)
    spans = [track.visible, (scene.start_seconds, scene.end_seconds)]
    name = rng.choice(timeline.names(track))
    return _question(rng, f"order.{kind}", choices, answer, spans, thing=name)


def _count_scenes(timeline: Timeline, rng: random.Random) -> Question | None:
    count = len(timeline.spec.scenes)
    choices = count_choices(rng, count, range(2, len(NUMBERS)))
    spans = [(0.0, timeline.spec.duration_seconds)]
    return _question(rng, "count.scenes", choices, NUMBERS[count], spans)


def _count_objects(timeline: Timeline, rng: random.Random) -> Question | None:
    scenes = timeline.spec.scenes
    # A count first, then a scene that has it: rarer counts are asked as often as common ones.
    count = rng.choice(sorted({len(scene.objects) for scene in scenes}))
    index = rng.choice([i for i, scene in enumerate(scenes) if len(scene.objects) == count])
    choices = count_choices(rng, count, range(1, 5))
    spans = [(scenes[index].start_seconds, scenes[index].end_seconds)]
    ordinal = _ordinal(rng, index, len(scenes))
    return _question(rng, "count.objects", choices, NUMBERS[count], spans, ordinal=ordinal)


def _count_scenes_with_shape(timeline: Timeline, rng: random.Random) -> Question | None:
    counts = {s: len({t.scene_index for t in timeline.with_shape(s)}) for s in SHAPES}
    count = rng.choice(sorted(set(counts.values())))
    if count > 3:
        return None
    shape = rng.choice([s for s in SHAPES if counts[s] == count])
    tracks = timeline.with_shape(shape)
    spans = [track.visible for track in tracks] or [(0.0, timeline.spec.duration_seconds)]
    choices = count_choices(rng, count, range(4))
    return _question(rng, "count.scenes_with_shape", choices, NUMBERS[count], spans, shape=shape)


def _when_appear(timeline: Timeline, rng: random.Random) -> Question | None:
    return _when_moment(timeline, rng, "when.appear", 0, 0.0)


def _when_vanish(timeline: Timeline, rng: random.Random) -> Question | None:
    return _when_moment(timeline, rng, "when.vanish", 1, timeline.spec.duration_seconds)


def _when_moment(
    timeline: Timeline, rng: random.Random, kind: str, side: int, video_end: float
) -> Question | None:
    """A question on an object's start (side 0) or end (1), unless that is an end of the video."""
    named = [t for t in timeline.tracks if timeline.names(t) and t.visible[side] != video_end]
    # Blinking objects come and go many times.
    track = _pick(rng, [t for t in named if t.item.motion != "blink"])
    if track is None:
        return None
    moment = track.visible[side]
    choices = moment_choices(timeline, rng, moment)
    name = rng.choice(timeline.names(track))
    return _question(rng, kind, choices, at_time(moment), [timeline.around(moment)], thing=name)


def _when_visible(timeline: Timeline, rng: random.Random) -> Question | None:
    named = [t for t in timeline.tracks if timeline.names(t) and t.item.motion != "blink"]
    track = _pick(rng, named)
    if track is None:
        return None
    choices = interval_choices(timeline, rng, track.visible)
    name = rng.choice(timeline.names(track))
    answer = from_to(*track.visible)
    return _question(rng, "when.visible", choices, answer, [track.visible], thing=name)


def _when_motion(timeline: Timeline, rng: random.Random) -> Question | None:
    named = [t for t in timeline.tracks if timeline.names(t)]
    track = _pick(rng, [t for t in named if t.item.motion not in ("still", "blink")])
    if track is None:
        return None
    choices = interval_choices(timeline, rng, track.moving)
    name, do = rng.choice(timeline.names(track)), MOTIONS[track.item.motion].do
    answer = from_to(*track.moving)
    return _question(rng, "when.motion", choices, answer, [track.moving], thing=name, do=do)


def _when_change(timeline: Timeline, rng: random.Random) -> Question | None:
    track = _pick(rng, [t for t in timeline.only_shapes() if t.item.changes])
    if track is None:
        return None
    item = track.item
    choices = moment_choices(timeline, rng, item.change_seconds)
    return _question(
        rng,
        "when.change",
        choices,
        at_time(item.change_seconds),
        [timeline.around(item.change_seconds)],
        shape=item.shape,
        colour=item.changed_colour,
    )


def _when_scene(timeline: Timeline, rng: random.Random) -> Question | None:
    scenes = timeline.spec.scenes
    if len(scenes) < 2:
        return None
    index = rng.randrange(1, len(scenes))
    start = scenes[index].start_seconds
    choices = moment_choices(timeline, rng, start)
    ordinal = _ordinal(rng, index, len(scenes))
    spans = [timeline.around(start)]
    return _question(rng, "when.scene", choices, at_time(start), spans, ordinal=ordinal)


def _exist_object(timeline: Timeline, rng: random.Random) -> Question | None:
    """Half of the questions name a shape alone, half a colour and shape; half of each is there."""
    present = rng.random() < 0.5
    if rng.random() < 0.5:
        shown = {t.item.shape for t in timeline.tracks}
        shapes = sorted(shown) if present else [s for s in SHAPES if s not in shown]
        if not shapes:
            return None
        shape = rng.choice(shapes)
        spans = [t.visible for t in timeline.with_shape(shape)]
        return _yes_no(timeline, rng, "exist.object", present, spans, an_object=an(shape))
    looks = timeline.looks()
    if present:
        colour, shape = rng.choice(sorted(looks))
    else:
        # Both words from the video where possible: no single word may give the "no" away.
        shapes, colours = sorted({s for _, s in looks}), sorted({c for c, _ in looks})
        absent = [(c, s) for c in colours for s in shapes if (c, s) not in looks]
        if not absent or rng.random() < 0.3:
            absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in looks]
        colour, shape = rng.choice(absent)
    tracks = timeline.with_look(colour, shape)
    spans = [span for t in tracks if (span := t.colour_span(colour)) is not None]
    name = an(f"{colour} {shape}")
    return _yes_no(timeline, rng, "exist.object", present, spans, an_object=name)


def _exist_motion(timeline: Timeline, rng: random.Random) -> Question | None:
    present = rng.random() < 0.5
    done = sorted({t.item.motion for t in timeline.tracks} - {"still"})
    never = [
        motion
        for motion in MOTIONS
        if motion != "still" and not any(timeline.may_do(t, motion) for t in timeline.tracks)
    ]
    motions = done if present else never
    if not motions:
        return None
    motion = rng.choice(motions)
    spans = [t.moving for t in timeline.tracks if t.item.motion == motion]
    words = MOTIONS[motion]
    return _yes_no(timeline, rng, "exist.motion", present, spans, do=words.do, does=words.does)


def _exist_change(timeline: Timeline, rng: random.Random) -> Question | None:
    times = [t.item.change_seconds for t in timeline.tracks if t.item.change_seconds is not None]
    spans = [timeline.around(seconds) for seconds in times]
    # Four videos in seven have a change; passing over a quarter of them makes both answers as
    # likely, however often a caller tries.
    if spans and timeline.spec.seed % 4 == 0:
        return None
    return _yes_no(timeline, rng, "exist.change", bool(spans), spans)


def _yes_no(
    timeline: Timeline,
    rng: random.Random,
    kind: str,
    present: bool,
    spans: Sequence[Span],
    **slots: str,
) -> Question | None:
    answer, wrong = ("yes", "no") if present else ("no", "yes")
    if not present:
        spans = [(0.0, timeline.spec.duration_seconds)]
    return _question(rng, kind, shuffled_choices(rng, answer, [wrong]), answer, spans, **slots)


def _scene_nth(timeline: Timeline, rng: random.Random) -> Question | None:
    scenes = timeline.spec.scenes
    indices = [i for i, s in enumerate(scenes) if not any(item.changes for item in s.objects)]
    if not indices:
        return None
    index = rng.choice(indices)
    scene = scenes[index]
    looks = [(item.colour, item.shape) for item in scene.objects]
    answer, choices = scene_choices(timeline, rng, looks)
    spans = [(scene.start_seconds, scene.end_seconds)]
    ordinal = _ordinal(rng, index, len(scenes))
    return _question(rng, "scene.nth", choices, answer, spans, ordinal=ordinal)


def _scene_at(timeline: Timeline, rng: random.Random) -> Question | None:
    """What is seen at a half or whole second that lies at least half a second from every event."""
    events = [0.0, *timeline.event_seconds(), timeline.spec.duration_seconds]
    halves = [i / 2 for i in range(int(timeline.spec.duration_seconds * 2))]
    quiet = [s for s in halves if all(abs(s - event) >= 0.5 for event in events)]
    if not quiet:
        return None
    seconds = rng.choice(quiet)
    seen = [t for t in timeline.tracks if t.visible[0] <= seconds < t.visible[1]]
    if not seen or any(t.item.motion == "blink" for t in seen):
        return None
    looks = [(t.item.colour_at(seconds), t.item.shape) for t in seen]
    answer, choices = scene_choices(timeline, rng, looks)
    spans = [timeline.around(seconds)]
    return _question(rng, "scene.at", choices, answer, spans, time=format_seconds(seconds))


def _ordinal(rng: random.Random, index: int, num_scenes: int) -> str:
    if index == num_scenes - 1 and (index >= 3 or rng.random() < 0.5):
        return "last"
    return ORDINALS[index]


# Where one maker gives two kinds, it stands under the first of them.
MAKERS: dict[str, Maker] = {
    "colour.of_shape": _colour_of_shape,
    "colour.before": _colour_around_change,
    "colour.of_motion": _colour_of_motion,
    "shape.of_colour": _shape_of_colour,
    "shape.of_motion": _shape_of_motion,
    "shape.of_change": _shape_of_change,
    "motion.of_object": _motion_of_object,
    "order.first": _order_of_two,
    "order.after": _order_of_scenes,
    "count.scenes": _count_scenes,
    "count.objects": _count_objects,
    "count.scenes_with_shape": _count_scenes_with_shape,
    "when.appear": _when_appear,
    "when.vanish": _when_vanish,
    "when.visible": _when_visible,
    "when.motion": _when_motion,
    "when.change": _when_change,
    "when.scene": _when_scene,
    "exist.object": _exist_object,
    "exist.motion": _exist_motion,
    "exist.change": _exist_change,
    "scene.nth": _scene_nth,
    "scene.at": _scene_at,
}
