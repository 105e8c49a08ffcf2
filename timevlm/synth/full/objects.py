"""Sampling of a scene's objects: looks that the split may show, motions that fit, no hiding."""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from timevlm.synth.draws import jittered, sample_time
from timevlm.synth.full.motion import place_at
from timevlm.synth.full.palette import (
    COLOURS,
    MOTIONS,
    PATTERNS,
    ROUND_SHAPES,
    UNPATTERNED_COLOURS,
    is_held_out,
)
from timevlm.synth.full.spec import FullObject
from timevlm.synth.palette import DIRECTIONS, SHAPES, SIZES

_TRIES = 30
_APART_TIMES = 17
# Motions that need much room are turned down often, so they are drawn more often.
_MOTION_WEIGHTS = {
    "still": 0.7,
    "blink": 0.7,
    "spin": 0.7,
    "circle": 2.2,
    "grow": 2.0,
    "shrink": 2.2,
    "diagonal": 2.4,
    "bounce": 1.3,
}

Look = tuple[str, str]  # colour, shape
Tenths = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The times (in tenths) and the room that a scene gives its objects.

    `whole` is when the scene is shown, `quiet` the part of it outside transitions; motions end by
    `motion_end`. Outlines stay inside `box` (x0, y0, x1, y1).
    """

    split: str
    whole: Tenths
    quiet: Tenths
    motion_end: int
    box: tuple[float, float, float, float]
    motions: tuple[str, ...] = tuple(MOTIONS)
    shapes: tuple[str, ...] = SHAPES

    @property
    def held_out(self) -> bool:
        """Whether the objects must have, instead of must not have, held-out looks."""
        return self.split == "compositional"

    def allows(self, look: Look, motion: str) -> bool:
        """Whether the split may show this look with this motion."""
        colour, shape = look
        if motion == "spin" and shape in ROUND_SHAPES:
            return False
        return shape in self.shapes and is_held_out(colour, shape, motion) == self.held_out

    def looks_for(self, motion: str) -> list[Look]:
        """Every look that may do this motion here."""
        return _looks_for(motion, self.shapes, self.held_out)


@functools.cache
def _looks_for(motion: str, shapes: tuple[str, ...], held_out: bool) -> list[Look]:
    return [
        (colour, shape)
        for colour in COLOURS
        for shape in shapes
        if is_held_out(colour, shape, motion) == held_out
        and not (motion == "spin" and shape in ROUND_SHAPES)
    ]


def sample_objects(
    rng: random.Random, stage: Stage, count: int, present: Sequence[FullObject] = ()
) -> tuple[FullObject, ...]:
    """Up to `count` objects in all, `present` first, that never hide each other.

    Shapes and colours mostly differ; some scenes share a few among many objects, so that counting
    pays. No two objects of a scene have the same look.
    """
    num_shapes = min(2 if rng.random() < 0.3 else count, len(stage.shapes))
    num_colours = 2 if rng.random() < 0.3 else count
    shapes = rng.sample(stage.shapes, num_shapes)
    colours = rng.sample(list(COLOURS), num_colours)
    sizes = _sizes_for(count)
    placed = list(present)
    for _ in range(_TRIES * count):
        if len(placed) >= count:
            break
        look, motion = _draw_look(rng, stage, shapes, colours)
        size = rng.choice(sizes)
        taken = {item.colour for item in placed} | {c for item in placed for c in item.colours}
        if look in {(c, item.shape) for item in placed for c in item.colours}:
            continue
        if num_colours == count and not stage.held_out and look[0] in taken:
            continue
        item = _sample_object(rng, stage, (*look, motion, size), taken)
        if item is not None and all(keep_apart(item, other, stage.whole) for other in placed):
            placed.append(item)
    return tuple(placed)


def keep_apart(item: FullObject, other: FullObject, whole: Tenths) -> bool:
    """Whether two objects never come so close that one could touch or hide the other."""
    start, end = whole[0] / 10, whole[1] / 10
    for i in range(_APART_TIMES):
        seconds = start + (end - start) * i / (_APART_TIMES - 1)
        x, y, radius = place_at(item, seconds)
        other_x, other_y, other_radius = place_at(other, seconds)
        if math.hypot(x - other_x, y - other_y) < 1.05 * (radius + other_radius):
            return False
    return True


def dress(
    rng: random.Random, look: Look, size: str, *, plain_share: float = 0.65
) -> dict[str, object]:
    """The fields of how an object looks."""
    colour, shape = look
    pattern = "plain"
    # On the smallest objects a pattern is a few pixels wide.
    patterned = size != "small" and colour not in UNPATTERNED_COLOURS
    if patterned and rng.random() >= plain_share:
        pattern = rng.choice(PATTERNS[1:])
    return {
        "shape": shape,
        "colour": colour,
        "rgb": jittered(rng, COLOURS[colour]),
        "size": size,
        "pattern": pattern,
    }


def _sizes_for(count: int) -> list[str]:
    if count <= 2:
        return list(SIZES)
    return ["small", "medium"] if count <= 4 else ["small"]


def _draw_look(
    rng: random.Random, stage: Stage, shapes: Sequence[str], colours: Sequence[str]
) -> tuple[Look, str]:
    weights = [_MOTION_WEIGHTS.get(motion, 1.0) for motion in stage.motions]
    while True:
        motion = rng.choices(stage.motions, weights)[0]
        if stage.held_out:
            looks = stage.looks_for(motion)
            if looks:
                return rng.choice(looks), motion
            continue
        look = (rng.choice(colours), rng.choice(shapes))
        if stage.allows(look, motion):
            return look, motion
        # The pool itself may allow this motion nowhere.
        if rng.random() < 0.2:
            look = (rng.choice(list(COLOURS)), rng.choice(stage.shapes))
            if stage.allows(look, motion):
                return look, motion


def _sample_object(
    rng: random.Random, stage: Stage, what: tuple[str, str, str, str], taken: set[str]
) -> FullObject | None:
    colour, shape, motion, size = what
    if (motion, size) in {("shrink", "small"), ("grow", "large")}:
        return None
    appear, vanish = _sample_visible(rng, stage, motion)
    window = _sample_window(rng, stage, motion, (appear, vanish))
    if window is None:
        return None
    start, end, counts = window
    path = _sample_path(rng, stage, motion, size, (end - start) / 10)
    if path is None:
        return None
    return FullObject(
        **dress(rng, (colour, shape), size),
        motion=motion,
        appear_seconds=appear / 10,
        vanish_seconds=vanish / 10,
        motion_start_seconds=start / 10,
        motion_end_seconds=end / 10,
        **path,
        **counts,
        **_sample_change(rng, stage, (colour, shape), motion, (appear, vanish, taken)),
    )


def _sample_visible(rng: random.Random, stage: Stage, motion: str) -> Tenths:
    start, end = stage.whole
    low, high = stage.quiet
    kind = rng.choices(("whole", "late", "early"), weights=(64, 18, 18))[0]
    if motion != "blink" and high - low >= 55:
        if kind == "late":
            return sample_time(rng, low + 15, high - 35), end
        if kind == "early":
            return start, sample_time(rng, low + 35, high - 15)
    return start, end


def _sample_window(
    rng: random.Random, stage: Stage, motion: str, visible: Tenths
) -> tuple[int, int, dict[str, int]] | None:
    """Start and end of the motion, and how often it repeats; None if there is no time for it."""
    appear, vanish = visible
    end = min(vanish, stage.motion_end)
    if motion == "still":
        return appear, vanish, {}
    # What is counted must be seen whole, outside of transitions.
    low, high = max(appear, stage.quiet[0]), min(end, stage.quiet[1])
    if motion == "blink":
        most = min(4, (high - low - 20) // 30)
        if most < 1:
            return None
        count = max(rng.randint(1, most), rng.randint(1, most))
        start = sample_time(rng, low + 10, high - 10 - 30 * count)
        return start, start + 30 * count, {"num_blinks": count}
    if motion == "bounce":
        each = rng.choice((25, 30, 40))
        most = min(5, (high - low) // each)
        if most < 1:
            return None
        count = max(rng.randint(1, most), rng.randint(1, most))
        start = sample_time(rng, low, high - each * count)
        return start, start + each * count, {"num_bounces": count}
    if end - appear < 30:
        return None
    if end - appear >= 50 and rng.random() < 0.4:
        start = sample_time(rng, appear, end - 30)
        return start, sample_time(rng, start + 30, end), {}
    return appear, end, {}


def _sample_change(
    rng: random.Random,
    stage: Stage,
    look: Look,
    motion: str,
    limits: tuple[int, int, set[str]],
) -> dict[str, object]:
    appear, vanish, taken = limits
    low, high = max(appear, stage.quiet[0]) + 20, min(vanish, stage.quiet[1]) - 20
    if motion == "blink" or high < low or rng.random() >= 0.16:
        return {}
    allowed = [
        colour
        for colour in COLOURS
        if colour not in taken and colour != look[0] and stage.allows((colour, look[1]), motion)
    ]
    if not allowed:
        return {}
    colour = rng.choice(allowed)
    return {
        "change_seconds": sample_time(rng, low, high) / 10,
        "changed_colour": colour,
        "changed_rgb": jittered(rng, COLOURS[colour]),
    }


def _sample_path(
    rng: random.Random, stage: Stage, motion: str, size: str, seconds: float
) -> dict[str, object] | None:
    """The geometry of a motion inside the stage's box; None if the box is too small for it."""
    radius = end_radius = rng.uniform(*SIZES[size])
    if motion == "grow":
        end_radius = radius * rng.uniform(1.6, 1.85)
    elif motion == "shrink":
        end_radius = max(0.082, radius * rng.uniform(0.48, 0.58))
    orbit = rng.uniform(0.12, 0.19) if motion == "circle" else 0.0
    height = rng.uniform(0.18, 0.30) if motion == "bounce" else 0.0
    margin = 1.08 * max(radius, end_radius) + orbit
    x0, y0, x1, y1 = stage.box
    low, high = (x0 + margin, y0 + margin + height), (x1 - margin, y1 - margin)
    room = (high[0] - low[0], high[1] - low[1])
    if min(room) < 0.0:
        return None
    start = [low[0] + rng.random() * room[0], low[1] + rng.random() * room[1]]
    end = list(start)
    if motion == "diagonal":
        steps = {0: (rng.choice((-1, 1)), 0.26), 1: (rng.choice((-1, 1)), 0.26)}
    else:
        dx, dy = DIRECTIONS.get(motion, (0, 0))
        steps = {axis: (sign, 0.36) for axis, sign in ((0, dx), (1, dy)) if sign}
    for axis, (sign, least) in steps.items():
        if room[axis] < least:
            return None
        travel = rng.uniform(least, room[axis])
        first = low[axis] + rng.random() * (room[axis] - travel)
        start[axis], end[axis] = (first, first + travel) if sign > 0 else (first + travel, first)
    turning = rng.choice((-1, 1))
    turns = max(1, round(seconds / 4.5)) * turning if motion == "circle" else 0
    spins = round(seconds * rng.uniform(0.10, 0.14), 2) * turning if motion == "spin" else 0.0
    return {
        "start_xy": (round(start[0], 4), round(start[1], 4)),
        "end_xy": (round(end[0], 4), round(end[1], 4)),
        "start_radius": round(radius, 4),
        "end_radius": round(end_radius, 4),
        "orbit_radius": round(orbit, 4),
        "orbit_phase": round(rng.uniform(0.0, 2.0 * math.pi), 3) if orbit else 0.0,
        "orbit_turns": float(turns),
        "spin_turns": float(spins),
        "bounce_height": round(height, 4),
    }
