"""Score a model on held-out videos of the procedural world, through the public API.

Per question family: share right with 95 % intervals (bootstrap over videos, since questions about
one video fall together), the same model shown no video at all, and chance. Grounding by mean IoU
and recall at IoU 0.5, captions by scenes found.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from timevlm.api import TimeVLM
from timevlm.memory import VideoMemory
from timevlm.synth.captions import make_captions
from timevlm.synth.grounding import make_grounding
from timevlm.synth.questions import Question, make_questions
from timevlm.synth.render import render_frames
from timevlm.synth.spec import VideoSpec
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.video.tensor_frames import TensorFrames

Spans = Sequence[tuple[float, float]]


@dataclass
class Scores:
    """Scores of one family: one list of numbers a video."""

    by_video: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, video: int, value: float) -> None:
        """Record one score."""
        self.by_video[video].append(value)

    def summary(self, num_resamples: int = 2000) -> dict[str, float]:
        """Mean, 95 % interval by bootstrap over videos, and the number of scores."""
        videos = list(self.by_video.values())
        flat = [value for values in videos for value in values]
        rng = random.Random(0)
        means = []
        for _ in range(num_resamples):
            drawn = [value for values in rng.choices(videos, k=len(videos)) for value in values]
            means.append(sum(drawn) / len(drawn))
        means.sort()
        low, high = means[int(0.025 * num_resamples)], means[int(0.975 * num_resamples)]
        return {"mean": sum(flat) / len(flat), "low": low, "high": high, "count": len(flat)}


def interval_iou(predicted: Spans, truth: Spans) -> float:
    """Length of the intersection over that of the union, of two sets of disjoint spans."""
    shared = sum(max(0.0, min(e1, e2) - max(s1, s2)) for s1, e1 in predicted for s2, e2 in truth)
    union = sum(e - s for s, e in predicted) + sum(e - s for s, e in truth) - shared
    return shared / union if union > 0 else 0.0


def blind_memory(vlm: TimeVLM) -> VideoMemory:
    """A memory of no frames: what a model knows from the question alone."""
    llm, device = vlm.model.llm, vlm.model.device
    with torch.inference_mode():
        state = llm.init_state(torch.zeros(1, dtype=torch.long, device=device))
        prefix = torch.tensor([vlm.processor.prefix_ids()], device=device)
        state = llm.read_prefix(llm.embed(prefix), state)
    return VideoMemory(
        state=state,
        held_seconds=torch.zeros(0, dtype=torch.float64),
        frame_seconds=torch.zeros(1, dtype=torch.float64),
        video_end=0.0,
        model_name=vlm.name,
        model_fingerprint=vlm.fingerprint,
        plan={},
    )


@dataclass
class Report:
    """Scores of a model, of the same model without video, and of chance, per family."""

    seen: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))
    blind: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))
    chance: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))

    def to_dict(self) -> dict[str, object]:
        """JSON-safe summaries, a family each."""
        return {
            family: {
                "model": scores.summary(),
                "blind": self.blind[family].summary() if family in self.blind else None,
                "chance": self.chance[family].summary()["mean"] if family in self.chance else None,
            }
            for family, scores in self.seen.items()
        }


def evaluate(
    vlm: TimeVLM,
    *,
    split: str = "test",
    num_videos: int = 100,
    fps: float = 1.0,
    per_family: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, object]:
    """Score `vlm` on the first `num_videos` seeds of a split; a JSON-safe report."""
    report, empty = Report(), blind_memory(vlm)
    for seed in range(num_videos):
        spec = sample_video(seed, split=split)
        seconds = frame_seconds(spec, fps)
        pixels = render_frames([(spec, seconds)], vlm.frame_size)
        memory = vlm.watch(TensorFrames(pixels, seconds))
        for question in make_questions(spec, seed, per_family=per_family):
            _score_question(vlm, spec, question, (memory, empty), report)
        _score_spans(vlm, spec, memory, report)
        _score_captions(vlm, spec, memory, report)
        if progress is not None:
            progress(seed + 1, num_videos)
    return {
        "split": split,
        "num_videos": num_videos,
        "fps": fps,
        "model": vlm.name,
        "fingerprint": vlm.fingerprint,
        "families": report.to_dict(),
    }


def _score_question(
    vlm: TimeVLM,
    spec: VideoSpec,
    question: Question,
    memories: tuple[VideoMemory, VideoMemory],
    report: Report,
) -> None:
    """Ask with and without the video; play the pointing game with the evidence."""
    right = question.choices.index(question.answer)
    for scores, memory in zip((report.seen, report.blind), memories, strict=True):
        answer = vlm.ask(memory, question.text, choices=question.choices)
        for family in (question.family, "all"):
            scores[family].add(spec.seed, float(answer.choice == right))
        share = sum(e - s for s, e in question.answer_spans) / spec.duration_seconds
        if scores is report.seen and answer.evidence and share < 0.5:
            best = answer.evidence[0]
            middle = (best.start + best.end) / 2
            inside = any(s <= middle < e for s, e in question.answer_spans)
            report.seen["evidence points right"].add(spec.seed, float(inside))
            report.chance["evidence points right"].add(spec.seed, share)
    for family in (question.family, "all"):
        report.chance[family].add(spec.seed, 1 / len(question.choices))


def _score_spans(vlm: TimeVLM, spec: VideoSpec, memory: VideoMemory, report: Report) -> None:
    """Grounding against the world's timeline; "blind" answers the whole video."""
    whole = [(0.0, spec.duration_seconds)]
    for query in make_grounding(spec, spec.seed):
        found = [(s.start, s.end) for s in vlm.ground(memory, query.text)]
        for scores, spans in ((report.seen, found), (report.blind, whole)):
            iou = interval_iou(spans, query.spans)
            scores["grounding mIoU"].add(spec.seed, iou)
            scores["grounding IoU>=0.5"].add(spec.seed, float(iou >= 0.5))


def _score_captions(vlm: TimeVLM, spec: VideoSpec, memory: VideoMemory, report: Report) -> None:
    """Scenes that a caption covers with IoU 0.5, and those it also describes word by word."""
    lines = [(c.start, c.end, c.text) for c in vlm.caption(memory)]
    for start, end, text in make_captions(spec):
        matches = [t for s, e, t in lines if interval_iou([(s, e)], [(start, end)]) >= 0.5]
        report.seen["caption scene found"].add(spec.seed, float(bool(matches)))
        report.seen["caption scene exact"].add(spec.seed, float(text in matches))
