"""What nano makes of real footage: cuts, camera, stillness, colour, light, and unrelated questions.

Labels of cuts, camera and stillness were made by eye and by frame differences, once, and stand in
`CLIP_LABELS`; colour and light are measured in the very frames that the model is shown. Nothing
here was used in training.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from timevlm.agreement import interval_iou
from timevlm.api import TimeVLM
from timevlm.errors import InputError
from timevlm.memory import VideoMemory
from timevlm.tasks.text import normalize_answer
from timevlm.training.evaluate_scores import calibration
from timevlm.training.main_colour import COLOURS, main_colour
from timevlm.training.picture_light import LIGHT_CHOICES, light_change
from timevlm.video.frames import FrameBatch
from timevlm.video.reader import open_video
from timevlm.video.tensor_frames import TensorFrames

CUT_QUERY = "a hard cut"
CUT_QUESTION = "Is there a hard cut in the video?"
CAMERA_QUESTION = "Does the camera move?"
STILL_QUERY = "nothing moves"
COLOUR_QUESTION = "What is the main colour of the video?"
LIGHT_QUESTION = "What happens to the light in the video?"
YES_NO = ("yes", "no")

CUT_TOLERANCE_SECONDS = 0.5
_NUM_CHOICES = 4


@dataclass(frozen=True, kw_only=True)
class ClipLabel:
    """What a clip shows, in seconds of its own clock; None where a person could not say."""

    cuts: tuple[float, ...] = ()
    camera_moves: bool | None = False
    still: tuple[tuple[float, float], ...] | None = None


CLIP_LABELS: dict[str, ClipLabel] = {
    "mouse_arena": ClipLabel(),
    "people_one_by_one": ClipLabel(
        still=(
            *((0.0, 6.2), (19.8, 22.8), (44.8, 50.4), (69.8, 74.6)),
            *((86.8, 92.2), (119.8, 123.6), (136.0, 139.4)),
        )
    ),
    "car_overhead": ClipLabel(still=((0.0, 4.3), (8.7, 14.6), (19.1, 25.4), (28.0, 30.1))),
    "bbb_intro": ClipLabel(cuts=(11.795, 15.67, 22.961), camera_moves=True),
    "llama_drama": ClipLabel(cuts=(11.049, 26.924), camera_moves=True),
    "highway_overhead": ClipLabel(),
    "gmdcsa_drink_fall": ClipLabel(),
    "gmdcsa_walk_fall": ClipLabel(),
    "three_cups": ClipLabel(),
    # Hand-held: a person could call it either.
    "hamilton_whitehouse": ClipLabel(cuts=(1.519, 3.588, 7.892), camera_moves=None),
    "chaplin": ClipLabel(camera_moves=None),  # the film itself trembles
    "asl_book": ClipLabel(),
    "nasa_jwst": ClipLabel(cuts=(8.08,), camera_moves=None),
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip with its labels and free questions (question, answer)."""

    slug: str
    path: Path
    label: ClipLabel
    questions: tuple[tuple[str, str], ...]


@dataclass
class ClipFindings:
    """One line a question: what was asked, what is right, what the model said, how sure it was."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, clip: Clip, kind: str, **values: Any) -> None:
        """Note a line."""
        self.lines.append({"clip": clip.slug, "kind": kind, **values})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a kind."""
        return [line for line in self.lines if line["kind"] == kind]


def load_clips(folder: Path) -> list[Clip]:
    """The clips of a folder that `index.json` there lists and that are labelled here.

    Raises InputError without an index or without clips.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder of the clips with --clips")
    clips = [
        Clip(
            slug=entry["slug"],
            path=folder / entry["file"],
            label=CLIP_LABELS[entry["slug"]],
            questions=tuple((item["q"], item["a"]) for item in entry["qa"]),
        )
        for entry in json.loads(path.read_text())
        if entry["slug"] in CLIP_LABELS and (folder / entry["file"]).is_file()
    ]
    if not clips:
        raise InputError(f"{folder} holds none of the clips that {path.name} lists")
    return clips


def evaluate_clips(
    vlm: TimeVLM, clips: Sequence[Clip], *, fps: float = 2.0, max_frames: int = 1500
) -> Iterator[tuple[Clip, ClipFindings]]:
    """Ask about one clip after the other; the findings grow with every step.

    Frames are read at `fps`, fewer a second where that would be more than `max_frames`.
    """
    findings = ClipFindings()
    for clip in clips:
        batches = list(_read(vlm, clip.path, fps, max_frames))
        seconds = torch.cat([batch.seconds for batch in batches])
        frames = TensorFrames(torch.cat([batch.pixels for batch in batches]), seconds)
        memory = vlm.watch(frames)
        _ask_cuts(vlm, clip, memory, findings)
        _ask_still(vlm, clip, memory, findings)
        if clip.label.camera_moves is not None:
            right = YES_NO[0 if clip.label.camera_moves else 1]
            _ask_choice(vlm, clip, memory, findings, ("camera", CAMERA_QUESTION, YES_NO, right))
        rng = random.Random(clip.slug)
        colour = main_colour(frames.pixels)
        wrong = rng.sample([name for name in COLOURS if name != colour], _NUM_CHOICES - 1)
        choices = sorted([colour, *wrong])
        _ask_choice(vlm, clip, memory, findings, ("colour", COLOUR_QUESTION, choices, colour))
        light = light_change(frames.pixels, seconds)
        _ask_choice(vlm, clip, memory, findings, ("light", LIGHT_QUESTION, LIGHT_CHOICES, light))
        for question, answer, choices in foreign_questions(clip, clips):
            asked = ("unrelated", question, choices, answer)
            _ask_choice(vlm, clip, memory, findings, asked)
        yield clip, findings


def foreign_questions(
    clip: Clip, clips: Sequence[Clip]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The clip's free questions as (question, answer, choices).

    The wrong choices are answers to other clips' questions, so most are told from the right one
    by understanding the question alone; a model that does not is right one time in four.
    """
    rng = random.Random(f"choices:{clip.slug}")
    others = [a for other in clips if other.slug != clip.slug for _, a in other.questions]
    for question, answer in clip.questions:
        wrong = [a for a in others if normalize_answer(a) != normalize_answer(answer)]
        if len(set(wrong)) >= _NUM_CHOICES - 1:
            picked = rng.sample(sorted(set(wrong)), _NUM_CHOICES - 1)
            picked.insert(rng.randrange(_NUM_CHOICES), answer)
            yield question, answer, tuple(picked)


def summarize_findings(findings: ClipFindings) -> dict[str, Any]:
    """JSON-safe scores: F1 of cuts, IoU of stillness, share right and confidence of the rest."""
    report: dict[str, Any] = {"cuts": cut_scores(findings.of("cuts"))}
    gated = [line if line["says_yes"] else {**line, "answer": []} for line in findings.of("cuts")]
    report["cuts, where it says there are any"] = cut_scores(gated)
    still = findings.of("still")
    if still:
        report["still"] = {
            "mean_iou": sum(line["iou"] for line in still) / len(still),
            "whole_video_iou": sum(line["whole_video_iou"] for line in still) / len(still),
            "count": len(still),
        }
    for kind in ("has cuts", "camera", "colour", "light", "unrelated"):
        lines = findings.of(kind)
        if not lines:
            continue
        rights = [float(line["right"]) for line in lines]
        confidences = [line["confidence"] for line in lines]
        report[kind] = {
            "accuracy": sum(rights) / len(rights),
            "chance": sum(1 / line["num_choices"] for line in lines) / len(lines),
            "mean_confidence": sum(confidences) / len(confidences),
            "ece": calibration(confidences, rights)["ece"],
            "count": len(lines),
        }
    return report


def cut_scores(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Precision, recall and F1 of cut times over all clips, each cut found at most once."""
    found = sum(matched_cuts(line["answer"], line["truth"]) for line in lines)
    told = sum(len(line["answer"]) for line in lines)
    true = sum(len(line["truth"]) for line in lines)
    precision, recall = found / max(1, told), found / max(1, true)
    total = precision + recall
    f1 = 2 * precision * recall / total if total else 0.0
    return {"f1": f1, "precision": precision, "recall": recall, "told": told, "true": true}


def matched_cuts(told: Sequence[float], true: Sequence[float]) -> int:
    """How many true cuts have a told one within 0.5 s, one to one.

    Both are taken in time order, which matches as many as possible on a line.
    """
    told, true = sorted(told), sorted(true)
    i = j = matched = 0
    while i < len(told) and j < len(true):
        if abs(told[i] - true[j]) <= CUT_TOLERANCE_SECONDS:
            i, j, matched = i + 1, j + 1, matched + 1
        elif told[i] < true[j]:
            i += 1
        else:
            j += 1
    return matched


def _read(vlm: TimeVLM, path: Path, fps: float, max_frames: int) -> Iterator[FrameBatch]:
    plan = vlm.make_plan(fps=fps, max_frames=max_frames)
    with open_video(path, plan) as reader:
        yield from reader


def _ask_choice(
    vlm: TimeVLM,
    clip: Clip,
    memory: VideoMemory,
    findings: ClipFindings,
    asked: tuple[str, str, Sequence[str], str],
) -> None:
    """Note the model's choice; `asked` is (kind, question, choices, right choice)."""
    kind, question, choices, truth = asked
    answer = vlm.ask(memory, question, choices=choices)
    findings.add(
        clip,
        kind,
        question=question,
        truth=truth,
        answer=answer.text,
        right=answer.choice == list(choices).index(truth),
        confidence=round(answer.confidence, 3),
        num_choices=len(choices),
    )


def _ask_cuts(vlm: TimeVLM, clip: Clip, memory: VideoMemory, findings: ClipFindings) -> None:
    truth = YES_NO[0 if clip.label.cuts else 1]
    _ask_choice(vlm, clip, memory, findings, ("has cuts", CUT_QUESTION, YES_NO, truth))
    spans = vlm.ground(memory, CUT_QUERY)
    findings.add(
        clip,
        "cuts",
        question=CUT_QUERY,
        truth=list(clip.label.cuts),
        # The world's span of a cut reaches half a second to either side.
        answer=[round((span.start + span.end) / 2, 2) for span in spans],
        says_yes=findings.of("has cuts")[-1]["answer"] == YES_NO[0],
    )


def _ask_still(vlm: TimeVLM, clip: Clip, memory: VideoMemory, findings: ClipFindings) -> None:
    truth = clip.label.still
    if truth is None:
        return
    spans = [(span.start, span.end) for span in vlm.ground(memory, STILL_QUERY)]
    findings.add(
        clip,
        "still",
        question=STILL_QUERY,
        truth=[list(span) for span in truth],
        answer=[[round(start, 2), round(end, 2)] for start, end in spans],
        iou=round(interval_iou(spans, truth), 3),
        whole_video_iou=round(interval_iou([(memory.start_seconds, memory.end_seconds)], truth), 3),
    )
