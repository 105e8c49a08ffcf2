"""Sampling of videos: one seed and split give one timeline of scenes, objects and exact events.

Only `random.Random` seeded by a text of world version, split and seed decides anything, so a
video can be made again on any machine, and the splits never share a random stream.
"""

import colorsys
import itertools
import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from timevlm.errors import InputError
from timevlm.synth.draws import jittered, sample_time
from timevlm.synth.full.sampling import sample_full_video
from timevlm.synth.motion import object_places, object_table
from timevlm.synth.palette import COLOURS, DIRECTIONS, MAX_OBJECTS, MOTIONS, SHAPES, SIZES
from timevlm.synth.spec import RGB, Background, ObjectSpec, SceneSpec, VideoSpec

WORLD_VERSION = 1
SPLITS: tuple[str, ...] = ("train", "val", "test", "demo")
LEVELS: dict[str, tuple[str, ...]] = {"basic": SPLITS, "full": (*SPLITS, "compositional")}

# The demo video is the first seed of split "demo" that lasts at least 40 s and has at least 4
# scenes. No model's answers take part in the choice; a test applies the rule again.
DEMO_SEED = 1
DEMO_MIN_SECONDS = 40.0
DEMO_MIN_SCENES = 4

# All times are drawn in tenths of a second, so that they are exact decimals.
_MIN_VIDEO, _MAX_VIDEO = 120, 600
_MIN_SCENE, _MAX_SCENE = 40, 120
_PLACEMENT_TRIES = 24


def sample_video(seed: int, *, split: str = "train", level: str = "basic") -> VideoSpec:
    """The video of a seed in a split of a level.

    Level "basic" has 12 to 60 s, 2 to 6 scenes of 4 to 12 s, 1 to 3 objects each; level "full"
    (a `FullVideo`) everything that docs/world.md lists, and the further split "compositional".

    Raises:
        InputError: the level or its split is unknown, or the seed is negative.
    """
    check_source(seed, split, level)
    if level == "full":
        return sample_full_video(seed, split)
    rng = random.Random(f"timevlm-world-{WORLD_VERSION}:{split}:{seed}")
    cuts = _sample_cuts(rng)
    scenes: list[SceneSpec] = []
    for start, end in itertools.pairwise(cuts):
        scenes.append(sample_basic_scene(rng, start, end, scenes[-1] if scenes else None))
    return VideoSpec(seed=seed, split=split, duration_seconds=cuts[-1] / 10, scenes=tuple(scenes))


def check_source(seed: int, split: str, level: str) -> None:
    """Raise InputError unless the level has this split and the seed is not negative."""
    if level not in LEVELS:
        raise InputError(f"level {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    splits = LEVELS[level]
    if split not in splits:
        raise InputError(
            f"split {split!r} is unknown; choose one of {', '.join(splits)} at level {level}"
        )
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds are whole numbers from 0")


def demo_seed() -> int:
    """The demo seed found again by its rule (see `DEMO_SEED`)."""
    seed = 0
    while True:
        spec = sample_video(seed, split="demo")
        long_enough = spec.duration_seconds >= DEMO_MIN_SECONDS
        if long_enough and len(spec.scenes) >= DEMO_MIN_SCENES:
            return seed
        seed += 1


def frame_seconds(
    spec: VideoSpec, fps: float, offset: float = 0.0, *, file_fps: float = 25.0
) -> Tensor:
    """Float64 times `(n,)` that sampling a file of the video at `fps` from `offset` on would yield.

    Each wished time becomes that of the nearest frame of a file with `file_fps` constant frames a
    second.

    Raises:
        InputError: no frame lies between the offset and the video's end, or a rate is not
            positive.
    """
    if fps <= 0 or file_fps <= 0:
        raise InputError(f"fps {fps} of a file with {file_fps} fps: both must be above 0")
    num_file_frames = math.ceil(spec.duration_seconds * file_fps - 1e-6)
    num_wished = max(0, math.ceil((spec.duration_seconds - offset) * fps))
    wished = offset + torch.arange(num_wished, dtype=torch.float64) / fps
    frames = torch.unique((wished * file_fps).round().long())
    frames = frames[(frames >= 0) & (frames < num_file_frames)]
    if not len(frames):
        raise InputError(
            f"offset {offset} s leaves no frame of a video of {spec.duration_seconds} s; lower it"
        )
    return frames.double() / file_fps


def _sample_cuts(rng: random.Random) -> list[int]:
    num_scenes = rng.randint(2, 6)
    while True:
        cuts = [0]
        for _ in range(num_scenes):
            cuts.append(sample_time(rng, cuts[-1] + _MIN_SCENE, cuts[-1] + _MAX_SCENE))
        if _MIN_VIDEO <= cuts[-1] <= _MAX_VIDEO:
            return cuts


def sample_basic_scene(
    rng: random.Random,
    start: int,
    end: int,
    previous: SceneSpec | None,
    shapes: Sequence[str] = SHAPES,
) -> SceneSpec:
    """A scene of level "basic" between two times in tenths, unlike the previous one.

    There are at most as many objects as `shapes` to choose from.
    """
    background = _sample_background(rng)
    while previous is not None and _too_alike(background, previous.background):
        background = _sample_background(rng)
    while True:
        objects = _sample_objects(rng, start, end, shapes)
        looks = {(item.shape, item.colour) for item in objects}
        if previous is None or looks != {(o.shape, o.colour) for o in previous.objects}:
            break
    return SceneSpec(
        start_seconds=start / 10,
        end_seconds=end / 10,
        background=background,
        objects=objects,
        brightness=round(rng.uniform(0.92, 1.06), 3),
        noise_level=round(rng.uniform(0.5, 3.5), 2),
    )


def _sample_background(rng: random.Random) -> Background:
    return Background(
        kind=rng.choice(("flat", "gradient", "noise")),
        rgb=_muted_colour(rng),
        second_rgb=_muted_colour(rng),
        angle=round(rng.uniform(0.0, 2.0 * math.pi), 3),
        noise_seed=rng.randrange(2**31),
    )


def _muted_colour(rng: random.Random) -> RGB:
    # Darker and greyer than any object, so that every colour of the palette stands out.
    r, g, b = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.32), rng.uniform(0.12, 0.45))
    return (round(255 * r, 1), round(255 * g, 1), round(255 * b, 1))


def _too_alike(background: Background, other: Background) -> bool:
    distance = sum(abs(a - b) for a, b in zip(background.rgb, other.rgb, strict=True))
    return distance < 60.0


def _sample_objects(
    rng: random.Random, start: int, end: int, allowed_shapes: Sequence[str]
) -> tuple[ObjectSpec, ...]:
    num_objects = rng.choices((1, 2, 3), weights=(48, 42, 10))[0]
    num_objects = min(num_objects, len(allowed_shapes))
    shapes = rng.sample(allowed_shapes, num_objects)
    colours = rng.sample(list(COLOURS), num_objects)
    # Three objects need room to keep apart.
    sizes = list(SIZES) if num_objects < MAX_OBJECTS else ["small", "medium"]
    placed: list[ObjectSpec] = []
    for shape, colour in zip(shapes, colours, strict=True):
        for _ in range(_PLACEMENT_TRIES):
            size = rng.choice(sizes)
            item = _sample_object(rng, shape, colour, size, (start, end), set(colours))
            if all(_keep_apart(item, other, start / 10, end / 10) for other in placed):
                placed.append(item)
                break
    return tuple(placed)


def _sample_object(
    rng: random.Random,
    shape: str,
    colour: str,
    size: str,
    scene: tuple[int, int],
    taken_colours: set[str],
) -> ObjectSpec:
    appear, vanish = _sample_visible(rng, *scene)
    whole_scene = (appear, vanish) == scene
    motion = rng.choice([name for name in MOTIONS if _motion_fits(name, size)])
    if motion == "blink" and (not whole_scene or vanish - appear < 60):
        motion = "still"  # a blink has to be seen going out and coming back
    motion_start, motion_end = appear, vanish
    if motion not in ("still", "blink") and vanish - appear >= 50 and rng.random() < 0.3:
        motion_start = sample_time(rng, appear, vanish - 30)
        motion_end = sample_time(rng, motion_start + 30, vanish)
    change: dict[str, object] = {}
    if motion != "blink" and vanish - appear >= 50 and rng.random() < 0.22:
        changed = rng.choice([name for name in COLOURS if name not in taken_colours])
        change = {
            "change_seconds": sample_time(rng, appear + 20, vanish - 20) / 10,
            "changed_colour": changed,
            "changed_rgb": jittered(rng, COLOURS[changed]),
        }
    return ObjectSpec(
        shape=shape,
        colour=colour,
        rgb=jittered(rng, COLOURS[colour]),
        size=size,
        motion=motion,
        motion_start_seconds=motion_start / 10,
        motion_end_seconds=motion_end / 10,
        appear_seconds=appear / 10,
        vanish_seconds=vanish / 10,
        **_sample_path(rng, motion, size, (motion_end - motion_start) / 10),
        **change,
    )


def _sample_visible(rng: random.Random, start: int, end: int) -> tuple[int, int]:
    kind = rng.choices(("whole", "late", "early"), weights=(70, 15, 15))[0]
    if kind == "late" and end - start >= 50:
        return sample_time(rng, start + 15, end - 30), end
    if kind == "early" and end - start >= 50:
        return start, sample_time(rng, start + 30, end - 15)
    return start, end


def _motion_fits(motion: str, size: str) -> bool:
    # A small object has no room to shrink and a large one none to grow.
    return (motion, size) not in {("shrink", "small"), ("grow", "large")}


def _sample_path(
    rng: random.Random, motion: str, size: str, motion_seconds: float
) -> dict[str, object]:
    """The geometry of a motion as fields of ObjectSpec; the whole path stays inside the frame."""
    radius = rng.uniform(*SIZES[size])
    end_radius = radius
    if motion == "grow":
        end_radius = radius * rng.uniform(1.7, 1.9)
    elif motion == "shrink":
        end_radius = max(0.082, radius * rng.uniform(0.48, 0.56))
    orbit = rng.uniform(0.13, 0.20) if motion == "circle" else 0.0
    margin = max(radius, end_radius) + orbit + 0.02
    start = [rng.uniform(margin, 1.0 - margin), rng.uniform(margin, 1.0 - margin)]
    end = list(start)
    if motion in DIRECTIONS:
        axis, sign = (
            (0, DIRECTIONS[motion][0]) if DIRECTIONS[motion][0] else (1, DIRECTIONS[motion][1])
        )
        travel = rng.uniform(0.40, 1.0 - 2.0 * margin)
        low = rng.uniform(margin, 1.0 - margin - travel)
        start[axis], end[axis] = (low, low + travel) if sign > 0 else (low + travel, low)
    turns = max(1, round(motion_seconds / 4.5)) * rng.choice((-1, 1)) if motion == "circle" else 0
    return {
        "start_xy": (round(start[0], 4), round(start[1], 4)),
        "end_xy": (round(end[0], 4), round(end[1], 4)),
        "start_radius": round(radius, 4),
        "end_radius": round(end_radius, 4),
        "orbit_radius": round(orbit, 4),
        "orbit_phase": round(rng.uniform(0.0, 2.0 * math.pi), 3),
        "orbit_turns": float(turns),
    }


def _keep_apart(item: ObjectSpec, other: ObjectSpec, start: float, end: float) -> bool:
    """Whether two objects never come so close in their scene that one could hide the other."""
    seconds = torch.linspace(start, end, 25, dtype=torch.float64)[:, None]
    x, y, radius = object_places(object_table((item, other), 2), seconds)
    distance = torch.hypot(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1])
    return bool((distance >= 0.9 * radius.sum(dim=1)).all())
