"""Long, mostly empty videos: quiet rooms in which, now and then, something happens for seconds.

The world's other videos are busy from end to end; a guard's camera is not. Here a camera looks at
an empty room for minutes, then a thing comes, does something for 3 to 10 s, and is gone. Cuts to
other rooms and small changes of light are no events. Every event shows one object whose shape no
other event has, so that questions about it are unambiguous. Levels and splits are those of the
basic world.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

from timevlm.errors import InputError
from timevlm.synth.draws import sample_time
from timevlm.synth.items import GroundingQuery, Question
from timevlm.synth.long import make_needle_questions
from timevlm.synth.palette import MOTIONS, SHAPES
from timevlm.synth.spec import SceneSpec, VideoSpec
from timevlm.synth.timeline import Span, Timeline
from timevlm.synth.wording import GROUNDING_WORDINGS, an
from timevlm.synth.world import check_source, sample_basic_scene

SPARSE_VERSION = 1
MAX_EVENTS = len(SHAPES)
_EVENT_TENTHS = (30, 100)
_ROOM_TENTHS = (600, 4800)  # between cuts from room to room
_LIGHT_TENTHS = (300, 1800)  # between changes of light
_GAP_TENTHS = 80  # quiet that is at least before, between and after events


def sample_sparse_video(
    seed: int, num_seconds: int, *, num_events: int = 6, split: str = "test"
) -> VideoSpec:
    """A video of exactly `num_seconds` with `num_events` events of 3 to 10 s at random places.

    Raises:
        InputError: the split is unknown, the events do not fit, or there are not 1 to 8.
    """
    check_source(seed, split, "basic")
    if not 1 <= num_events <= MAX_EVENTS:
        raise InputError(f"{num_events} events: choose 1 to {MAX_EVENTS}, a shape each")
    needed = num_events * (_EVENT_TENTHS[1] + _GAP_TENTHS) + _GAP_TENTHS
    if 10 * num_seconds < needed:
        raise InputError(
            f"{num_events} events do not fit in {num_seconds} s: give at least {needed // 10} s"
        )
    rng = random.Random(f"timevlm-sparse-{SPARSE_VERSION}:{split}:{num_seconds}:{seed}")
    events = _sample_events(rng, 10 * num_seconds, num_events)
    scenes = _quiet_scenes(rng, 10 * num_seconds)
    shapes = rng.sample(SHAPES, num_events)
    for event, shape in zip(events, shapes, strict=True):
        scenes = _insert(rng, scenes, event, shape)
    return VideoSpec(
        seed=seed, split=split, duration_seconds=float(num_seconds), scenes=tuple(scenes)
    )


def event_spans(spec: VideoSpec) -> list[Span]:
    """When an object is in the picture, in time order."""
    return sorted(track.visible for track in Timeline(spec).tracks)


def make_sparse_questions(spec: VideoSpec, seed: int) -> list[Question]:
    """Questions about the events, with choices: colour, motion, time, existence and order."""
    return make_needle_questions(spec, seed)


def make_sparse_grounding(spec: VideoSpec, seed: int) -> list[GroundingQuery]:
    """A sentence per event: the object is there, or the object moves so."""
    rng = random.Random(f"sparse-grounding:{spec.split}:{spec.seed}:{seed}")
    queries = []
    for track in Timeline(spec).tracks:
        item = track.item
        kind = rng.choice(("object", "motion"))
        name = f"{item.colour} {item.shape}"
        slots = {"object": name, "an_object": an(name), "thing": name, "a_thing": an(name)}
        text = rng.choice(GROUNDING_WORDINGS[kind]).format(**slots, does=MOTIONS[item.motion].does)
        span = track.moving if kind == "motion" else track.visible
        queries.append(GroundingQuery(text=text, spans=(span,), kind=kind))
    return queries


def _sample_events(rng: random.Random, total: int, num_events: int) -> list[tuple[int, int]]:
    """Start and end (tenths) of events apart from each other: lengths, then the gaps' shares."""
    lengths = [sample_time(rng, *_EVENT_TENTHS) for _ in range(num_events)]
    free = total - sum(lengths) - _GAP_TENTHS * (num_events + 1)
    cuts = sorted(rng.randint(0, free) for _ in range(num_events))
    events, used = [], _GAP_TENTHS
    for length, cut in zip(lengths, cuts, strict=True):
        start = used + cut
        events.append((start, start + length))
        used += length + _GAP_TENTHS
    return events


def _quiet_scenes(rng: random.Random, total: int) -> list[SceneSpec]:
    """Empty rooms one after the other, their light a little different from time to time."""
    scenes: list[SceneSpec] = []
    for start, end in itertools.pairwise(_cuts(rng, total, _ROOM_TENTHS)):
        room = sample_basic_scene(rng, start, start + 100, scenes[-1] if scenes else None)
        for first, last in itertools.pairwise(_cuts(rng, end - start, _LIGHT_TENTHS)):
            brightness = round(room.brightness * rng.uniform(0.94, 1.06), 3)
            scenes.append(
                replace(
                    room,
                    start_seconds=(start + first) / 10,
                    end_seconds=(start + last) / 10,
                    brightness=brightness,
                    objects=(),
                )
            )
    return scenes


def _cuts(rng: random.Random, total: int, lengths: tuple[int, int]) -> list[int]:
    """0, then cuts that far apart, then `total`; the last piece takes what is left."""
    cuts = [0]
    while total - cuts[-1] > 2 * lengths[0]:
        cuts.append(min(cuts[-1] + rng.randint(*lengths), total - lengths[0]))
    return [*cuts, total]


def _insert(
    rng: random.Random, scenes: Sequence[SceneSpec], event: tuple[int, int], shape: str
) -> list[SceneSpec]:
    """The scenes with one object in them during the event; rooms and light stay as they are."""
    start, end = event[0] / 10, event[1] / 10
    while True:
        shown = sample_basic_scene(rng, *event, None, (shape,))
        item = shown.objects[0]
        whole = (item.appear_seconds, item.vanish_seconds) == (start, end)
        if whole and not item.changes and item.motion not in ("still", "blink"):
            break
    found: list[SceneSpec] = []
    for scene in scenes:
        if scene.end_seconds <= start or scene.start_seconds >= end:
            found.append(scene)
            continue
        if scene.start_seconds < start:
            found.append(replace(scene, end_seconds=start))
        # A cut or a change of light inside the event is put off until it is over.
        if scene.start_seconds <= start:
            found.append(replace(scene, start_seconds=start, end_seconds=end, objects=(item,)))
        if scene.end_seconds > end:
            found.append(replace(scene, start_seconds=end))
    return found
