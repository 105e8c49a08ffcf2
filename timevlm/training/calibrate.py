"""Fit the temperature that makes the confidence of a choice mean what it says.

One number divides all log-likelihoods of choices; it is the one that makes the right choices of
validation questions most probable (Guo et al. 2017, section 4.2, temperature scaling). It moves no
answer, only how sure the model says it is.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from timevlm.api import TimeVLM
from timevlm.choosing import choice_log_likelihoods, ranked_confidences
from timevlm.errors import ModelError
from timevlm.loading import WEIGHTS_FOLDER, embedded_models
from timevlm.memory import VideoMemory
from timevlm.synth.questions import Question, make_questions
from timevlm.synth.render import render_frames
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.evaluate import EvaluationConfig, Progress
from timevlm.training.evaluate_scores import calibration
from timevlm.training.evaluate_workers import Work, map_items
from timevlm.video.tensor_frames import TensorFrames

# Log-likelihoods of a question's choices, index of the right one.
Scored = tuple[Sequence[float], int]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_NUM_STEPS = 40


def choice_scores(vlm: TimeVLM, memory: VideoMemory, question: Question) -> Scored:
    """What `ask` ranks: the log-likelihood of every choice, before any temperature."""
    frames = memory.frame_seconds.tolist()
    with torch.inference_mode():
        _, prompt = vlm.read_question(memory, question.text, question.choices)
        scores = choice_log_likelihoods(vlm.model, vlm.processor, prompt, question.choices, frames)
    return scores, question.choices.index(question.answer)


def scores_of_videos(
    vlm: TimeVLM,
    config: EvaluationConfig,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> dict[int, list[Scored]]:
    """The scored questions of every video of `config`, by seed."""
    seeds = list(range(config.seed, config.seed + config.num_videos))
    if processes == 1:
        open_work: Callable[[], Work] = partial(_score_work, vlm, config)
    else:
        open_work = partial(_open_score_work, vlm.name, config)
    found: dict[int, list[Scored]] = {}
    for seed, scored in map_items(open_work, seeds, processes):
        found[seed] = scored
        if progress is not None:
            progress(len(found), len(seeds))
    return {seed: found[seed] for seed in seeds}


def _score_work(vlm: TimeVLM, config: EvaluationConfig) -> Work:
    def work(seed: int) -> list[Scored]:
        spec = sample_video(seed, split=config.split, level=config.level)
        seconds = frame_seconds(spec, config.fps)
        pixels = render_frames([(spec, seconds)], vlm.frame_size, vlm.model.device)
        memory = vlm.watch(TensorFrames(pixels, seconds))
        questions = make_questions(spec, seed, per_family=config.per_family)
        return [choice_scores(vlm, memory, question) for question in questions]

    return work


def _open_score_work(model: str, config: EvaluationConfig) -> Work:
    return _score_work(TimeVLM.from_pretrained(model), config)


def mean_loss(scored: Sequence[Scored], temperature: float) -> float:
    """Mean negative log probability (natural logarithm) of the right choices."""
    rows = [torch.tensor(scores, dtype=torch.float64) for scores, _ in scored]
    padded = pad_sequence(rows, batch_first=True, padding_value=-math.inf)
    right = torch.tensor([index for _, index in scored])
    return float(F.cross_entropy(padded / temperature, right))


def fit_temperature(scored: Sequence[Scored]) -> float:
    """The temperature in [0.05, 20] with the lowest mean loss.

    The loss is convex in 1 / temperature, so it has one valley along log temperature and golden
    section search finds it. Raises ValueError without questions.
    """
    if not scored:
        raise ValueError("a temperature cannot be fitted: there are no questions")
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_left, loss_right = (mean_loss(scored, math.exp(x)) for x in (left, right))
    for _ in range(_NUM_STEPS):
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _GOLDEN * (high - low)
            loss_left = mean_loss(scored, math.exp(left))
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _GOLDEN * (high - low)
            loss_right = mean_loss(scored, math.exp(right))
    return math.exp((low + high) / 2)


def calibration_at(scored: Sequence[Scored], temperature: float) -> dict[str, Any]:
    """Calibration of the best choices when likelihoods are divided by `temperature`."""
    confidences, rights = [], []
    for scores, right in scored:
        best, probabilities = ranked_confidences(scores, temperature)
        confidences.append(probabilities[best])
        rights.append(float(best == right))
    report = calibration(confidences, rights)
    return {**report, "loss": mean_loss(scored, temperature), "temperature": temperature}


def calibrate(by_video: dict[int, list[Scored]], current: float) -> dict[str, Any]:
    """Fit on all videos; the calibration before, after, and on videos that the fit has not seen.

    "held out" fits on each half of the videos and measures on the other. Raises ValueError for
    fewer than two videos.
    """
    seeds = sorted(by_video)
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} video cannot be split into halves; give 2 or more")
    everything = [item for seed in seeds for item in by_video[seed]]
    halves = [[item for seed in seeds[i::2] for item in by_video[seed]] for i in (0, 1)]
    temperature = round(fit_temperature(everything), 3)
    crossed = [
        calibration_at(test, fit_temperature(fit)) for fit, test in (halves, reversed(halves))
    ]
    return {
        "before": calibration_at(everything, current),
        "after": calibration_at(everything, temperature),
        "held_out_ece": sum(c["ece"] * c["count"] for c in crossed) / len(everything),
        "temperature": temperature,
    }


def model_folder(name_or_path: str) -> Path:
    """Where a model's config lies. Raises ModelError for a model that is not on this machine."""
    folder = Path(name_or_path)
    if not folder.is_dir() and name_or_path in embedded_models():
        folder = WEIGHTS_FOLDER / name_or_path
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{name_or_path} is no folder with a config.json; give an embedded model "
            f"({', '.join(embedded_models())}) or a folder"
        )
    return folder


def write_temperature(folder: Path, temperature: float) -> None:
    """Set `choice_temperature` in a model's config; readers see the old file or the new one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings["choice_temperature"] = temperature
    partial_path = path.with_name(".config.json.partial")
    partial_path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    os.replace(partial_path, path)
