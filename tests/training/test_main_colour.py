"""The main colour of a picture, and the questions for it that training asks."""

from collections import Counter

import pytest
import torch

from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.main_colour import COLOURS, background_colour, main_colour
from timevlm.training.nano import build_processor
from timevlm.training.turns import main_colour_turns


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((200, 20, 30), "red"),
        ((230, 130, 20), "orange"),
        ((40, 160, 60), "green"),
        ((40, 80, 220), "blue"),
        ((120, 120, 124), "grey"),
        ((5, 5, 5), "black"),
        ((250, 250, 250), "white"),
        ((140, 40, 200), "purple"),
    ],
)
def test_the_main_colour_of_a_flat_picture(rgb, name):
    pixels = torch.tensor(rgb, dtype=torch.uint8)[None, :, None, None].expand(2, 3, 16, 16)
    assert main_colour(pixels.contiguous()) == name


def test_questions_for_a_main_colour_are_true_and_not_mostly_of_grey():
    answers, measured = Counter(), 0
    for seed in range(150):
        spec = sample_video(seed, level="full")
        frames = frame_seconds(spec, 1.0)
        shown = main_colour_turns(spec, (frames + 7.0).tolist(), 7.0)
        assert len(shown) <= 1
        for turn in shown:
            answers[turn.answer] += 1
            ((start, end),) = turn.spans
            assert start - 7.0 in frames.tolist()
            inside = frames[(frames >= start - 7.0) & (frames <= end - 7.0)]
            pixels = render_frames([(spec, inside)], (48, 48))
            measured += main_colour(pixels) == turn.answer
    assert len(answers) >= 5
    assert answers["grey"] < 0.5 * answers.total()
    # Lights, objects and noise hide it at times.
    assert measured >= 0.9 * answers.total()


def test_a_video_without_a_main_colour_is_not_asked_for_one():
    without = [
        spec
        for spec in (sample_video(seed, level="full") for seed in range(40))
        if all(background_colour([scene]) is None for scene in spec.scenes)
    ]
    assert without
    for spec in without:
        assert main_colour_turns(spec, frame_seconds(spec, 1.0).tolist(), 0.0) == []


def test_the_words_of_the_questions_are_known():
    processor = build_processor("full")
    for seed in range(60):
        spec = sample_video(seed, level="full")
        for turn in main_colour_turns(spec, frame_seconds(spec, 1.0).tolist(), 0.0):
            text = f"{turn.prompt} {turn.answer}"
            assert not processor.unknown_words(text)
    assert not processor.unknown_words(" ".join(COLOURS))
