"""Supervised turns about one video: every task of the model as (prompt, answer) text.

Questions, grounding and captions come from the world's timeline; their times are moved to the
frames that the model will see, because it can only know what its frames show. Long videos are asked
about their needles alone. At level "full" a few grounding queries are about what the video does not
show, with the answer `NOT_IN_VIDEO`.
"""

import random
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from timevlm.synth.captions import make_captions
from timevlm.synth.full import wording as full_wording
from timevlm.synth.full.captions import make_full_captions
from timevlm.synth.full.footage import FootageVideo
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.grounding import make_grounding
from timevlm.synth.items import GroundingQuery
from timevlm.synth.long import make_needle_questions, needles
from timevlm.synth.palette import ORDINALS, SHAPES
from timevlm.synth.questions import Question, make_questions
from timevlm.synth.spec import VideoSpec
from timevlm.synth.timeline import Timeline
from timevlm.synth.wording import GROUNDING_WORDINGS, an
from timevlm.tasks.captioning import CAPTION_PROMPT, format_captions
from timevlm.tasks.grounding import NOT_IN_VIDEO, format_spans, grounding_prompt
from timevlm.tasks.qa import question_prompt
from timevlm.tasks.text import normalize_answer
from timevlm.tasks.times import mark_times
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, parse_timestamp, timestamp_text
from timevlm.training.footage_turns import footage_queries, footage_questions
from timevlm.training.main_colour import AT_WORDINGS as MAIN_COLOUR_AT_WORDINGS
from timevlm.training.main_colour import WORDINGS as MAIN_COLOUR_WORDINGS
from timevlm.training.main_colour import background_colour
from timevlm.training.picture_questions import picture_queries, picture_question, picture_questions
from timevlm.training.stillness import still_on_frames
from timevlm.training.typed import as_typed

ABSENT_SHARE = 0.1  # grounding queries of level "full" about an object that is not there
GREY_SHARE = 0.15  # of the videos of level "full" whose grey is asked for as a main colour
_CHOICE = 2  # queries to choose from for each one that is asked, where kinds weigh
_SLACK = 1e-6
_MARKS = re.compile(TIMESTAMP_PATTERN)
_Asked = TypeVar("_Asked", Question, GroundingQuery)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One prompt with its answer, as text.

    The answer is to be seen in the frames from the first to the last of each of `spans` (seconds);
    no spans: nowhere. `listed` are things that happen which the prompt lists at its end, each with
    the seconds from the frame before it to the one after it.
    """

    family: str
    prompt: str
    answer: str
    spans: tuple[tuple[float, float], ...] = ()
    listed: tuple[tuple[str, tuple[float, float]], ...] = ()


def frame_span(
    start_seconds: float, end_seconds: float, frame_seconds: Sequence[float]
) -> tuple[int, int]:
    """Indices of the first and the last frame inside `[start, end)`.

    A span that no frame falls into gives the frame on the screen when it begins, twice.
    """
    first = bisect_left(frame_seconds, start_seconds - _SLACK)
    last = bisect_left(frame_seconds, end_seconds - _SLACK) - 1
    if last < first:
        first = last = max(0, min(first, len(frame_seconds)) - 1)
    return first, last


def spans_on_frames(
    spans: Sequence[tuple[float, float]], frame_seconds: Sequence[float]
) -> list[tuple[float, float]]:
    """Spans as times of their first and last frames; spans that touch are made one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(frame_span(start, end, frame_seconds) for start, end in spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return [(frame_seconds[first], frame_seconds[last]) for first, last in merged]


def question_turn(question: Question, frame_seconds: Sequence[float], shift: float) -> Turn:
    """A question as a turn; `frame_seconds` include `shift`, the question's own times do not."""
    frames = [t - shift for t in frame_seconds]
    prompt = question_prompt(question.text, question.choices)
    listed = []
    if prompt != question.text:
        for choice, (start, end) in zip(question.choices, question.choice_spans, strict=False):
            first, last = frame_span(start, end, frames)
            beside = frame_seconds[max(0, first - 1)], frame_seconds[min(last + 1, len(frames) - 1)]
            listed.append((choice, beside))
    return Turn(
        family=question.family,
        prompt=_shifted(prompt, frames, shift, "shown"),
        answer=_shifted(normalize_answer(question.answer), frames, shift, "from"),
        spans=_shown_spans(question.answer_spans, frame_seconds, shift),
        listed=tuple(listed),
    )


def _shown_spans(
    spans: Sequence[tuple[float, float]], frame_seconds: Sequence[float], shift: float
) -> tuple[tuple[float, float], ...]:
    """Spans of the world's times as presentation times of their first and last frames."""
    moved = [(start + shift, end + shift) for start, end in spans]
    return tuple(spans_on_frames(moved, frame_seconds))


def _shifted(
    text: str, frames: Sequence[float], shift: float, snap: Literal["shown", "from"]
) -> str:
    marked = mark_times(text, frames, snap)
    if shift == 0.0 or marked == text:
        return marked
    # The world's times start at 0; the file's clock may not.
    return _MARKS.sub(lambda m: timestamp_text(parse_timestamp(m[0]) + shift), marked)


def grounding_turn(
    text: str, spans: Sequence[tuple[float, float]], frame_seconds: Sequence[float], shift: float
) -> Turn:
    """A grounding query as a turn; without spans its answer is that it is not in the video."""
    shown = _shown_spans(spans, frame_seconds, shift)
    answer = format_spans(shown) if shown else NOT_IN_VIDEO
    return Turn(family="grounding", prompt=grounding_prompt(text), answer=answer, spans=shown)


def caption_turn(spec: VideoSpec, frame_seconds: Sequence[float], shift: float) -> Turn:
    """The dense captions of a video as a turn; scenes that no frame shows have none.

    At level "full" the largest objects are told of first: in an order that nothing shows, what was
    told already is hard to know, and things were told twice or not at all.
    """
    is_full = isinstance(spec, FullVideo)
    captions = make_full_captions(spec, largest_first=True) if is_full else make_captions(spec)
    lines = []
    for start, end, text in captions:
        first, last = frame_span(start + shift, end + shift, frame_seconds)
        if frame_seconds[first] >= start + shift - _SLACK:
            lines.append((frame_seconds[first], frame_seconds[last], text))
    return Turn(
        family="caption",
        prompt=CAPTION_PROMPT,
        answer=format_captions(lines),
        spans=((frame_seconds[0], frame_seconds[-1]),),
    )


def make_turns(
    spec: VideoSpec,
    frame_seconds: Sequence[float],
    shift: float,
    seed: int,
    num_turns: int,
    weights: Mapping[str, float] | None = None,
) -> list[Turn]:
    """`num_turns` turns about a video: its captions, up to a quarter grounding, the rest questions.

    Questions and queries are drawn evenly or, with `weights` of their kinds (1 for those not in
    it), in proportion to these. `frame_seconds` are presentation times, the world's times plus
    `shift`. A video with more scenes than can be counted gets turns about its needles, and footage
    about what its picture does, as many as there are. At level "full" some questions and queries
    are `as_typed`.
    """
    rng = random.Random(f"turns:{spec.split}:{spec.seed}:{seed}")
    frames = [seconds - shift for seconds in frame_seconds]  # in the world's times
    if isinstance(spec, FootageVideo):
        questions = footage_questions(spec, rng, seed)
        queries = footage_queries(spec, rng, frames)
        turns = [grounding_turn(*query, frame_seconds, shift) for query in queries]
        turns += [question_turn(question, frame_seconds, shift) for question in questions]
        return turns[:num_turns]
    if len(spec.scenes) > len(ORDINALS):
        return _needle_turns(spec, frame_seconds, shift, seed, num_turns)
    is_full = isinstance(spec, FullVideo)
    turns = [caption_turn(spec, frame_seconds, shift)]
    limit = max(1, num_turns // 4)
    queries = make_grounding(spec, seed, limit=_CHOICE * limit if weights else limit)
    if weights:
        queries = _weighted(queries, weights, rng)[:limit]
    for query in queries:
        if is_full and rng.random() < ABSENT_SHARE:
            turns.append(absent_turn(spec, rng))
        else:
            text = as_typed(query.text, rng) if is_full else query.text
            spans = query.spans
            if query.kind == "still":
                spans = still_on_frames(spans, frames, spec.duration_seconds)
            turns.append(grounding_turn(text, spans, frame_seconds, shift))
    if is_full:
        turns += main_colour_turns(spec, frame_seconds, shift)
        about_picture = picture_questions(spec, rng)
        turns += [question_turn(question, frame_seconds, shift) for question in about_picture]
        for text, spans in picture_queries(spec, rng):
            turns.append(grounding_turn(text, spans, frame_seconds, shift))
    # Level "full" has more than twice as many families; where kinds weigh, there is more to choose.
    share = 12 if is_full else 6
    per_family = max(1, num_turns // share) + bool(weights)
    questions = make_questions(spec, seed, per_family=per_family)
    if weights:
        questions = _weighted(questions, weights, rng)
    else:
        rng.shuffle(questions)
    for question in questions[: max(0, num_turns - len(turns))]:
        if is_full:
            question = replace(question, text=as_typed(question.text, rng))
        turns.append(question_turn(question, frame_seconds, shift))
    return turns[:num_turns]


def _weighted(
    items: Sequence[_Asked], weights: Mapping[str, float], rng: random.Random
) -> list[_Asked]:
    """The items in an order drawn without replacement, those of weightier kinds sooner."""
    return sorted(
        items, key=lambda item: rng.random() ** (1 / weights.get(item.kind, 1.0)), reverse=True
    )


def main_colour_turns(spec: FullVideo, frame_seconds: Sequence[float], shift: float) -> list[Turn]:
    """A question for the main colour of the video, or of a scene, where there is one.

    Most backgrounds are grey: only a few of those are asked for, and no others are left out.
    """
    rng = random.Random(f"main colour:{spec.split}:{spec.seed}")
    grey_too = rng.random() < GREY_SHARE
    scenes = {background_colour([scene]): scene for scene in spec.scenes}
    names = sorted(name for name in scenes if name and (grey_too or name != "grey"))
    if not names:
        return []
    colour = rng.choice(names)
    if background_colour(spec.scenes) == colour:
        text, spans = rng.choice(MAIN_COLOUR_WORDINGS), [(0.0, spec.duration_seconds)]
    else:
        spans = [scenes[colour].shown]
        text = rng.choice(MAIN_COLOUR_AT_WORDINGS).format(time=f"{sum(spans[0]) / 2:.1f}s")
    question = picture_question("main colour", text, colour, spans)
    return [question_turn(question, frame_seconds, shift)]


def absent_turn(spec: FullVideo, rng: random.Random) -> Turn:
    """A grounding query for an object that the video never shows.

    Its colour, its shape, or both are in the video, so that knowing the words is not enough.
    """
    looks = Timeline(spec).looks()
    colours, shapes = sorted({c for c, _ in looks}), sorted({s for _, s in looks})
    near = [(c, s) for c in colours for s in SHAPES] + [
        (c, s) for c in full_wording.COLOURS for s in shapes
    ]
    colour, shape = rng.choice([look for look in near if look not in looks])
    name = f"{colour} {shape}"
    text = full_wording.draw_wording(
        rng,
        full_wording.GROUNDING_WORDINGS,
        "object",
        spec.split,
        {"object": name, "an_object": an(name)},
    )
    return grounding_turn(text, [], [], 0.0)


def _needle_turns(
    spec: VideoSpec, frame_seconds: Sequence[float], shift: float, seed: int, num_turns: int
) -> list[Turn]:
    rng = random.Random(f"needle turns:{spec.split}:{spec.seed}:{seed}")
    turns = []
    for track in needles(spec):
        shape = track.item.shape
        slots = {"shape": shape, "a_shape": an(shape)}
        if isinstance(spec, FullVideo):
            table = full_wording.GROUNDING_WORDINGS
            text = full_wording.draw_wording(rng, table, "shape", spec.split, slots)
        else:
            text = rng.choice(GROUNDING_WORDINGS["shape"]).format(**slots)
        turns.append(grounding_turn(text, [track.visible], frame_seconds, shift))
    questions = make_needle_questions(spec, seed)
    turns += [question_turn(question, frame_seconds, shift) for question in questions]
    rng.shuffle(turns)
    return turns[:num_turns]
