"""Turns about footage: their truth is that of the spec, or measured in its frames."""

import random

import pytest
import torch

from timevlm.errors import InputError
from timevlm.synth.full.footage import FootageVideo, sample_footage
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds
from timevlm.training.batches import BatchConfig, VideoSample, sample_videos
from timevlm.training.footage_turns import footage_queries, footage_questions
from timevlm.training.kinds import FULL
from timevlm.training.labels import patch_labels
from timevlm.training.main_colour import main_colour
from timevlm.training.picture_light import LIGHT_CHOICES, light_change
from timevlm.training.turns import make_turns

VIDEOS = [sample_footage(seed, "train") for seed in range(60)]


def asked(kind: str):
    for spec in VIDEOS:
        for question in footage_questions(spec, random.Random(spec.seed), 0):
            if question.kind == kind:
                yield spec, question


def test_cuts_and_cameras_are_those_of_the_shots():
    for kind, happens in (
        ("picture cut", lambda shot: shot.transition_kind == "cut"),
        ("picture camera", lambda shot: shot.camera is not None),
    ):
        answers = []
        for spec, question in asked(kind):
            assert question.answer == ("yes" if any(map(happens, spec.scenes)) else "no")
            answers.append(question.answer)
        assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_light_and_colour_are_what_frames_show():
    answers, agree = [], []
    for spec, question in asked("picture light"):
        seconds = frame_seconds(spec, 2.0)
        pixels = render_frames([(spec, seconds)], (96, 96))
        if question.answer in LIGHT_CHOICES:
            answers.append(question.answer)
            agree.append(light_change(pixels, seconds) == question.answer)
    assert set(answers) == set(LIGHT_CHOICES)
    assert sum(agree) >= 0.9 * len(agree)  # other frames, near a limit, may tell otherwise
    for spec, question in list(asked("main colour"))[:20]:
        agree.append(
            main_colour(render_frames([(spec, frame_seconds(spec, 2.0))], (96, 96)))
            == question.answer
        )
    assert sum(agree) >= 0.85 * len(agree)


def test_no_answer_about_the_light_is_much_more_common_than_another():
    answers = [question.answer for _, question in asked("picture light")]
    assert max(answers.count(choice) for choice in LIGHT_CHOICES) < 0.6 * len(answers)


def test_queries_name_spans_of_the_video_or_none():
    kinds = {True: 0, False: 0}
    for spec in VIDEOS:
        for text, spans in footage_queries(spec, random.Random(spec.seed), [0.0, 1.0]):
            assert text
            assert all(0.0 <= start < end <= spec.duration_seconds for start, end in spans)
            kinds[bool(spans)] += 1
    assert min(kinds.values()) > 20


def test_turns_of_footage_are_about_no_object():
    for spec in VIDEOS[:20]:
        turns = make_turns(spec, frame_seconds(spec, 1.0).tolist(), 0.0, 0, 24)
        assert 4 <= len(turns) <= 24
        families = {turn.family for turn in turns}
        assert families <= {
            *("grounding", "picture cut", "picture camera", "picture light", "main colour"),
            *("when", "reading", "camera", "transition", "brightness"),
        }


def test_a_share_of_the_videos_of_a_batch_is_footage():
    config = BatchConfig(level="full", num_videos=40, footage_share=0.5)
    count = sum(isinstance(sample.spec, FootageVideo) for sample in sample_videos(config, 0))
    assert 10 <= count <= 30
    with pytest.raises(InputError, match="footage and eventful videos are of level full"):
        BatchConfig(footage_share=0.1)


def test_labels_of_footage_are_what_its_picture_does():
    spec = next(v for v in VIDEOS if any(s.transition_kind == "cut" for s in v.scenes))
    sample = VideoSample(spec=spec, seconds=frame_seconds(spec, 1.0), shift=0.0)
    labels = patch_labels([sample], 6)
    assert bool((labels.shapes == len(FULL.shapes)).all())
    assert float(labels.places.abs().sum()) == 0.0
    cut = next(s.end_seconds for s in spec.scenes if s.transition_kind == "cut")
    first = int(torch.searchsorted(sample.seconds, cut))
    assert int(labels.happenings[first, 3]) == 0
