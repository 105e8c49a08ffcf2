"""Sampling of videos of level "full": scenes, cameras, light, text and transitions.

As in level "basic", a `random.Random` seeded by a text of version, split and seed decides all.
"""

import colorsys
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from timevlm.synth.draws import sample_time
from timevlm.synth.full.objects import Stage, sample_objects
from timevlm.synth.full.pairs import sample_pair
from timevlm.synth.full.palette import (
    BACKGROUNDS,
    CAMERA_MOVES,
    MAX_OBJECTS,
    MOTIONS,
    OVERLAY_WORDS,
    SOFT_TRANSITIONS,
    TEXTURED,
    TRAVELLING,
)
from timevlm.synth.full.spec import (
    CameraMove,
    FullObject,
    FullScene,
    FullVideo,
    LightChange,
    Overlay,
    PairEvent,
    Transition,
)
from timevlm.synth.palette import SHAPES
from timevlm.synth.spec import RGB, Background

FULL_VERSION = 1

_MIN_VIDEO, _MAX_VIDEO = 100, 700  # tenths of a second
_MIN_QUIET, _MAX_QUIET = 40, 120
_SCENE_COUNTS = (1, 2, 3, 4, 5, 6)
_SCENE_WEIGHTS = (6, 18, 24, 22, 17, 13)
_OBJECT_COUNTS = (1, 2, 3, 4, 5)
_OBJECT_WEIGHTS = (30, 30, 20, 12, 8)
_TRANSITION_KINDS = ("cut", "fade", "dissolve", "flash", "freeze", "black")
_TRANSITION_WEIGHTS = (45, 11, 11, 11, 11, 11)
_TRANSITION_SECONDS = {
    "cut": (0.0,),
    "fade": (2.0, 3.0),
    "dissolve": (2.0, 3.0),
    "flash": (1.0,),
    "freeze": (3.0, 4.0),
    "black": (2.0, 3.0),
}
_LIGHT_KINDS = ("brighter", "darker", "flicker")
_MIN_CONTRAST = 150.0  # summed distance of an object's colour from its background
_RESTING = ("still", "spin", "blink")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePlan:
    """What is decided of a scene before its contents: its times (tenths) and its neighbours."""

    split: str
    start: int
    end: int
    lead_in: int = 0  # how far the transition before it reaches into it
    transition: Transition | None = None
    shapes: tuple[str, ...] = SHAPES
    used_texts: tuple[str, ...] = ()
    max_objects: int = MAX_OBJECTS

    @property
    def tail(self) -> int:
        """How far the transition after it reaches into it."""
        if self.transition is None:
            return 0
        return self.end - round(10 * self.transition.window(self.end / 10)[0])

    @property
    def quiet(self) -> tuple[int, int]:
        """The part of the scene that no transition touches."""
        return self.start + self.lead_in, self.end - self.tail


def sample_full_video(seed: int, split: str) -> FullVideo:
    """The video of a seed in a split: 10 to 70 s, 1 to 6 scenes, 1 to 5 objects each."""
    rng = random.Random(f"timevlm-world-full-{FULL_VERSION}:{split}:{seed}")
    while True:
        transitions, cuts = _sample_cuts(rng, rng.choices(_SCENE_COUNTS, _SCENE_WEIGHTS)[0])
        if _MIN_VIDEO <= cuts[-1] <= _MAX_VIDEO:
            break
    scenes = sample_scenes(rng, split, transitions, cuts)
    jpeg_scale = rng.randint(5, 18) if rng.random() < 0.12 else None
    return FullVideo(
        seed=seed,
        split=split,
        duration_seconds=cuts[-1] / 10,
        scenes=tuple(scenes),
        jpeg_scale=jpeg_scale,
    )


def sample_scenes(
    rng: random.Random,
    split: str,
    transitions: Sequence[Transition | None],
    cuts: Sequence[int],
) -> list[FullScene]:
    """The scenes between `cuts` (tenths), each with its transition into the next one."""
    scenes: list[FullScene] = []
    lead_in, texts = 0, ()
    for (start, end), transition in zip(itertools.pairwise(cuts), transitions, strict=True):
        plan = ScenePlan(
            split=split,
            start=start,
            end=end,
            lead_in=lead_in,
            transition=transition,
            used_texts=texts,
        )
        scenes.append(sample_scene(rng, plan, scenes[-1] if scenes else None))
        lead_in = transition_reach(scenes[-1].transition)
        if scenes[-1].overlay is not None:
            texts = (*texts, scenes[-1].overlay.text)
    return scenes


def transition_reach(transition: Transition | None) -> int:
    """Tenths of a second that a transition reaches into the next scene."""
    if transition is None or transition.kind not in SOFT_TRANSITIONS:
        return 0
    return round(5 * transition.duration_seconds)


def sample_transition(rng: random.Random) -> Transition:
    """How one scene gives way to the next."""
    kind = rng.choices(_TRANSITION_KINDS, _TRANSITION_WEIGHTS)[0]
    return Transition(kind=kind, duration_seconds=rng.choice(_TRANSITION_SECONDS[kind]))


def _sample_cuts(rng: random.Random, num_scenes: int) -> tuple[list[Transition | None], list[int]]:
    transitions = [sample_transition(rng) for _ in range(num_scenes - 1)]
    cuts = [0]
    for before, after in itertools.pairwise((None, *transitions, None)):
        # Only the length of the scene counts here, so any end will do for the tail.
        tail = 0 if after is None else 1000 - round(10 * after.window(100.0)[0])
        start = cuts[-1] + transition_reach(before) + tail
        cuts.append(sample_time(rng, start + _MIN_QUIET, start + _MAX_QUIET))
    return [*transitions, None], cuts


def sample_scene(
    rng: random.Random, plan: ScenePlan, previous: FullScene | None = None
) -> FullScene:
    """A scene of a plan, different from the previous one in background and looks."""
    freezes = plan.transition is not None and plan.transition.kind == "freeze"
    for attempt in itertools.count():
        if freezes and attempt >= 8:
            # Nothing here can be caught in motion, so a freeze would show nothing.
            plan = replace(plan, transition=Transition(kind="cut", duration_seconds=0.0))
            freezes = False
        camera = None if freezes else _sample_camera(rng, plan)
        overlay = _sample_overlay(rng, plan, camera)
        objects, pair = _sample_contents(rng, plan, camera, overlay)
        looks = {(item.shape, item.colour) for item in objects}
        if previous is not None and looks == {(o.shape, o.colour) for o in previous.objects}:
            continue
        if objects and (not freezes or _caught_moving(objects, plan.quiet[1] / 10)):
            break
    background = _sample_background(rng, objects, camera, previous)
    light = _sample_light(rng, plan)
    if overlay is not None and (light is not None or background.kind in TEXTURED):
        overlay = replace(overlay, boxed=True, rgb=(250.0, 250.0, 250.0))
    elif overlay is not None and not overlay.boxed:
        overlay = replace(overlay, rgb=_readable_on(background))
    return FullScene(
        start_seconds=plan.start / 10,
        end_seconds=plan.end / 10,
        background=background,
        objects=objects,
        brightness=round(rng.uniform(0.92, 1.06), 3),
        noise_level=round(rng.uniform(0.5, 6.0), 2),
        camera=camera,
        light=light,
        overlay=overlay,
        transition=plan.transition,
        pair=pair,
        blur=round(rng.uniform(0.003, 0.008), 4) if rng.random() < 0.25 else 0.0,
    )


def _caught_moving(objects: Sequence[FullObject], seconds: float) -> bool:
    return any(o.motion in TRAVELLING and o.motion_end_seconds == seconds for o in objects)


def _sample_contents(
    rng: random.Random, plan: ScenePlan, camera: CameraMove | None, overlay: Overlay | None
) -> tuple[tuple[FullObject, ...], PairEvent | None]:
    kind = None if plan.transition is None else plan.transition.kind
    shown_end = plan.quiet[1] if kind == "black" else plan.end
    moves = camera is not None and camera.kind != "shake"
    stage = Stage(
        split=plan.split,
        whole=(plan.start, shown_end),
        quiet=plan.quiet,
        motion_end=plan.quiet[1] if kind == "freeze" else shown_end,
        box=_box(camera, overlay),
        # While the camera travels, "moves left" would be true of resting objects too.
        motions=_RESTING if moves else tuple(MOTIONS),
        shapes=plan.shapes,
    )
    count = min(plan.max_objects, rng.choices(_OBJECT_COUNTS, _OBJECT_WEIGHTS)[0])
    if not moves and count >= 2 and rng.random() < 0.45:
        for _ in range(6):
            pair = sample_pair(rng, stage)
            if pair is not None:
                return sample_objects(rng, stage, min(count, 4), pair[0]), pair[1]
    return sample_objects(rng, stage, count), None


def _box(camera: CameraMove | None, overlay: Overlay | None) -> tuple[float, float, float, float]:
    """Where in the world an outline may be, so that it stays in the picture and off the text."""
    inset_x = inset_y = 0.015
    if camera is not None:
        if camera.kind.startswith("pan"):
            inset_x += camera.amount / 2
        elif camera.kind.startswith("tilt"):
            inset_y += camera.amount / 2
        else:
            inset = camera.amount if camera.kind == "shake" else (1.0 - 1.0 / camera.amount) / 2
            inset_x, inset_y = inset_x + inset, inset_y + inset
    top, bottom = inset_y, 1.0 - inset_y
    if overlay is not None and overlay.side == "top":
        top += 0.21
    elif overlay is not None:
        bottom -= 0.21
    return inset_x, top, 1.0 - inset_x, bottom


def _part_of(rng: random.Random, low: int, high: int, least: int) -> tuple[int, int]:
    """Start and end in tenths of something that lasts at least `least`, mostly not throughout."""
    start = sample_time(rng, low, high - least)
    return start, sample_time(rng, start + least, high)


def _sample_camera(rng: random.Random, plan: ScenePlan) -> CameraMove | None:
    low, high = plan.quiet
    if rng.random() >= 0.35:
        return None
    kind = rng.choice(tuple(CAMERA_MOVES))
    if kind.startswith("zoom"):
        amount = rng.uniform(1.35, 1.5)
    elif kind == "shake":
        amount = rng.uniform(0.022, 0.032)
    else:
        amount = rng.uniform(0.24, 0.34)
    start, end = _part_of(rng, low, high, 30)
    return CameraMove(
        kind=kind, start_seconds=start / 10, end_seconds=end / 10, amount=round(amount, 3)
    )


def _sample_light(rng: random.Random, plan: ScenePlan) -> LightChange | None:
    low, high = plan.quiet
    if rng.random() >= 0.35 or high - low < 45:
        return None
    kind = rng.choice(_LIGHT_KINDS)
    dim = round(rng.uniform(0.42, 0.54), 2)
    if kind == "flicker":
        periods = rng.randint(1, (high - low) // 20)
        start = sample_time(rng, low, high - 20 * periods)
        end, gains = start + 20 * periods, (1.0, dim)
    else:
        start = sample_time(rng, low + 15, high - 25)
        end = start + rng.choice((10, 20) if high - start >= 35 else (10,))
        gains = (dim, 1.0) if kind == "brighter" else (1.0, dim)
    return LightChange(
        kind=kind,
        start_seconds=start / 10,
        end_seconds=end / 10,
        start_gain=gains[0],
        end_gain=gains[1],
    )


def _sample_overlay(
    rng: random.Random, plan: ScenePlan, camera: CameraMove | None
) -> Overlay | None:
    # A tilt or zoom could move objects under the text.
    moves_objects = camera is not None and camera.kind[:4] in ("tilt", "zoom")
    if moves_objects or rng.random() >= 0.32:
        return None
    if rng.random() < 0.5:
        text = rng.choice([word for word in OVERLAY_WORDS if word not in plan.used_texts])
    else:
        text = str(rng.choice([n for n in range(10, 100) if str(n) not in plan.used_texts]))
    start, end = _part_of(rng, *plan.quiet, 30)
    return Overlay(
        text=text,
        start_seconds=start / 10,
        end_seconds=end / 10,
        side=rng.choice(("top", "bottom")),
        x=round(rng.uniform(0.36, 0.64), 3),
        rgb=(250.0, 250.0, 250.0),
        boxed=rng.random() < 0.5,
    )


def _readable_on(background: Background) -> RGB:
    lightness = sum(background.rgb) + sum(background.second_rgb)
    return (250.0, 250.0, 250.0) if lightness < 700.0 else (12.0, 12.0, 14.0)


def _sample_background(
    rng: random.Random,
    objects: Sequence[FullObject],
    camera: CameraMove | None,
    previous: FullScene | None,
) -> Background:
    """A background on which every object stands out, and whose motion shows where there is any."""
    kinds = tuple(BACKGROUNDS) if camera is None else TEXTURED
    colours = [item.rgb for item in objects]
    colours += [item.changed_rgb for item in objects if item.changed_rgb is not None]
    best, best_contrast = None, -1.0
    for _ in range(200):
        first, second = _muted_colour(rng), _muted_colour(rng)
        third = tuple((a + b) / 2 for a, b in zip(first, second, strict=True))
        contrast = min(_distance(c, ground) for c in colours for ground in (first, second, third))
        if previous is not None:
            contrast = min(contrast, 2.5 * _distance(first, previous.background.rgb))
        if camera is not None:
            contrast = min(contrast, 2.0 * _distance(first, second))
        if contrast > best_contrast:
            best, best_contrast = (first, second), contrast
        if best_contrast >= _MIN_CONTRAST:
            break
    return Background(
        kind=rng.choice(kinds),
        rgb=best[0],
        second_rgb=best[1],
        angle=round(rng.uniform(0.0, 2.0 * math.pi), 3),
        noise_seed=rng.randrange(2**31),
    )


def _muted_colour(rng: random.Random) -> RGB:
    r, g, b = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.04, 0.34), rng.uniform(0.12, 0.80))
    return (round(255 * r, 1), round(255 * g, 1), round(255 * b, 1))


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
