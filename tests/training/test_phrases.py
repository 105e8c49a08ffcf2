"""Words of captions know which object, in which scene, they tell of."""

import math
from itertools import accumulate

import pytest
import torch

from tests.training.test_tracks import looks_of
from timevlm.synth.captions import make_captions
from timevlm.synth.palette import COLOURS, SHAPES
from timevlm.synth.wording import split_phrases
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.tasks.captioning import format_captions
from timevlm.training.batches import BatchConfig, VideoSample, encode_turns, sample_videos
from timevlm.training.kinds import (
    BASIC,
    FULL,
    MOVE_SIZE,
    named_token_ids,
    separator_token_ids,
)
from timevlm.training.labels import patch_labels
from timevlm.training.nano import build_processor
from timevlm.training.phrases import (
    asked_phrases,
    caption_phrases,
    listed_phrases,
    phrase_tokens,
    time_phrases,
    told_columns,
)
from timevlm.training.tracks import phrase_loss, track_targets

CAPTIONS = [
    (0.0, 9.0, "a small blue star grows, a red ring that turns pink spins and the camera pans"),
    (10.0, 14.5, "a red ring moves in a circle"),
]
LOOKS = (*SHAPES, *COLOURS)


def test_phrases_cover_the_words_that_tell_of_an_object():
    processor = build_processor()
    answer = format_captions(CAPTIONS)
    ids = processor.answer_ids(answer)
    phrases = caption_phrases(answer, BASIC, processor.num_answer_tokens)
    told = [processor.tokenizer.decode(ids[p.first + 1 : p.last + 2]).strip() for p in phrases]
    assert told == [
        "a small blue star grows",
        "a red ring that turns pink spins",
        "a red ring moves in a circle",
    ]
    named = [{name for name, has in zip(LOOKS, p.looks, strict=True) if has} for p in phrases]
    assert named == [{"blue", "star"}, {"red", "ring", "pink"}, {"red", "ring"}]
    spans = [(p.start_seconds, p.end_seconds) for p in phrases]
    assert spans == [(0.0, 9.0), (0.0, 9.0), (10.0, 14.5)]


@pytest.mark.parametrize("level", ["basic", "full"])
def test_tokens_of_a_batch_stand_before_words_of_their_rows_answer(level):
    config = BatchConfig(level=level, num_videos=2, turns_per_video=12)
    batch = encode_turns(config, build_processor(level), sample_videos(config, 0), seed=0)
    phrases = batch.phrases
    captions = phrases.rows[phrases.looks.any(dim=1)]
    assert len(set(captions.tolist())) == 2  # one caption a video
    assert len(set(phrases.rows.tolist())) > 4  # and answers that tell times
    assert bool((batch.labels[phrases.rows, phrases.places + 1] >= 0).all())
    assert bool((phrases.spans[:, 0] <= phrases.spans[:, 1]).all())
    (row,) = set(phrases.rows[:1].tolist())
    alone = phrases.of_rows(torch.tensor([len(batch.text_ids), row]))
    assert alone.rows.tolist() == [1] * int((phrases.rows == row).sum())


def test_the_loss_is_the_attention_on_the_object_in_its_scene():
    answer = format_captions([(10.0, 14.0, "a red ring blinks")])
    (phrase,) = caption_phrases(answer, BASIC, build_processor().num_answer_tokens)
    asked = phrase_tokens([(0, 5, phrase)], BASIC)
    assert asked.places.tolist() == list(range(5 + phrase.first, 5 + phrase.last + 1))
    targets = looks_of(("red", "ring"), ("red", "ring"), ("red", "star"), None)
    targets = targets.expand(len(asked.rows), -1, -1)
    seconds = torch.tensor([[9.0, 14.0, 12.0, 12.0]]).expand(len(asked.rows), -1)
    attention = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).expand(len(asked.rows), -1)
    loss = phrase_loss(attention, targets, seconds, asked)
    expected = -len(asked.rows) * torch.tensor(0.3 + 1e-4).log()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    # An object that no kept token shows in time teaches nothing.
    assert float(phrase_loss(attention, targets, seconds + 100.0, asked)) == 0.0


def test_columns_told_are_what_labels_say_of_the_scene():
    starts = dict(zip(FULL.lessons, accumulate((0, *FULL.track_sizes)), strict=False))
    lesson_of = {start: lesson for lesson, start in starts.items()}
    lessons = ("motion", "earlier colour", "camera", "light", "word", "tens", "ones")
    seen = dict.fromkeys(lessons, 0)
    for seed in range(40):
        spec = sample_video(seed, level="full")
        sample = VideoSample(spec=spec, seconds=frame_seconds(spec, 2.0), shift=0.0)
        labels = patch_labels([sample], 12, outline=False)
        targets = track_targets(labels, FULL)
        for number, (_, _, text) in enumerate(make_captions(spec)):
            in_scene = targets[labels.scenes == number]
            for phrase in split_phrases(text):
                for column in told_columns(phrase, FULL):
                    lesson = lesson_of[max(start for start in lesson_of if start <= column)]
                    seen[lesson] += bool(in_scene[..., column].any())
                    told = column - starts[lesson]
                    others = [*range(starts[lesson], starts[lesson] + FULL.lessons[lesson] - 1)]
                    if lesson in ("camera", "light"):
                        others.remove(starts[lesson] + told)
                        assert not in_scene[..., others].any(), phrase
    assert min(seen.values()) > 5, seen
    assert told_columns("the square collides with the circle", FULL) == ()
    assert told_columns("a red star moves left", BASIC) == ()
    (left,) = told_columns("a red star moves left", FULL)
    assert left == starts["motion"] + FULL.motions.index("left")
    turned = told_columns("a small red dotted star that turns blue moves left", FULL)
    assert turned == (left, starts["earlier colour"] + FULL.colours.index("red"))
    tens, ones = told_columns("the text 47 appears", FULL)
    assert (tens - starts["tens"], ones - starts["ones"]) == (3, 7)


def test_a_phrase_wants_what_it_tells_and_not_the_object_alone():
    answer = format_captions([(10.0, 14.0, "a red ring blinks and the camera shakes")])
    ring, camera = caption_phrases(answer, FULL, build_processor("full").num_answer_tokens)
    assert any(ring.looks)
    assert not any(camera.looks)
    targets = torch.zeros(1, 3, sum(FULL.track_sizes) + MOVE_SIZE)
    targets[..., len(FULL.shapes)] = 1.0  # background
    shape, colour = FULL.shapes.index("ring"), list(FULL.colours).index("red")
    targets[0, :2, len(FULL.shapes)] = 0.0
    targets[0, :2, [shape, len(FULL.shapes) + 1 + colour]] = 1.0  # tokens of the ring
    targets[0, 1, ring.columns[0]] = 1.0  # of which the second has begun to blink
    targets[0, 2, camera.columns[0]] = 1.0
    seconds, attention = torch.full((1, 3), 12.0), torch.tensor([[0.5, 0.3, 0.2]])
    for phrase, share in ((ring, 0.3), (camera, 0.2)):
        asked = phrase_tokens([(0, 5, phrase)], FULL)
        rows = (each.expand(len(asked.rows), *each.shape[1:]) for each in (attention, targets))
        loss = phrase_loss(*rows, seconds.expand(len(asked.rows), -1), asked, FULL)
        assert float(loss) / len(asked.rows) == pytest.approx(-math.log(share + 1e-4), rel=1e-5)


@pytest.mark.parametrize(
    ("answer", "told", "times"),
    [
        ("at <12.0s>", ["<12.0s>"], [12.0]),
        ("<3.0s> - <1234.5s>, <2000.0s> - <2001.0s>", None, [3.0, 1234.5, 2000.0, 2001.0]),
        ("<3.0s> - <9.0s> a red ring blinks", ["<3.0s>", "<9.0s>"], [3.0, 9.0]),
        ("a red ring", [], []),
    ],
)
def test_times_of_answers_are_phrases_about_their_frames(answer, told, times):
    processor = build_processor()
    ids = processor.answer_ids(answer)
    phrases = time_phrases(answer, BASIC, processor.num_answer_tokens)
    assert [p.start_seconds for p in phrases] == [p.end_seconds for p in phrases] == times
    assert not any(any(p.looks) for p in phrases)
    words = [processor.tokenizer.decode(ids[p.first + 1 : p.last + 2]) for p in phrases]
    assert words == ([f"<{t:.1f}s>" for t in times] if told is None else told)


def test_a_time_wants_any_token_of_its_frame_and_no_timestamp():
    (phrase,) = time_phrases("at <14.0s>", BASIC, build_processor().num_answer_tokens)
    asked = phrase_tokens([(0, 5, phrase)], BASIC)
    targets = looks_of(("red", "ring"), None, ("red", "star"), None)
    targets[0, 3] = 0.0  # a timestamp, or padding
    count = len(asked.rows)
    seconds = torch.tensor([[14.0, 14.0, 12.0, 14.0]]).expand(count, -1)
    attention = torch.tensor([[0.1, 0.3, 0.2, 0.4]]).expand(count, -1)
    loss = phrase_loss(attention, targets.expand(count, -1, -1), seconds, asked)
    expected = -count * torch.tensor(0.1 + 0.3 + 1e-4).log()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_words_of_a_question_look_for_what_they_name():
    processor = build_processor()
    ids = processor.prompt_ids("Which comes first, the red ring or the circle?")
    named = named_token_ids(processor, BASIC)
    phrases = asked_phrases(ids, named, [(3.0, 7.0), (12.0, 15.0)])
    words = [processor.tokenizer.decode([ids[p.first]]).strip() for p in phrases]
    assert words == ["red", "ring", "circle"]
    looks = [{name for name, has in zip(LOOKS, p.looks, strict=True) if has} for p in phrases]
    assert looks == [{"red"}, {"red", "ring"}, {"circle"}]
    assert {(p.first == p.last, p.start_seconds, p.end_seconds) for p in phrases} == {
        (True, 3.0, 15.0)
    }


def test_questions_of_order_are_in_a_batch():
    config = BatchConfig(num_videos=1, turns_per_video=24, max_frames=200, long_share=1.0)
    processor = build_processor()
    batch = encode_turns(config, processor, sample_videos(config, 0), seed=0)
    named = named_token_ids(processor, BASIC)
    assert len(batch.asked.rows) >= 4
    assert set(batch.text_ids[batch.asked.rows, batch.asked.places].tolist()) <= set(named)
    assert bool((batch.asked.places <= batch.rank_index[batch.asked.rows]).all())


def test_the_last_words_of_listed_clauses_look_for_what_happens():
    processor = build_processor("full")
    listed = [("the red ring stops", (3.0, 5.0)), ("the camera pans left", (8.0, 10.0))]
    question = "Of these, which happens first? the red ring stops, the camera pans left."
    for prompt in (question, question.replace("?", "")):  # as people type
        ids = processor.prompt_ids(prompt, [("Which of these is there? a ring, a star.", "a ring")])
        found = listed_phrases(ids, separator_token_ids(processor, FULL), listed, FULL)
        words = [processor.tokenizer.decode([ids[p.first]]).strip() for p in found]
        assert words == ["stops", "left"]
        assert all(p.first == p.last for p in found)
        assert [(p.start_seconds, p.end_seconds) for p in found] == [(3.0, 5.0), (8.0, 10.0)]
        assert [sum(p.looks) for p in found] == [2, 0]
        assert [len(p.columns) for p in found] == [0, 1]


def test_questions_of_events_are_in_a_batch():
    config = BatchConfig(level="full", num_videos=2, turns_per_video=80)
    processor = build_processor("full")
    batch = encode_turns(config, processor, sample_videos(config, 2), seed=0)
    marks = torch.tensor(separator_token_ids(processor, FULL))
    named = torch.tensor(named_token_ids(processor, FULL))
    rows, places = batch.asked.rows, batch.asked.places
    told = torch.isin(batch.text_ids[rows, places], named)
    assert 3 <= int((~told).sum()) < int(told.sum())
    assert torch.isin(batch.text_ids[rows, places + 1][~told], marks).all()


def test_questions_of_lengths_want_even_looks():
    processor = build_processor()
    ids = processor.prompt_ids("Which is longer in view, the ring or the star?")
    found = asked_phrases(ids, named_token_ids(processor, BASIC), [(0.0, 9.0)], evenly=True)
    ring = [phrase for phrase in found if phrase.looks[SHAPES.index("ring")]]
    asked = phrase_tokens([(0, 0, phrase) for phrase in ring], BASIC)
    assert asked.evenly.tolist() == [True]
    assert asked.of_rows(torch.tensor([0])).evenly.tolist() == [True]
    targets = looks_of(("red", "ring"), ("blue", "ring"), ("red", "star"), None)
    seconds = torch.tensor([[0.0, 5.0, 5.0, 5.0]])

    def loss(*attention: float) -> float:
        return float(phrase_loss(torch.tensor([attention]), targets, seconds, asked))

    assert loss(0.5, 0.5, 0.0, 0.0) == pytest.approx(0.0, abs=1e-3)
    # All of it on the ring, but on one of its looks.
    assert loss(1.0, 0.0, 0.0, 0.0) > loss(0.7, 0.3, 0.0, 0.0) > 0.05
    assert loss(0.25, 0.25, 0.5, 0.0) == pytest.approx(math.log(2.0), abs=1e-2)
