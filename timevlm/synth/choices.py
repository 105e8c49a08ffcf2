"""Wrong answers that are certainly wrong, and a right answer whose place among them is uniform.

Wrong choices come partly from the same video, so that "was it in the video" is not enough to
answer.
"""

import random
from collections.abc import Iterable, Sequence

from timevlm.synth.palette import COLOURS, NUMBERS, SHAPES
from timevlm.synth.timeline import Span, Timeline
from timevlm.synth.wording import an, at_time, from_to, join_phrases

NUM_CHOICES = 4
# Wrong moments keep this far from the right one, so that a model at one frame a second can tell
# them apart.
_MIN_MOMENT_GAP = 2.0
_MAX_INTERVAL_IOU = 0.4

Look = tuple[str, str]


def shuffled_choices(rng: random.Random, answer: str, wrong: Sequence[str]) -> tuple[str, ...]:
    """The answer among the wrong texts, at a uniform place."""
    choices = list(wrong)
    choices.insert(rng.randint(0, len(choices)), answer)
    return tuple(choices)


def colour_choices(
    timeline: Timeline, rng: random.Random, answer: str, *, near_miss: str | None = None
) -> tuple[str, ...]:
    """Four colours; `near_miss` is always among them."""
    seen = {colour for colour, _ in timeline.looks()}
    wrong = _mixed(rng, answer, seen - {near_miss}, set(COLOURS) - {near_miss})
    if near_miss is not None:
        wrong = [near_miss, *wrong[: NUM_CHOICES - 2]]
        rng.shuffle(wrong)
    return shuffled_choices(rng, answer, wrong)


def shape_choices(timeline: Timeline, rng: random.Random, answer: str) -> tuple[str, ...]:
    """Four shapes."""
    seen = {track.item.shape for track in timeline.tracks}
    return shuffled_choices(rng, answer, _mixed(rng, answer, seen, set(SHAPES)))


def count_choices(rng: random.Random, answer: int, allowed: Iterable[int]) -> tuple[str, ...]:
    """Four numbers as words out of the allowed ones."""
    wrong = rng.sample([n for n in allowed if n != answer], NUM_CHOICES - 1)
    return shuffled_choices(rng, NUMBERS[answer], [NUMBERS[n] for n in wrong])


def scene_choices(
    timeline: Timeline, rng: random.Random, looks: Sequence[Look]
) -> tuple[str, tuple[str, ...]]:
    """The answer listing these (colour, shape) looks, and four choices of as many objects each.

    No wrong choice names any of the right looks, so that none is half right.
    """
    forbidden = set(looks)
    elsewhere = sorted(timeline.looks() - forbidden)
    anywhere = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in forbidden]
    wrong: dict[frozenset[Look], str] = {}
    while len(wrong) < NUM_CHOICES - 1:
        near = len(elsewhere) >= len(looks) and rng.random() < 0.6
        picked = rng.sample(elsewhere if near else anywhere, len(looks))
        # Objects of one scene differ in both words, so a wrong list must look as plausible.
        if _num_words(picked) == _num_words(looks):
            wrong.setdefault(frozenset(picked), _list_looks(picked))
    answer = _list_looks(looks)
    return answer, shuffled_choices(rng, answer, list(wrong.values()))


def moment_choices(timeline: Timeline, rng: random.Random, answer: float) -> tuple[str, ...] | None:
    """Four moments that keep apart, some of other events; None in too short a video."""
    duration = timeline.spec.duration_seconds
    events = timeline.event_seconds()
    rng.shuffle(events)
    grid = [i / 2 for i in range(1, int(duration * 2))]
    rng.shuffle(grid)
    chosen = [answer]
    for moment in [*events[: rng.randint(1, 3)], *grid]:
        if len(chosen) == NUM_CHOICES:
            break
        if all(abs(moment - other) >= _MIN_MOMENT_GAP for other in chosen):
            chosen.append(moment)
    if len(chosen) < NUM_CHOICES:
        return None
    return shuffled_choices(rng, at_time(answer), [at_time(moment) for moment in chosen[1:]])


def interval_choices(
    timeline: Timeline, rng: random.Random, answer: Span
) -> tuple[str, ...] | None:
    """Four intervals that overlap little, some of other objects; None in too short a video."""
    duration = timeline.spec.duration_seconds
    others = [t.visible for t in timeline.tracks] + [t.moving for t in timeline.tracks]
    rng.shuffle(others)
    candidates = others[: rng.randint(1, 4)]
    for _ in range(60):
        length = rng.randint(5, 24) / 2
        start = rng.randint(0, max(0, int((duration - length) * 2))) / 2
        if start + length <= duration:
            candidates.append((start, start + length))
    chosen = [answer]
    for span in candidates:
        if len(chosen) == NUM_CHOICES:
            break
        if all(_iou(span, other) < _MAX_INTERVAL_IOU for other in chosen):
            chosen.append(span)
    if len(chosen) < NUM_CHOICES:
        return None
    return shuffled_choices(rng, from_to(*answer), [from_to(*span) for span in chosen[1:]])


def _mixed(rng: random.Random, answer: str, seen: set[str], allowed: set[str]) -> list[str]:
    """Three wrong words, where possible one to three of them seen in the video."""
    near = sorted(seen - {answer})
    near = rng.sample(near, min(len(near), rng.randint(1, NUM_CHOICES - 1)))
    far = sorted(allowed - {answer} - set(near))
    wrong = near + rng.sample(far, NUM_CHOICES - 1 - len(near))
    rng.shuffle(wrong)
    return wrong


def _list_looks(looks: Sequence[Look]) -> str:
    return join_phrases([an(f"{colour} {shape}") for colour, shape in looks])


def _num_words(looks: Sequence[Look]) -> tuple[int, int]:
    return len({colour for colour, _ in looks}), len({shape for _, shape in looks})


def _iou(a: Span, b: Span) -> float:
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return overlap / (a[1] - a[0] + b[1] - b[0] - overlap)
