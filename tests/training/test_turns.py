"""Supervised turns: their times are those of frames that the model sees."""

import re
from dataclasses import replace

import pytest

from timevlm.api import MAX_SPANS
from timevlm.synth.captions import make_captions
from timevlm.synth.full.grounding import FINDERS
from timevlm.synth.full.wording import GROUNDING_WORDINGS
from timevlm.synth.grounding import make_grounding
from timevlm.synth.items import Question
from timevlm.synth.long import needles, sample_long_video
from timevlm.synth.timeline import Timeline
from timevlm.synth.wording import split_phrases
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.tasks.captioning import parse_captions
from timevlm.tasks.grounding import NOT_IN_VIDEO, format_spans, grounding_prompt, parse_spans
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, timestamp_text
from timevlm.training.evaluate_captions import phrases_in_any_order
from timevlm.training.nano import build_processor
from timevlm.training.turns import (
    caption_turn,
    frame_span,
    make_turns,
    question_turn,
    spans_on_frames,
)

FRAMES = [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 5.0, (0, 4)),
        (1.0, 3.0, (1, 2)),  # half open: the frame at 3.0 is another scene's
        (1.0, 3.1, (1, 3)),
        (0.5, 2.5, (1, 2)),
        (1.0000004, 2.9999996, (1, 2)),  # rounding noise
        (1.2, 1.8, (1, 1)),  # no frame inside: the one on the screen
        (0.0, 0.5, (0, 0)),
        (4.5, 9.0, (4, 4)),
        (7.0, 9.0, (4, 4)),
        (-2.0, -1.0, (0, 0)),
        (2.0, 2.0, (1, 1)),
    ],
)
def test_frame_span(start, end, expected):
    assert frame_span(start, end, FRAMES) == expected


def test_spans_that_share_a_frame_become_one():
    assert spans_on_frames([(3.0, 5.0), (0.0, 1.5)], FRAMES) == [(0.0, 1.0), (3.0, 4.0)]
    assert spans_on_frames([(0.0, 1.3), (1.6, 1.8)], FRAMES) == [(0.0, 1.0)]
    assert spans_on_frames([(0.0, 4.0), (1.0, 2.0)], FRAMES) == [(0.0, 3.0)]


@pytest.mark.parametrize("shift", [0.0, 7.0, 3599.0])
@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_times_of_turns_are_times_of_frames(shift, fps):
    for seed in range(8):
        spec = sample_video(seed)
        frames = (frame_seconds(spec, fps) + shift).tolist()
        stamps = {timestamp_text(t) for t in frames}
        turns = make_turns(spec, frames, shift, seed=1, num_turns=24)
        assert len(turns) == 24
        for turn in turns:
            assert set(re.findall(TIMESTAMP_PATTERN, turn.answer)) <= stamps, turn
            assert set(re.findall(TIMESTAMP_PATTERN, turn.prompt)) <= stamps, turn
            if turn.family == "grounding":
                parse_spans(turn.answer)


@pytest.mark.parametrize("shift", [0.0, 700.0])
def test_listed_events_come_with_the_frames_beside_them(shift):
    spans = ((2.5, 3.5), (0.0, 0.4))
    question = Question(
        family="order",
        kind="order.event_first",
        text="Which of these happens first?",
        answer="the star stops",
        choices=("the ring grows", "the star stops"),
        answer_spans=spans,
        choice_spans=spans,
    )
    frames = [t + shift for t in FRAMES]
    listed = question_turn(question, frames, shift).listed
    beside = [(2.0 + shift, 4.0 + shift), (shift, 1.0 + shift)]
    assert listed == tuple(zip(question.choices, beside, strict=True))
    unlisted = replace(question, text="What happens first?")
    assert question_turn(unlisted, frames, shift).listed == ()
    assert question_turn(replace(question, choice_spans=()), frames, shift).listed == ()


def plain(text: str, shift: float) -> str:
    """Text with every timestamp set back by `shift`."""
    return re.sub(TIMESTAMP_PATTERN, lambda m: timestamp_text(float(m[0][1:-2]) - shift), text)


def test_a_shifted_clock_shifts_the_times_and_nothing_else():
    for seed in range(8):
        spec = sample_video(seed)
        seconds = frame_seconds(spec, 1.0).tolist()
        here = make_turns(spec, seconds, 0.0, seed=1, num_turns=24)
        there = make_turns(spec, [t + 100.0 for t in seconds], 100.0, seed=1, num_turns=24)
        assert [plain(t.answer, 100.0) for t in there] == [t.answer for t in here]
        assert [plain(t.prompt, 100.0) for t in there] == [t.prompt for t in here]
        assert [t.answer for t in there] != [t.answer for t in here]


def test_captions_and_grounding_say_when_the_world_says():
    """At one frame a tenth of a second, nothing is lost to sampling."""
    for seed in range(4):
        spec = sample_video(seed)
        frames = [t / 10 for t in range(round(spec.duration_seconds * 10))]
        turns = make_turns(spec, frames, 0.0, seed=3, num_turns=12)
        captions = parse_captions(turns[0].answer)
        for (start, end, text), scene in zip(captions, make_captions(spec), strict=True):
            assert text == scene[2]
            assert (start, end) == (scene[0], pytest.approx(scene[1] - 0.1, abs=0.001))
        answers = [t.answer for t in turns if t.family == "grounding"]
        queries = make_grounding(spec, 3, limit=3)
        for answer, query in zip(answers, queries, strict=True):
            expected = [(s, pytest.approx(e - 0.1, abs=0.001)) for s, e in sorted(query.spans)]
            if all(a[1] < b[0] for a, b in zip(query.spans, query.spans[1:], strict=False)):
                assert parse_spans(answer) == expected


@pytest.mark.parametrize(
    ("level", "seeds", "most_words", "most_spans"),
    [("basic", (26, 177), 26, 2), ("full", (16, 269), 40, 8)],
)
def test_what_is_taught_can_be_told(level, seeds, most_words, most_spans):
    """No limit of a grammar cuts an answer off: videos of the longest lines and the most spans."""
    processor = build_processor(level)
    num_words, num_spans = 0, 0
    for seed in seeds:
        spec = sample_video(seed, split="test", level=level)
        frames = frame_seconds(spec, 1.0).tolist()
        captions = caption_turn(spec, frames, 0.0).answer
        num_words = max(num_words, *(len(text.split()) for *_, text in parse_captions(captions)))
        spans = [
            format_spans(spans_on_frames(query.spans, frames))
            for query in make_grounding(spec, seed, limit=8)
        ]
        num_spans = max(num_spans, *(len(parse_spans(answer)) for answer in spans))
        for grammar, answers in (
            (processor.caption_grammar(frames), [captions]),
            (processor.span_grammar(frames, max_spans=MAX_SPANS), spans),
        ):
            for answer in answers:
                state = grammar.start()
                for token in processor.answer_ids(answer):
                    assert token in grammar.allowed(state), answer
                    state = grammar.advance(state, token)
                assert grammar.finished(state)
    assert num_words >= most_words
    assert num_spans >= most_spans


def test_captions_of_level_full_tell_of_the_largest_first():
    ranks = {"large": 0, "small": 2}
    num_reordered = 0
    for seed in range(30):
        spec = sample_video(seed, level="full")
        frames = frame_seconds(spec, 2.0).tolist()
        told = parse_captions(caption_turn(spec, frames, 0.0).answer)
        painted = [text for *_, text in make_captions(spec)]
        for (_, _, text), there in zip(told, painted, strict=True):
            phrases = split_phrases(text)
            assert phrases_in_any_order(text) == phrases_in_any_order(there)
            things = [words.split()[1] for words in phrases if words.split()[0] in ("a", "an")]
            order = [ranks.get(first, 1) for first in things]
            assert order == sorted(order)
            num_reordered += text != there
    assert num_reordered > 10


def test_turns_depend_on_their_seed_alone():
    spec = sample_video(5)
    frames = frame_seconds(spec, 1.0).tolist()

    def turns(seed: int) -> list:
        return make_turns(spec, frames, 0.0, seed=seed, num_turns=12)

    assert turns(1) == turns(1)
    assert turns(1) != turns(2)


def test_turns_of_level_full_are_about_its_frames_and_its_absences():
    absent = 0
    for seed in range(12):
        spec = sample_video(seed, level="full")
        frames = (frame_seconds(spec, 1.0) + 7.0).tolist()
        stamps = {timestamp_text(t) for t in frames}
        turns = make_turns(spec, frames, 7.0, seed=1, num_turns=24)
        assert len(turns) == 24
        assert len({turn.family for turn in turns}) >= 8
        looks = Timeline(spec).looks()
        for turn in turns:
            assert set(re.findall(TIMESTAMP_PATTERN, turn.answer)) <= stamps, turn
            if turn.family == "grounding" and turn.answer == NOT_IN_VIDEO:
                words = set(re.findall("[a-z]+", turn.prompt))
                assert not any({colour, shape} <= words for colour, shape in looks), turn
                absent += 1
            elif turn.family == "grounding":
                assert parse_spans(turn.answer)
    assert 2 <= absent <= 20


@pytest.mark.parametrize("level", ["basic", "full"])
def test_long_videos_are_asked_about_their_needles(level):
    spec = sample_long_video(3, 90, split="train", level=level)
    frames = frame_seconds(spec, 1.0).tolist()
    turns = make_turns(spec, frames, 0.0, seed=1, num_turns=24)
    assert {turn.family for turn in turns} == {"grounding", "needle", "order"}
    spans = [turn.answer for turn in turns if turn.family == "grounding"]
    expected = [format_spans(spans_on_frames([t.visible], frames)) for t in needles(spec)]
    assert sorted(spans) == sorted(expected)
    assert make_turns(spec, frames, 0.0, seed=1, num_turns=2) == turns[:2]


def test_kinds_of_queries_that_weigh_more_are_asked_more_often():
    counts = []
    heavy = ("still", "any_transition")
    weights = {kind: 1.0 if kind in heavy else 0.02 for kind in FINDERS}
    asked = {grounding_prompt(text) for kind in heavy for text in GROUNDING_WORDINGS[kind][0]}
    for chosen in ({"scene.nth": 1.0}, weights):
        prompts = []
        for seed in range(30):
            spec = sample_video(seed, level="full")
            turns = make_turns(spec, frame_seconds(spec, 1.0).tolist(), 0.0, seed, 16, chosen)
            prompts += [turn.prompt for turn in turns if turn.family == "grounding"]
        counts.append((len(prompts), sum(prompt in asked for prompt in prompts)))
    assert abs(counts[0][0] - counts[1][0]) < 0.05 * counts[0][0]  # not more queries, but others
    assert counts[1][1] > 1.5 * counts[0][1]


def test_kinds_that_weigh_more_are_asked_more_often():
    counts = {}
    relations = ("where", "bigger", "smaller", "collides", "overtakes", "overtaken")
    for weights in (None, {"scene.nth": 0.02, **{f"relation.{r}": 50.0 for r in relations}}):
        families = []
        for seed in range(30):
            spec = sample_video(seed, level="full")
            seconds = frame_seconds(spec, 1.0).tolist()
            turns = make_turns(spec, seconds, 0.0, seed, 16, weights)
            families += [turn.family for turn in turns]
        counts[weights is not None] = [families.count(name) for name in ("relation", "scene")]
    assert counts[True][0] > 1.5 * counts[False][0]
    assert counts[True][1] < 0.5 * counts[False][1]
