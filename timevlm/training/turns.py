"""Supervised turns about one video: every task of the model as (prompt, answer) text.

Questions, grounding and captions come from the world's timeline; their times are moved to the
frames that the model will see, because it can only know what its frames show.
"""

import random
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from timevlm.synth.captions import make_captions
from timevlm.synth.grounding import make_grounding
from timevlm.synth.questions import Question, make_questions
from timevlm.synth.spec import VideoSpec
from timevlm.tasks.captioning import CAPTION_PROMPT, format_captions
from timevlm.tasks.grounding import format_spans, grounding_prompt
from timevlm.tasks.qa import question_prompt
from timevlm.tasks.text import normalize_answer
from timevlm.tasks.times import mark_times
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, parse_timestamp, timestamp_text

_SLACK = 1e-6
_MARKS = re.compile(TIMESTAMP_PATTERN)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One prompt with its answer, as text."""

    family: str
    prompt: str
    answer: str


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
    return Turn(
        family=question.family,
        prompt=_shifted(question_prompt(question.text), frames, shift, "shown"),
        answer=_shifted(normalize_answer(question.answer), frames, shift, "from"),
    )


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
    """A grounding query as a turn."""
    moved = [(start + shift, end + shift) for start, end in spans]
    answer = format_spans(spans_on_frames(moved, frame_seconds))
    return Turn(family="grounding", prompt=grounding_prompt(text), answer=answer)


def caption_turn(spec: VideoSpec, frame_seconds: Sequence[float], shift: float) -> Turn:
    """The dense captions of a video as a turn."""
    lines = []
    for start, end, text in make_captions(spec):
        first, last = frame_span(start + shift, end + shift, frame_seconds)
        lines.append((frame_seconds[first], frame_seconds[last], text))
    return Turn(family="caption", prompt=CAPTION_PROMPT, answer=format_captions(lines))


def make_turns(
    spec: VideoSpec, frame_seconds: Sequence[float], shift: float, seed: int, num_turns: int
) -> list[Turn]:
    """`num_turns` turns about a video: its captions, up to a quarter grounding, the rest questions.

    `frame_seconds` are presentation times, the world's times plus `shift`.
    """
    rng = random.Random(f"turns:{spec.split}:{spec.seed}:{seed}")
    turns = [caption_turn(spec, frame_seconds, shift)]
    for query in make_grounding(spec, seed, limit=max(1, num_turns // 4)):
        turns.append(grounding_turn(query.text, query.spans, frame_seconds, shift))
    questions = make_questions(spec, seed, per_family=max(1, num_turns // 6))
    rng.shuffle(questions)
    for question in questions[: max(0, num_turns - len(turns))]:
        turns.append(question_turn(question, frame_seconds, shift))
    return turns[:num_turns]
