"""Long videos that hide a few short needles, and questions that only a needle answers.

A needle is a scene of 4 to 8 s with one object whose shape no other scene shows. Everything else
is as in other videos, so finding it is a matter of memory and not of looks. Sampling an hour
takes seconds and no pictures; those are painted a piece at a time (`render_blocks`).
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from timevlm.errors import InputError
from timevlm.synth.choices import moment_choices, shuffled_choices
from timevlm.synth.draws import sample_time
from timevlm.synth.full.palette import COLOURS as FULL_COLOURS
from timevlm.synth.full.palette import MOTIONS as FULL_MOTIONS
from timevlm.synth.full.sampling import (
    ScenePlan,
    sample_scene,
    sample_transition,
    transition_reach,
)
from timevlm.synth.full.spec import FullScene, FullVideo, Transition
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import QUESTION_WORDINGS as FULL_WORDINGS
from timevlm.synth.full.wording import draw_wording
from timevlm.synth.items import Question, Span
from timevlm.synth.palette import COLOURS, MOTIONS, SHAPES
from timevlm.synth.render import render_frames
from timevlm.synth.spec import SceneSpec, VideoSpec
from timevlm.synth.timeline import Timeline, Track
from timevlm.synth.wording import QUESTION_WORDINGS, an, at_time
from timevlm.synth.world import check_source, sample_basic_scene

LONG_VERSION = 1
MIN_SECONDS = 40
MAX_NEEDLES = 3

_SCENE_TENTHS = (40, 120)
_NEEDLE_TENTHS = (40, 80)
_CUT = Transition(kind="cut", duration_seconds=0.0)


def sample_long_video(
    seed: int,
    num_seconds: int,
    *,
    split: str = "test",
    level: str = "full",
    num_needles: int = MAX_NEEDLES,
) -> VideoSpec:
    """A video of exactly `num_seconds` with `num_needles` needles at uniform places.

    Raises:
        InputError: the level or split is unknown or "compositional", the video is shorter than
            40 s, or there are not 1 to 3 needles.
    """
    check_source(seed, split, level)
    if split == "compositional":
        raise InputError("long videos have no split 'compositional'; choose train, val or test")
    if num_seconds < MIN_SECONDS or not 1 <= num_needles <= MAX_NEEDLES:
        raise InputError(
            f"a long video of {num_seconds} s with {num_needles} needles cannot be made; allowed "
            f"are {MIN_SECONDS} s and more with 1 to {MAX_NEEDLES} needles"
        )
    rng = random.Random(f"timevlm-long-{LONG_VERSION}:{level}:{split}:{num_seconds}:{seed}")
    rare = rng.sample(SHAPES, num_needles)
    common = tuple(shape for shape in SHAPES if shape not in rare)
    lengths, places = _sample_lengths(rng, 10 * num_seconds, num_needles)
    cuts = [0, *itertools.accumulate(lengths)]
    needle_at = dict(zip(places, rare, strict=True))
    shapes = [(needle_at[i],) if i in needle_at else common for i in range(len(lengths))]
    if level == "full":
        return FullVideo(
            seed=seed,
            split=split,
            duration_seconds=float(num_seconds),
            scenes=tuple(_full_scenes(rng, split, cuts, shapes)),
        )
    return VideoSpec(
        seed=seed,
        split=split,
        duration_seconds=float(num_seconds),
        scenes=tuple(_basic_scenes(rng, cuts, shapes)),
    )


def needles(spec: VideoSpec) -> list[Track]:
    """The objects of a long video that have a scene and a shape of their own, in time order.

    In a short video another scene may happen to be as singular as the needles; it counts too.
    """
    shown = Counter(item.shape for scene in spec.scenes for item in scene.objects)
    tracks = [t for t in Timeline(spec).tracks if shown[t.item.shape] == 1]
    alone = [t for t in tracks if len(t.scene.objects) == 1 and _is_plain(t.scene)]
    if not isinstance(spec, FullVideo):
        return alone
    timeline = FullTimeline(spec)
    return [t for t in alone if timeline.is_sharp(t.visible[0])]


def make_needle_questions(spec: VideoSpec, seed: int) -> list[Question]:
    """Questions about the needles: colour, motion, time, existence; and their order.

    Families are "needle" and "order"; kinds and wordings are those of the video's level.
    """
    rng = random.Random(f"needles:{spec.level}:{spec.split}:{spec.seed}:{seed}")
    timeline = FullTimeline(spec) if isinstance(spec, FullVideo) else Timeline(spec)
    found = needles(spec)
    questions = [q for track in found for q in _about_needle(timeline, rng, track) if q is not None]
    for pair in itertools.combinations(found, 2):
        questions.append(_order(timeline, rng, pair))
    rng.shuffle(questions)
    return questions


def render_blocks(
    spec: VideoSpec,
    seconds: Tensor,
    size: tuple[int, int],
    *,
    num_frames: int = 64,
    device: str | torch.device = "cpu",
) -> Iterator[Tensor]:
    """The frames at `seconds` `(n,)` in blocks uint8 `(up to num_frames, 3, H, W)`, lazily."""
    for start in range(0, len(seconds), num_frames):
        yield render_frames([(spec, seconds[start : start + num_frames])], size, device)


def _sample_lengths(
    rng: random.Random, total: int, num_needles: int
) -> tuple[list[int], list[int]]:
    """Lengths of all scenes in tenths, which sum to `total`, and the places of the needles."""
    short = [sample_time(rng, *_NEEDLE_TENTHS) for _ in range(num_needles)]
    left = total - sum(short)
    lengths: list[int] = []
    low, high = _SCENE_TENTHS
    while left > high:
        # What stays must still make a whole scene.
        lengths.append(sample_time(rng, low, min(high, left - low)))
        left -= lengths[-1]
    lengths.append(left)
    # Needles stand between other scenes, never side by side.
    gaps = sorted(rng.sample(range(len(lengths) + 1), min(num_needles, len(lengths) + 1)))
    for number, gap in enumerate(gaps):
        lengths.insert(gap + number, short[number])
    return lengths, [gap + number for number, gap in enumerate(gaps)]


def _basic_scenes(
    rng: random.Random, cuts: list[int], shapes: list[tuple[str, ...]]
) -> Iterator[SceneSpec]:
    previous = None
    for (start, end), allowed in zip(itertools.pairwise(cuts), shapes, strict=True):
        while True:
            scene = sample_basic_scene(rng, start, end, previous, allowed)
            if len(allowed) > 1 or _is_plain(scene):
                break
        yield scene
        previous = scene


def _full_scenes(
    rng: random.Random, split: str, cuts: list[int], shapes: list[tuple[str, ...]]
) -> Iterator[FullScene]:
    previous, lead_in = None, 0
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        is_needle = len(shapes[number]) == 1
        last = number == len(shapes) - 1
        transition = None if last else sample_transition(rng)
        # A needle is cut in and out sharply, and no transition may eat up a short scene.
        beside = is_needle or (not last and len(shapes[number + 1]) == 1)
        if transition is not None and (beside or end - start - lead_in < 80):
            transition = _CUT
        if not last and cuts[number + 2] - cuts[number + 1] < 60:
            transition = _CUT
        plan = ScenePlan(
            split=split,
            start=start,
            end=end,
            lead_in=lead_in,
            transition=transition,
            shapes=shapes[number],
            max_objects=1 if is_needle else 5,
        )
        while True:
            scene = sample_scene(rng, plan, previous)
            if not is_needle or _is_plain(scene):
                break
        yield scene
        previous, lead_in = scene, transition_reach(scene.transition)


def _is_plain(scene: SceneSpec) -> bool:
    """Whether a needle scene shows its one object throughout, in one colour."""
    item = scene.objects[0]
    whole = (item.appear_seconds, item.vanish_seconds) == (scene.start_seconds, scene.end_seconds)
    return whole and not item.changes and item.motion not in ("still", "blink")


def _text(timeline: Timeline, rng: random.Random, kind: str, slots: dict[str, str]) -> str:
    if isinstance(timeline, FullTimeline):
        return draw_wording(rng, FULL_WORDINGS, kind, timeline.spec.split, slots)
    return rng.choice(QUESTION_WORDINGS[kind]).format(**slots)


def _about_needle(
    timeline: Timeline, rng: random.Random, track: Track
) -> Iterator[Question | None]:
    full = isinstance(timeline, FullTimeline)
    colours, motions = (FULL_COLOURS, FULL_MOTIONS) if full else (COLOURS, MOTIONS)
    item, spans = track.item, (track.visible,)

    def question(kind: str, answer: str, choices: tuple[str, ...], **slots: str) -> Question:
        text = _text(timeline, rng, kind, slots)
        return Question(
            family="needle",
            kind=kind,
            text=text,
            answer=answer,
            choices=choices,
            answer_spans=spans,
        )

    others = rng.sample([name for name in colours if name != item.colour], 3)
    choices = shuffled_choices(rng, item.colour, others)
    yield question("colour.of_shape", item.colour, choices, shape=item.shape)
    wrong = [motions[name].does for name in timeline.wrong_motions(track)]
    if len(wrong) >= 3:
        does = motions[item.motion].does
        choices = shuffled_choices(rng, does, rng.sample(wrong, 3))
        yield question("motion.of_object", does, choices, thing=item.shape)
    start = track.visible[0]
    moments = moment_choices(timeline, rng, start) if start > 0 else None
    if moments is not None:
        yield question("when.appear", at_time(start), moments, thing=item.shape)
    present = rng.random() < 0.5
    colour = item.colour if present else rng.choice(others)
    answer, wrong_answer = ("yes", "no") if present else ("no", "yes")
    choices = shuffled_choices(rng, answer, [wrong_answer])
    yield question("exist.object", answer, choices, an_object=an(f"{colour} {item.shape}"))


def _order(timeline: Timeline, rng: random.Random, pair: tuple[Track, Track]) -> Question:
    names = [track.item.shape for track in pair]
    kind, answer = rng.choice((("order.first", names[0]), ("order.last", names[1])))
    rng.shuffle(names)
    spans: tuple[Span, ...] = tuple(track.visible for track in pair)
    return Question(
        family="order",
        kind=kind,
        text=_text(timeline, rng, kind, {"a": names[0], "b": names[1]}),
        answer=f"the {answer}",
        choices=tuple(f"the {name}" for name in names),
        answer_spans=spans,
    )
