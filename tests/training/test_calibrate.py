"""The temperature: found where it was hidden, measured on unseen videos, written whole."""

import json
import math
import random

import pytest

from tests.helpers import save_tiny, tiny_vlm
from timevlm.api import TimeVLM
from timevlm.choosing import ranked_confidences
from timevlm.errors import ModelError
from timevlm.synth.questions import make_questions
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.calibrate import (
    Scored,
    calibrate,
    calibration_at,
    choice_scores,
    fit_temperature,
    mean_loss,
    model_folder,
    scores_of_videos,
    write_temperature,
)
from timevlm.training.evaluate import EvaluationConfig
from timevlm.video.tensor_frames import TensorFrames


def honest_answers(temperature: float, count: int = 3000) -> list[Scored]:
    """Questions of a model that is exactly `temperature` times too sure."""
    rng = random.Random(0)
    scored = []
    for _ in range(count):
        scores = [rng.gauss(0, 1.5) for _ in range(4)]
        right = rng.choices(range(4), weights=[math.exp(s) for s in scores])[0]
        scored.append(([s * temperature for s in scores], right))
    return scored


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_hidden_temperature_is_found(temperature):
    scored = honest_answers(temperature)
    found = fit_temperature(scored)
    assert found == pytest.approx(temperature, rel=0.1)
    best = mean_loss(scored, found)
    assert all(
        best <= mean_loss(scored, found * factor) + 1e-9 for factor in (0.7, 0.99, 1.01, 1.4)
    )
    assert calibration_at(scored, found)["ece"] < 0.03


def test_calibration_reports_before_after_and_unseen():
    scored = honest_answers(3.0, 400)
    report = calibrate({seed: scored[10 * seed : 10 * seed + 10] for seed in range(40)}, 1.0)
    assert report["before"]["ece"] > 2 * report["after"]["ece"]
    assert report["before"]["temperature"] == 1.0
    assert report["after"]["temperature"] == report["temperature"]
    assert report["held_out_ece"] < report["before"]["ece"]
    with pytest.raises(ValueError, match="halves"):
        calibrate({0: scored}, 1.0)


def test_scores_are_those_that_ask_ranks():
    vlm = tiny_vlm()
    spec = sample_video(0, split="val")
    seconds = frame_seconds(spec, 0.5)
    memory = vlm.watch(TensorFrames(render_frames([(spec, seconds)], vlm.frame_size), seconds))
    for question in make_questions(spec, 0, per_family=1):
        scores, right = choice_scores(vlm, memory, question)
        answer = vlm.ask(memory, question.text, choices=question.choices)
        assert question.choices[right] == question.answer
        best, confidences = ranked_confidences(scores, vlm.model.config.choice_temperature)
        assert answer.choice == best
        assert confidences[best] == pytest.approx(answer.confidence)


def test_a_model_is_calibrated_in_its_folder(tmp_path):
    folder = save_tiny(tmp_path)
    vlm = TimeVLM.from_pretrained(folder)
    config = EvaluationConfig(split="val", num_videos=2, per_family=1, fps=0.5)
    by_video = scores_of_videos(vlm, config)
    assert list(by_video) == [0, 1]
    before = json.loads((folder / "config.json").read_text())
    write_temperature(model_folder(str(folder)), 2.5)
    after = json.loads((folder / "config.json").read_text())
    assert after == {**before, "choice_temperature": 2.5}
    assert TimeVLM.from_pretrained(folder).model.config.choice_temperature == 2.5
    assert sorted(p.name for p in folder.glob(".config*")) == []


def test_a_model_that_is_not_here_cannot_be_calibrated(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        model_folder(str(tmp_path))
    assert (model_folder("nano") / "config.json").is_file()
