"""Questions about the picture as a whole, beside those of the benchmark."""

import random

from timevlm.synth.full.palette import TRANSITIONS
from timevlm.synth.spec import crop_scenes
from timevlm.synth.world import sample_video
from timevlm.tasks.grounding import NOT_IN_VIDEO
from timevlm.training.batches import BatchConfig, sample_videos
from timevlm.training.nano import build_processor
from timevlm.training.picture_questions import (
    CAMERA_WORDINGS,
    LIGHT_WORDINGS,
    picture_queries,
    picture_questions,
)
from timevlm.training.turns import make_turns


def videos(count: int = 60):
    return [sample_video(seed, level="full") for seed in range(count)]


def asked(kind: str):
    rng = random.Random(0)
    for spec in videos():
        for question in picture_questions(spec, rng):
            if question.kind == kind:
                yield spec, question


def test_answers_are_those_of_the_specs():
    answers = set()
    for spec, question in asked("picture cut"):
        has_cut = any(scene.transition_kind == "cut" for scene in spec.scenes)
        assert question.answer == ("yes" if has_cut else "no")
        answers.add(question.answer)
    for spec, question in asked("picture camera"):
        moves = [scene.camera for scene in spec.scenes if scene.camera]
        assert question.answer == ("yes" if moves else "no")
        if moves:
            spans = tuple((move.start_seconds, move.end_seconds) for move in moves)
            assert question.answer_spans == spans
        answers.add(question.answer)
    assert answers == {"yes", "no"}


def test_both_answers_are_about_as_common():
    config = BatchConfig(level="full", num_videos=200, single_scene_share=0.2)
    rng = random.Random(0)
    found = [q for sample in sample_videos(config, 0) for q in picture_questions(sample.spec, rng)]
    for kind in ("picture cut", "picture camera"):
        answers = [question.answer for question in found if question.kind == kind]
        assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_light_is_asked_of_single_scenes():
    rng, answers = random.Random(0), set()
    for spec in videos():
        scene = crop_scenes(spec, 0, 1)
        for question in picture_questions(scene, rng):
            if question.kind == "picture light":
                light = scene.scenes[0].light
                assert (question.answer == "stays the same") == (light is None)
                answers.add(question.answer)
    assert answers == {"gets brighter", "gets darker", "flickers", "stays the same"}


def test_queries_are_about_what_is_there_and_what_is_not():
    config = BatchConfig(level="full", num_videos=200, single_scene_share=0.2)
    rng, found = random.Random(0), {"hard cut": [], "camera": []}
    for sample in sample_videos(config, 0):
        spec = sample.spec
        for text, spans in picture_queries(spec, rng):
            if "camera" in text:
                found["camera"].append(bool(spans))
                assert len(spans) == sum(scene.camera is not None for scene in spec.scenes)
                continue
            kind = next(kind for kind, name in TRANSITIONS.items() if name in text)
            kinds = [scene.transition_kind for scene in spec.scenes]
            assert len(spans) == kinds.count(kind)
            if kind == "cut":
                found["hard cut"].append(bool(spans))
    for there in found.values():
        assert len(there) > 50
        assert 0.35 < sum(there) / len(there) < 0.65


def test_they_stand_among_the_turns_in_words_that_are_known():
    processor = build_processor("full")
    for wording in (*CAMERA_WORDINGS, *LIGHT_WORDINGS):
        assert len(processor.tokenizer.tokenize(wording)) == len(wording.split()) + 1
    turns = [
        turn
        for spec in videos(30)
        for turn in make_turns(
            spec, [float(t) for t in range(int(spec.duration_seconds))], 0.0, 0, 24
        )
    ]
    assert {"picture cut", "picture camera"} <= {turn.family for turn in turns}
    assert any(turn.answer == NOT_IN_VIDEO and "cut" in turn.prompt for turn in turns)
