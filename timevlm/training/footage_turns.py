"""Turns about footage: cuts, cameras, light, texts, main colour, and when nothing moves.

Footage (`timevlm.synth.full.footage`) shows nothing that has a name, so these are all there is to
ask. What the light does from the beginning to the end, and which colour there is most of, is
measured in its frames, as a person would judge it and as scores on real clips do.
"""

import random
from collections.abc import Sequence

import torch

from timevlm.synth.full.footage import FootageVideo
from timevlm.synth.full.palette import LIGHT_CHANGES, LIGHT_STEADY
from timevlm.synth.full.wording import GROUNDING_WORDINGS, draw_wording
from timevlm.synth.items import Question, Span
from timevlm.synth.questions import make_questions
from timevlm.synth.render import render_frames
from timevlm.training.main_colour import WORDINGS as MAIN_COLOUR_WORDINGS
from timevlm.training.main_colour import main_colour
from timevlm.training.picture_light import LIGHT_SECONDS, light_change
from timevlm.training.picture_questions import (
    LIGHT_WORDINGS,
    cut_and_camera_questions,
    picture_queries,
    picture_question,
)
from timevlm.training.stillness import still_on_frames, still_spans

FAMILIES = ("when", "reading", "camera", "transition", "brightness")
_MEASURED_SIDE = 48  # pixels of the frames in which colour and light are measured
_MEASURED_FRAMES = 12
_STEADY_SHARE = 0.6  # of the videos whose light stays the same, as that of most does


def footage_questions(spec: FootageVideo, rng: random.Random, seed: int) -> list[Question]:
    """Questions about the picture as a whole first, then of the families that need no objects."""
    found = cut_and_camera_questions(spec, rng)
    whole = [(0.0, spec.duration_seconds)]
    seconds = _measured_seconds(spec.duration_seconds)
    pixels = render_frames([(spec, seconds)], (_MEASURED_SIDE, _MEASURED_SIDE))
    light = LIGHT_CHANGES["flicker"] if _flickers(spec) else light_change(pixels, seconds)
    if light != LIGHT_STEADY or rng.random() < _STEADY_SHARE:
        text = rng.choice(LIGHT_WORDINGS)
        found.append(picture_question("picture light", text, light, whole))
    # Most of film is grey or dark, and so is footage: none of it is left out here.
    text = rng.choice(MAIN_COLOUR_WORDINGS)
    found.append(picture_question("main colour", text, main_colour(pixels), whole))
    rng.shuffle(found)
    return found + make_questions(spec, seed, per_family=3, families=FAMILIES)


def _flickers(spec: FootageVideo) -> bool:
    """Whether the light of a single shot flickers, which its two ends do not tell."""
    light = spec.scenes[0].light
    return len(spec.scenes) == 1 and light is not None and light.kind == "flicker"


def _measured_seconds(duration_seconds: float) -> torch.Tensor:
    """Times of frames from all of a video, among them some of its first and last moments."""
    evenly = torch.linspace(0.0, 1.0, _MEASURED_FRAMES, dtype=torch.float64) * duration_seconds
    moments = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64) * LIGHT_SECONDS
    times = torch.cat([evenly[1:-1], moments, duration_seconds - moments])
    return times.sort().values


def footage_queries(
    spec: FootageVideo, rng: random.Random, frame_seconds: Sequence[float]
) -> list[tuple[str, list[Span]]]:
    """Sentences to find, with their spans; none: not there."""
    found = [*picture_queries(spec, rng), *picture_queries(spec, rng)]
    still = still_spans(spec)
    if still is not None and (still or rng.random() < 0.3):
        still = still_on_frames(still, frame_seconds, spec.duration_seconds)
        found.append((draw_wording(rng, GROUNDING_WORDINGS, "still", spec.split, {}), still))
    return found
