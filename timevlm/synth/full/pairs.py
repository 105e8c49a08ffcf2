"""Two objects that meet: one overtakes the other, or both run into each other and stop."""

import random

from timevlm.synth.draws import sample_time
from timevlm.synth.full.objects import Stage, dress
from timevlm.synth.full.spec import FullObject, PairEvent
from timevlm.synth.palette import SIZES

Pair = tuple[tuple[FullObject, FullObject], PairEvent]

# Motions along an axis: (towards lower, towards higher) coordinates.
_ALONG = {0: ("left", "right"), 1: ("up", "down")}
_REST_TENTHS = 20  # after a collision both rest, long enough to be seen


def sample_pair(rng: random.Random, stage: Stage) -> Pair | None:
    """Two objects and the moment at which they meet; None if the scene has no room or time."""
    # Collisions find room less often.
    maker = rng.choices((_overtaking, _colliding), weights=(2, 3))[0]
    return maker(rng, stage, rng.choice((0, 1)))


def _overtaking(rng: random.Random, stage: Stage, axis: int) -> Pair | None:
    sign = rng.choice((-1, 1))
    motion = _ALONG[axis][sign > 0]
    sizes = [rng.choice(("small", "medium")) for _ in range(2)]
    radii = [rng.uniform(*SIZES[size]) for size in sizes]
    low, high = _lane_room(stage, axis, max(radii))
    across_low, across_high = _lane_room(stage, 1 - axis, max(radii))
    apart = 1.12 * sum(radii) + 0.02
    lead, slow = rng.uniform(0.16, 0.24), rng.uniform(0.18, 0.26)
    fast = slow + lead + rng.uniform(0.16, 0.22)
    window = _window(rng, stage, 40, 0)
    if high - low < fast or across_high - across_low < apart or window is None:
        return None
    begin = low + rng.random() * (high - low - fast)
    lane = across_low + rng.random() * (across_high - across_low - apart)
    lanes = [lane, lane + apart]
    rng.shuffle(lanes)
    ways = ((begin, begin + fast), (begin + lead, begin + lead + slow))
    if sign < 0:
        ways = tuple((low + high - a, low + high - b) for a, b in ways)
    start, end = window
    # Both move evenly: the lead is used up after this share of the way.
    moment = round((start + (end - start) * lead / (fast - slow)) / 10, 1)
    items = _make(
        rng,
        stage,
        (motion, motion),
        sizes,
        [_path(axis, *x) for x in zip(ways, lanes, radii, strict=True)],
    )
    return _with_event(items, window, stage, ("overtakes", moment))


def _colliding(rng: random.Random, stage: Stage, axis: int) -> Pair | None:
    sizes = [rng.choice(("small", "medium")) for _ in range(2)]
    radii = [rng.uniform(*SIZES[size]) for size in sizes]
    low, high = _lane_room(stage, axis, max(radii))
    across_low, across_high = _lane_room(stage, 1 - axis, max(radii))
    touching = 0.9 * sum(radii)
    ways_long = [rng.uniform(0.16, 0.25), rng.uniform(0.16, 0.25)]
    room = sum(ways_long) + touching
    window = _window(rng, stage, 30, _REST_TENTHS)
    if high - low < room or across_high < across_low or window is None:
        return None
    first = low + rng.random() * (high - low - room)
    meet = first + ways_long[0]
    lane = across_low + rng.random() * (across_high - across_low)
    ways = ((first, meet), (first + room, meet + touching))
    items = _make(
        rng,
        stage,
        _ALONG[axis][::-1],
        sizes,
        [_path(axis, w, lane, r) for w, r in zip(ways, radii, strict=True)],
    )
    return _with_event(items, window, stage, ("collides", window[1] / 10))


def _lane_room(stage: Stage, axis: int, radius: float) -> tuple[float, float]:
    return stage.box[axis] + 1.08 * radius, stage.box[axis + 2] - 1.08 * radius


def _window(rng: random.Random, stage: Stage, least: int, rest: int) -> tuple[int, int] | None:
    low, high = stage.quiet[0], min(stage.quiet[1], stage.motion_end) - rest
    if high - low < least:
        return None
    start = sample_time(rng, low, high - least)
    return start, sample_time(rng, start + least, high)


def _path(
    axis: int, way: tuple[float, float], lane: float, radius: float
) -> dict[str, tuple[float, float] | float]:
    points = [(along, lane) if axis == 0 else (lane, along) for along in way]
    start, end = ((round(x, 4), round(y, 4)) for x, y in points)
    return {
        "start_xy": start,
        "end_xy": end,
        "start_radius": round(radius, 4),
        "end_radius": round(radius, 4),
    }


def _make(
    rng: random.Random,
    stage: Stage,
    motions: tuple[str, str],
    sizes: list[str],
    paths: list[dict[str, object]],
) -> list[dict[str, object]] | None:
    """Fields of both objects but their times; None if no two different looks may move so."""
    looks = [rng.choice(found) for m in motions if (found := stage.looks_for(m))]
    if len(looks) < 2 or looks[0][0] == looks[1][0] or looks[0][1] == looks[1][1]:
        return None
    return [
        {**dress(rng, look, size), "motion": motion, **path}
        for look, size, motion, path in zip(looks, sizes, motions, paths, strict=True)
    ]


def _with_event(
    items: list[dict[str, object]] | None,
    window: tuple[int, int],
    stage: Stage,
    event: tuple[str, float],
) -> Pair | None:
    if items is None:
        return None
    times = {
        "motion_start_seconds": window[0] / 10,
        "motion_end_seconds": window[1] / 10,
        "appear_seconds": stage.whole[0] / 10,
        "vanish_seconds": stage.whole[1] / 10,
    }
    kind, moment = event
    first, second = (FullObject(**item, **times) for item in items)
    return (first, second), PairEvent(kind=kind, actor=0, target=1, moment_seconds=moment)
