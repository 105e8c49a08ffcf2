"""What a user calls: watch, ask, ground, caption, chat, on a tiny model with random weights."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.helpers import (
    frames,
    random_pixels,
    save_tiny,
    tiny_model,
    tiny_processor,
    tiny_vlm,
    write_mp4,
)
from tests.video.synthesis import write_audio
from timevlm import api, generation
from timevlm.api import AUDIO_IGNORED, TimeVLM
from timevlm.choosing import ranked_confidences
from timevlm.errors import ChoiceError, InputError, MemoryFileError, VideoError
from timevlm.memory import VideoMemory
from timevlm.results import Answer
from timevlm.training.evaluate_captions import is_repeated
from timevlm.video.sampling import SamplingPlan
from timevlm.video.tensor_frames import TensorFrames

CHOICES = ["Red.", "blue", "a green star"]


@pytest.fixture(scope="module")
def vlm() -> TimeVLM:
    return tiny_vlm()


@pytest.fixture(scope="module")
def memory(vlm) -> VideoMemory:
    return vlm.watch(frames(8))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """2.5 seconds, so that the last of one frame a second lasts only half of one."""
    return write_mp4(tmp_path_factory.mktemp("video") / "v.mp4", 10, fps=4)


def test_watching_tensors(vlm):
    seen = []
    memory = vlm.watch(frames(5, batch_size=2, step=0.5), progress=lambda *n: seen.append(n))
    assert memory.num_frames == 5
    assert (memory.start_seconds, memory.end_seconds) == (0.0, 2.5)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert memory.model_name == "tiny"
    assert memory.video_path == ""


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batches_of_a_stream_do_not_matter(vlm, memory, batch_size):
    other = vlm.watch(frames(8, batch_size=batch_size))
    assert torch.equal(other.held_seconds, memory.held_seconds)
    kept, expected = (m.state.consolidated().held_video.parts[0] for m in (other, memory))
    torch.testing.assert_close(kept, expected, atol=2e-5, rtol=1e-4)


def test_watching_a_file(vlm, video):
    memory = vlm.watch(video)
    assert memory.frame_seconds.tolist() == [0.0, 1.0, 2.0]
    assert memory.end_seconds == pytest.approx(2.5, abs=0.01)
    assert memory.video_path == str(video)
    assert memory.warnings == ()
    assert memory.timings.decode > 0
    assert memory.plan["fps"] == 1.0


def test_sound_that_is_ignored_is_said(vlm, video, tmp_path):
    memory = vlm.watch(write_audio(tmp_path / "talk.mp4", pictures=video))
    assert memory.frame_seconds.tolist() == [0.0, 1.0, 2.0]
    assert memory.warnings == (AUDIO_IGNORED,)
    assert vlm.ask(memory, "What is said?").warnings[0] == AUDIO_IGNORED


def test_a_file_can_be_watched_in_part_and_at_another_rate(vlm, video):
    part = vlm.watch(video, fps=2, start=0.5, end=1.6)
    assert part.frame_seconds.tolist() == [0.5, 1.0, 1.5]
    assert part.end_seconds == pytest.approx(1.6)
    assert vlm.watch(video, max_frames=2).num_frames == 2
    assert vlm.watch(video, plan=SamplingPlan(fps=4.0)).num_frames == 10


def test_a_plan_beats_the_other_arguments(vlm, video):
    memory = vlm.watch(video, plan=SamplingPlan(max_frames=1, mode="uniform"), fps=4)
    assert memory.num_frames == 1


def test_ask_takes_a_path_a_memory_or_frames(vlm, video, tmp_path):
    memory = vlm.watch(video)
    memory.save(tmp_path / "m.tvm")
    answers = [
        vlm.ask(source, "Why?", choices=CHOICES)
        for source in (memory, video, str(video), tmp_path / "m.tvm", str(tmp_path / "m.tvm"))
    ]
    for answer in answers[1:]:
        assert answer.choice == answers[0].choice
        assert answer.confidence == pytest.approx(answers[0].confidence, abs=1e-5)
        assert [s.start for s in answer.evidence] == [s.start for s in answers[0].evidence]
    assert vlm.ask(frames(3), "Why?", choices=CHOICES).choice in range(3)


def test_ask_with_choices(vlm, memory):
    answer = vlm.ask(memory, "What colour is the circle?", choices=CHOICES)
    assert isinstance(answer, Answer)
    assert answer.text == CHOICES[answer.choice]
    assert answer.choices == tuple(CHOICES)
    assert 1 / 3 <= answer.confidence <= 1.0
    assert answer.question == "What colour is the circle?"
    assert answer.model == "tiny"
    assert answer.plan == memory.plan
    assert answer.timings.generate > 0


def test_the_order_of_choices_does_not_matter(vlm, memory):
    forward = vlm.ask(memory, "What colour?", choices=CHOICES)
    backward = vlm.ask(memory, "What colour?", choices=CHOICES[::-1])
    assert forward.text == backward.text
    assert forward.confidence == pytest.approx(backward.confidence, abs=1e-6)


@pytest.mark.parametrize("question", ["What colour is the circle?", "When? At 2 s?"])
def test_scores_are_what_choices_are_compared_by(vlm, memory, question):
    scores = [score.log_probability for score in vlm.score(memory, question, CHOICES)]
    answer = vlm.ask(memory, question, choices=CHOICES)
    best, expected = ranked_confidences(scores, vlm.model.config.choice_temperature)
    assert answer.choice == best == max(range(3), key=lambda i: scores[i])
    assert answer.confidence == pytest.approx(expected[best], abs=1e-6)
    assert [s.log_probability for s in vlm.score(memory, question, ["BLUE. "])] == [scores[1]]


@pytest.mark.parametrize("answers", [["red", " "], "red"])
def test_answers_that_cannot_be_scored_are_refused(vlm, memory, answers):
    with pytest.raises(InputError, match=r"blank|list of texts"):
        vlm.score(memory, "What?", answers)


def test_a_shorter_answer_is_the_beginning_of_a_longer_one(vlm, memory):
    question = "What colour is the circle?"
    longest = vlm.ask(memory, question, max_new_tokens=12).text
    shorter = vlm.ask(memory, question, max_new_tokens=3).text
    assert longest.startswith(shorter)
    assert len(shorter) < len(longest)
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        vlm.ask(memory, question, max_new_tokens=0)


def test_ask_without_choices(vlm, memory):
    answer = vlm.ask(memory, "What colour is the circle?")
    assert answer.choice is None
    assert answer.choices == ()
    assert 0.0 < answer.confidence < 1.0
    assert answer == Answer.from_json(answer.to_json())


def test_different_videos_and_questions_differ(vlm, memory):
    def confidence(memory: VideoMemory, question: str) -> float:
        return vlm.ask(memory, question, choices=CHOICES).confidence

    first = confidence(memory, "What colour?")
    assert confidence(vlm.watch(frames(8, seed=1)), "What colour?") != first
    assert confidence(memory, "What shape?") != first


def test_answers_are_deterministic(vlm, memory):
    questions = ["What colour?", "Why?", "What colour?"]
    answers = [replace(vlm.ask(memory, q, seed=3), timings=memory.timings) for q in questions]
    assert answers[0] == answers[2]
    again = tiny_vlm()
    other = again.ask(again.watch(frames(8)), "What colour?")
    assert (other.text, other.confidence) == (answers[0].text, answers[0].confidence)


@pytest.mark.parametrize("count", [1, 2, 8, 13])
def test_evidence_lies_inside_the_video(vlm, count):
    memory = vlm.watch(frames(count, step=0.7))
    for question in ("Why?", "What colour is the circle?"):
        evidence = vlm.ask(memory, question, choices=CHOICES).evidence
        assert evidence
        for span in evidence:
            assert memory.start_seconds <= span.start <= span.end <= memory.end_seconds
        assert [s.score for s in evidence] == sorted((s.score for s in evidence), reverse=True)


def test_a_model_without_ranking_gives_no_evidence():
    plain = TimeVLM(tiny_model(()), tiny_processor(), "plain")
    answer = plain.ask(frames(4), "Why?", choices=CHOICES)
    assert answer.evidence == ()
    assert answer.choice in range(3)


@pytest.mark.parametrize("start", [0.0, -0.02, 3600.04])
@pytest.mark.parametrize("query", ["a red circle", "the star moves left", "x", "3 s"])
def test_ground_gives_sorted_spans_inside_the_video(vlm, start, query):
    seconds = start + torch.arange(9, dtype=torch.float64) * 0.04  # closer than a timestamp tells
    memory = vlm.watch(TensorFrames(random_pixels(9), seconds))
    spans = vlm.ground(memory, query)
    assert spans
    for span in spans:
        assert memory.start_seconds <= span.start <= span.end <= memory.end_seconds
        assert 0.0 < span.score <= 1.0
    assert all(a.end < b.start for a, b in pairwise(spans))


def test_captions_that_say_the_same_are_one(vlm, memory, monkeypatch):
    lines = [((0.0, 1.0, "red"), 0.8), ((1.0, 2.0, "blue"), 0.3), ((2.0, 3.0, "red"), 0.6)]
    for written, scores in ((lines, [0.8, 0.3, 0.6]), (lines[::2], [0.8])):
        monkeypatch.setattr(api, "write_lines", lambda *args, told=written, **options: told)
        assert [caption.score for caption in vlm.caption(memory)] == scores


def test_captions_are_those_that_likely_ones_agree_on(vlm, memory, monkeypatch):
    told = [
        ("<0.0s> - <1.0s> a star", 0.4),
        ("<0.0s> - <3.0s> a circle and a ring", 0.3),
        ("<0.0s> - <4.0s> a circle", 0.3),
    ]
    found = [(vlm.processor.answer_ids(text), math.log(p)) for text, p in told]
    asked = []
    monkeypatch.setattr(generation, "likely_answers", lambda *args: asked.append(args[3]) or found)
    (caption,) = vlm.caption(memory)
    assert (caption.start, caption.end, caption.text) == (0.0, 4.0, "a circle and a ring")
    assert caption.score == pytest.approx(0.3 + 0.3 * 2 / 3)
    vlm.caption(memory, num_beams=3)
    assert asked == [api.NUM_BEAMS, 3]
    with pytest.raises(InputError, match="num_beams is 0"):
        vlm.caption(memory, num_beams=0)


def test_spans_are_those_that_likely_answers_agree_on(vlm, memory, monkeypatch):
    told = [
        ("<0.0s> - <1.0s>", 0.3),
        ("<3.0s> - <3.0s>", 0.25),
        ("<3.0s> - <3.0s>, <5.0s> - <5.0s>", 0.2),
    ]
    answers = [(vlm.processor.answer_ids(text), math.log(p)) for text, p in told]
    monkeypatch.setattr(api, "likely_answers", lambda *args: answers)
    (span,) = vlm.ground(memory, "red")
    assert (span.start, span.end) == (2.5, 3.5)  # one frame alone
    assert span.score == pytest.approx(0.45 / 0.75)


def test_one_beam_is_as_greedy_as_it_says(vlm, memory, monkeypatch):
    asked = []
    find = api.likely_answers
    monkeypatch.setattr(api, "likely_answers", lambda *args: asked.append(args[3]) or find(*args))
    assert [span.score for span in vlm.ground(memory, "red", num_beams=1)] == [1.0]
    assert vlm.ground(memory, "red")
    assert asked == [1, api.NUM_BEAMS]
    with pytest.raises(InputError, match="num_beams is 0"):
        vlm.ground(memory, "red", num_beams=0)


def test_ground_in_a_file(vlm, video):
    memory = vlm.watch(video)
    for seed in range(3):
        other = tiny_vlm(seed=seed)
        for span in other.ground(video, "a red circle"):
            assert 0.0 <= span.start <= span.end <= memory.end_seconds


@pytest.fixture
def short_captions(monkeypatch):
    """A random model writes on and on: allow it four short lines."""
    from timevlm.tasks.grammar import CaptionLimits

    limits = CaptionLimits(max_lines=4, max_words=3, max_word_tokens=4)
    original = type(tiny_processor()).caption_grammar
    monkeypatch.setattr(
        type(tiny_processor()),
        "caption_grammar",
        lambda self, seconds, limits=limits: original(self, seconds, limits=limits),
    )


@pytest.mark.usefixtures("short_captions")
@pytest.mark.parametrize("seed", range(4))
def test_captions_are_in_order_and_inside_the_video(seed):
    vlm = tiny_vlm(seed=seed)
    memory = vlm.watch(frames(6, step=1.5))
    captions = vlm.caption(memory)
    assert captions
    assert all(a.start < b.start for a, b in pairwise(captions))
    assert not any(is_repeated([(c.start, c.end, c.text) for c in captions]))
    for caption in captions:
        assert memory.start_seconds <= caption.start <= caption.end <= memory.end_seconds
        assert caption.text


def test_chat_shows_earlier_turns_to_the_next_question(vlm, memory, monkeypatch):
    histories = []
    ask = TimeVLM.ask

    def recording(self: TimeVLM, video: object, question: str, **options: object) -> Answer:
        histories.append(tuple(options["history"]))
        return ask(self, video, question, **options)

    monkeypatch.setattr(TimeVLM, "ask", recording)
    chat = vlm.chat(memory)
    answers = [chat.send(f"What colour is shape {i}?") for i in range(6)]
    turns = [(f"What colour is shape {i}?", answers[i].text) for i in range(6)]
    assert chat.history == turns
    assert histories[0] == ()
    assert histories[2] == tuple(turns[:2])
    assert histories[5] == tuple(turns[1:5])  # four turns at most


def test_history_changes_the_answer(vlm, memory):
    alone = vlm.ask(memory, "And now?", choices=CHOICES)
    later = vlm.ask(memory, "And now?", choices=CHOICES, history=[("What colour?", "red")])
    assert alone.confidence != later.confidence


@pytest.mark.parametrize("choices", [[], ["red"], ["red", "Red."], ["red", " "], "red"])
def test_bad_choices_are_refused(vlm, memory, choices):
    with pytest.raises(ChoiceError):
        vlm.ask(memory, "What colour?", choices=choices)


@pytest.mark.parametrize("question", ["", "  ", "\n"])
def test_empty_questions_are_refused(vlm, memory, question):
    with pytest.raises(InputError, match="is empty"):
        vlm.ask(memory, question)
    with pytest.raises(InputError, match="is empty"):
        vlm.ground(memory, question)


def test_what_cannot_be_answered_is_refused_before_a_video_is_watched(vlm, monkeypatch):
    monkeypatch.setattr(vlm, "watch", lambda *args, **options: pytest.fail("watched"))
    for refused, message in (
        (lambda: vlm.ask("v.mp4", " "), "question is empty"),
        (lambda: vlm.ask("v.mp4", "What colour?", choices=["red", "Red."]), "same answer"),
        (lambda: vlm.ask("v.mp4", "What colour?", choices=[]), "0 choices"),
        (lambda: vlm.ask("v.mp4", "What colour?", seed=2**64), "seed 18446744073709551616"),
        (lambda: vlm.score("v.mp4", "", ["red"]), "question is empty"),
        (lambda: vlm.score("v.mp4", "What colour?", ["red", " "]), "blank"),
        (lambda: vlm.ground("v.mp4", " "), "query is empty"),
    ):
        with pytest.raises(InputError, match=message):
            refused()


def test_a_memory_of_another_model_is_refused(vlm, tmp_path):
    other = tiny_vlm("other", seed=1).watch(frames(3))
    with pytest.raises(InputError, match="made by model 'other', not by 'tiny'"):
        vlm.ask(other, "Why?")
    other.save(tmp_path / "m.tvm")
    with pytest.raises(MemoryFileError, match="made by model 'other'"):
        vlm.ask(tmp_path / "m.tvm", "Why?")


def test_a_file_that_is_no_video_is_refused(vlm, tmp_path):
    with pytest.raises(VideoError):
        vlm.ask(tmp_path / "absent.mp4", "Why?")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError):
        vlm.watch(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    ("pixels", "seconds", "message"),
    [(2, [0.0], "2 frames with 1 times"), (0, [], "at least one"), (2, [1.0, 1.0], "do not rise")],
)
def test_frames_in_memory_are_checked(pixels, seconds, message):
    with pytest.raises(InputError, match=message):
        TensorFrames(random_pixels(pixels), torch.tensor(seconds))


def test_special_tokens_in_a_question_are_only_text(vlm, memory):
    question = "<|frame|><|end|><|bos|> what?"
    assert vlm.ask(memory, question, choices=CHOICES).choice in range(3)


def test_a_times_form_does_not_matter(vlm):
    memory = vlm.watch(frames(8))
    said = [f"What is there at {t}?" for t in ("3 s", "3.4 seconds", "0:03")]
    assert len({vlm.ask(memory, q, choices=CHOICES).confidence for q in said}) == 1


@pytest.mark.parametrize("choices", [CHOICES, None])
def test_unknown_words_lower_the_confidence_and_are_named(vlm, memory, choices):
    known = vlm.ask(memory, "What colour is the circle?", choices=choices)
    assert known.warnings == ()
    asked = "What colour is the circle zebra that yawns?"
    unknown = vlm.ask(memory, asked, choices=choices)
    assert unknown.warnings == ("tiny was not taught the words: zebra, yawns",)
    assert unknown.confidence <= 0.25 + (0.25 if choices else 0.0)


def test_choices_that_cannot_be_said_are_all_as_likely(vlm, memory):
    asked = "What colour is the circle?"
    foreign = ["a zebra yawns", "two doctors in the hospital", "because of Wednesday"]
    answer = vlm.ask(memory, asked, choices=foreign)
    assert answer.confidence == pytest.approx(1 / 3)
    scores = [score.log_probability for score in vlm.score(memory, asked, foreign)]
    assert answer.choice == scores.index(max(scores))
    half = vlm.ask(memory, asked, choices=["red", "a zebra yawns"])
    assert 0.5 <= half.confidence <= 0.75 + 1e-6


def test_the_spelling_of_a_known_word_does_not_matter(vlm, memory):
    said = ["What colour is the circle?", "What color is the CIRCLE?", "What Colour is the Circle?"]
    answers = [vlm.ask(memory, question, choices=CHOICES) for question in said]
    assert len({answer.confidence for answer in answers}) == 1
    assert {answer.warnings for answer in answers} == {()}
    spans = [vlm.ground(memory, query) for query in ("the red circle", "the Red Circle")]
    assert spans[0] == spans[1]


def test_ground_finds_nothing_only_where_that_was_taught(vlm, memory, monkeypatch):
    query = "the red circle"
    assert vlm.ground(memory, query)
    sure = {"not": [(math.log(0.6), False)], "maybe": [(math.log(0.4), False)]}
    for case, found in (("not", []), ("maybe", vlm.ground(memory, query))):
        scores = sure[case]
        monkeypatch.setattr(api, "score_candidates", lambda *_, scores=scores: scores)
        assert vlm.ground(memory, query)  # a model that was not taught to say so
        taught = TimeVLM(tiny_model(grounds_absence=True), vlm.processor, "tiny")
        assert taught.ground(taught.watch(frames(8)), query) == found


def test_from_pretrained_gives_the_same_answers(vlm, memory, tmp_path):
    loaded = TimeVLM.from_pretrained(save_tiny(tmp_path), device="cpu")
    assert (loaded.default_fps, loaded.frame_size) == (1.0, (32, 32))
    answer = loaded.ask(loaded.watch(frames(8)), "What colour?", choices=CHOICES)
    expected = vlm.ask(memory, "What colour?", choices=CHOICES)
    assert (answer.text, answer.confidence) == (expected.text, expected.confidence)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_the_ssd_backend_can_be_chosen(vlm, memory, tmp_path, backend):
    loaded = TimeVLM.from_pretrained(save_tiny(tmp_path), device="cpu", ssd_backend=backend)
    mixers = [b.mixer for b in loaded.model.llm.backbone.layers if hasattr(b.mixer, "backend")]
    assert {mixer.backend for mixer in mixers} == {backend}
    answer = loaded.ask(loaded.watch(frames(8)), "What colour?", choices=CHOICES)
    expected = vlm.ask(memory, "What colour?", choices=CHOICES)
    assert answer.confidence == pytest.approx(expected.confidence, abs=1e-4)


def test_bfloat16_runs(tmp_path):
    loaded = TimeVLM.from_pretrained(save_tiny(tmp_path), device="cpu", dtype="bfloat16")
    memory = loaded.watch(frames(4))
    assert loaded.ask(memory, "Why?", choices=CHOICES).choice in range(3)
    assert loaded.ground(memory, "a star")
