"""Questions about the picture as a whole: is there a cut, does the camera move, what of the light.

The questions of level "full" are about one scene, or one kind of camera move; people ask about the
video. They are no questions of its benchmark, which stays as it is; training asks them besides.
What most videos answer alike is asked of few of them, so that no answer is a good guess.
"""

import random
from collections.abc import Sequence

from timevlm.synth.full.palette import LIGHT_CHANGES, LIGHT_STEADY, TRANSITIONS
from timevlm.synth.full.spec import FullScene, FullVideo
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import GROUNDING_WORDINGS, QUESTION_WORDINGS, draw_wording
from timevlm.synth.items import Question, Span
from timevlm.synth.wording import an

CAMERA_WORDINGS = (
    "Does the camera move?",
    "Does the camera move in the video?",
    "Does the camera ever move?",
    "Is the camera moving at any time?",
)
LIGHT_WORDINGS = (
    "What happens to the light in the video?",
    "How does the light change in the video?",
    "What does the light do in the video?",
)
# Of the videos of which it is so, as many are asked as make both answers about as common.
_CUT_SHARE = {True: 0.65, False: 1.0}
_CAMERA_SHARE = {True: 0.5, False: 1.0}
_STEADY_LIGHT_SHARE = 0.5


def picture_questions(spec: FullVideo, rng: random.Random) -> list[Question]:
    """Whole-video questions about cuts, camera and, where there is one scene, light."""
    found = cut_and_camera_questions(spec, rng)
    if len(spec.scenes) == 1:
        found += _light_questions(spec.scenes[0], rng, [(0.0, spec.duration_seconds)])
    return found


def cut_and_camera_questions(spec: FullVideo, rng: random.Random) -> list[Question]:
    """Whether there is a cut and whether the camera moves."""
    timeline = FullTimeline(spec)
    whole = [(0.0, spec.duration_seconds)]
    found = []
    cuts = timeline.transition_spans("cut")
    if rng.random() < _CUT_SHARE[bool(cuts)]:
        slots = {"a_transition": an(TRANSITIONS["cut"])}
        text = draw_wording(rng, QUESTION_WORDINGS, "transition.any", spec.split, slots)
        found.append(picture_question("picture cut", text, _yes_no(cuts), cuts or whole))
    moves = _camera_spans(spec)
    if rng.random() < _CAMERA_SHARE[bool(moves)]:
        text = rng.choice(CAMERA_WORDINGS)
        found.append(picture_question("picture camera", text, _yes_no(moves), moves or whole))
    return found


def _light_questions(scene: FullScene, rng: random.Random, whole: Sequence[Span]) -> list[Question]:
    light = scene.light
    if light is None and rng.random() >= _STEADY_LIGHT_SHARE:
        return []
    answer = LIGHT_STEADY if light is None else LIGHT_CHANGES[light.kind]
    spans = whole if light is None else [(light.start_seconds, light.end_seconds)]
    return [picture_question("picture light", rng.choice(LIGHT_WORDINGS), answer, spans)]


def _yes_no(spans: Sequence[Span]) -> str:
    return "yes" if spans else "no"


def picture_question(kind: str, text: str, answer: str, spans: Sequence[Span]) -> Question:
    """A question about the picture as a whole, without choices."""
    return Question(
        family=kind, kind=kind, text=text, answer=answer, choices=(), answer_spans=tuple(spans)
    )


def picture_queries(spec: FullVideo, rng: random.Random) -> list[tuple[str, list[Span]]]:
    """Sentences to find about transitions and camera moves, with their spans; none: not there.

    Half of those about a transition are about cuts, which is what people look for.
    """
    timeline, found = FullTimeline(spec), []
    there = sorted({kind for _, kind in timeline.transitions()})
    absent = [kind for kind in TRANSITIONS if kind not in there]
    kind = "cut"
    if rng.random() < 0.5:
        kind = rng.choice((there if rng.random() < 0.5 else absent) or list(TRANSITIONS))
    if kind != "cut" or rng.random() < _CUT_SHARE["cut" in there]:
        slots = {"a_transition": an(TRANSITIONS[kind])}
        text = draw_wording(rng, GROUNDING_WORDINGS, "transition", spec.split, slots)
        found.append((text, timeline.transition_spans(kind)))
    moves = _camera_spans(spec)
    if rng.random() < 0.5 * _CAMERA_SHARE[bool(moves)]:
        text = draw_wording(rng, GROUNDING_WORDINGS, "camera_moves", spec.split, {})
        found.append((text, moves))
    return found


def _camera_spans(spec: FullVideo) -> list[Span]:
    """When the camera moves."""
    moves = [scene.camera for scene in spec.scenes if scene.camera is not None]
    return [(move.start_seconds, move.end_seconds) for move in moves]
