"""Score a model on held-out videos of the procedural world, through the public API.

Per question family the share right, the same model shown no video at all (blind), and chance;
grounding against the timeline, with the whole video as the baseline; captions by their events;
how often the evidence spans meet the true event; and how far confidences can be trusted. Videos
are scored one by one into rows, so that a run can be spread over processes and resumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from timevlm.agreement import FOUND_IOU, interval_iou, overlap_seconds
from timevlm.api import NUM_BEAMS, TimeVLM
from timevlm.errors import InputError
from timevlm.generation import check_beams
from timevlm.memory import VideoMemory
from timevlm.results import Answer, Span
from timevlm.synth.captions import make_captions
from timevlm.synth.grounding import make_grounding
from timevlm.synth.questions import Question, make_questions
from timevlm.synth.render import render_frames
from timevlm.synth.world import check_source, frame_seconds, sample_video
from timevlm.training.evaluate_captions import caption_rows
from timevlm.training.evaluate_scores import (
    Row,
    calibration,
    chance_of_overlap,
    summarize_rows,
    tables_of,
)
from timevlm.training.evaluate_workers import Ledger, Work, map_items
from timevlm.video.tensor_frames import TensorFrames

RECALL_IOUS = (0.3, 0.5, 0.7)
# A question that rests on most of the video cannot tell good evidence from bad.
MAX_EVENT_SHARE = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which videos are scored, and on what. `seed` is that of the first video."""

    split: str = "test"
    level: str = "basic"
    num_videos: int = 100
    seed: int = 0
    fps: float = 1.0
    per_family: int = 2
    queries: int = 4
    num_beams: int = NUM_BEAMS
    blind: bool = True
    captions: bool = True

    def __post_init__(self) -> None:
        check_source(self.seed, self.split, self.level)
        if self.num_videos < 1 or self.per_family < 1 or self.queries < 0:
            raise InputError(
                f"{self.num_videos} videos with {self.per_family} questions a family and "
                f"{self.queries} queries cannot be scored; give at least 1, 1 and 0"
            )
        check_beams(self.num_beams)
        if self.fps <= 0:
            raise InputError(f"fps {self.fps} must be above 0")


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


def evaluate(
    vlm: TimeVLM,
    config: EvaluationConfig,
    *,
    processes: int = 1,
    rows_file: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score `vlm` on the videos of `config`; a JSON-safe report.

    With several processes each loads the model again by `vlm.name`. Rows are kept in `rows_file`,
    from which a later call with the same settings goes on. Raises InputError where the file
    belongs to other settings.
    """
    ledger = Ledger(rows_file, {"fingerprint": vlm.fingerprint, **asdict(config)})
    seeds = range(config.seed, config.seed + config.num_videos)
    missing = [seed for seed in seeds if str(seed) not in ledger.done]
    if processes == 1:
        open_work = partial(video_work, vlm, config)
    else:
        open_work = partial(_open_video_work, vlm.name, config)
    for seed, rows in map_items(open_work, missing, processes):
        ledger.add(str(seed), rows)
        if progress is not None:
            progress(len(ledger.done), config.num_videos)
    rows = [Row(**row) for seed in seeds for row in ledger.done[str(seed)]]
    described = {**asdict(config), "model": vlm.name, "fingerprint": vlm.fingerprint}
    return {**described, **report_rows(rows)}


def report_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Tables of rows, with all questions together as family "all", and the calibrations."""
    questions = [row for row in rows if row.table == "questions"]
    tables = tables_of(rows)
    if questions:
        tables["questions"] = {"all": summarize_rows(questions), **tables["questions"]}
    kinds = {
        table: {kind: summarize_rows([r for r in chosen if r.kind == kind])["model"] for kind in of}
        for table, chosen in (
            ("questions", questions),
            ("grounding mIoU", [row for row in rows if row.family == "mIoU"]),
        )
        if (of := sorted({row.kind for row in chosen}))
    }
    report: dict[str, Any] = {"tables": tables, "kinds": kinds}
    if questions:
        confidences = [row.confidence for row in questions if row.confidence is not None]
        report["calibration"] = calibration(confidences, [row.model for row in questions])
    if spans := [row for row in rows if row.table == "spans"]:
        scores = [row.confidence for row in spans]
        report["span_calibration"] = calibration(scores, [row.model for row in spans])
    return report


def video_work(vlm: TimeVLM, config: EvaluationConfig) -> Work:
    """A function from a seed to the rows (as dicts) of its video."""
    empty = blind_memory(vlm) if config.blind else None

    def work(seed: int) -> list[dict[str, Any]]:
        return [row.to_dict() for row in score_video(vlm, config, seed, empty)]

    return work


def _open_video_work(model: str, config: EvaluationConfig) -> Work:
    return video_work(TimeVLM.from_pretrained(model), config)


def score_video(
    vlm: TimeVLM, config: EvaluationConfig, seed: int, empty: VideoMemory | None
) -> list[Row]:
    """All rows of the video of a seed; `empty` is the memory of no frames, None: not asked."""
    spec = sample_video(seed, split=config.split, level=config.level)
    seconds = frame_seconds(spec, config.fps)
    pixels = render_frames([(spec, seconds)], vlm.frame_size, vlm.model.device)
    memory = vlm.watch(TensorFrames(pixels, seconds))
    rows: list[Row] = []
    for question in make_questions(spec, seed, per_family=config.per_family):
        rows += question_rows(vlm, question, (memory, empty), (seed, spec.duration_seconds))
    for query in make_grounding(spec, seed, limit=config.queries):
        found = vlm.ground(memory, query.text, num_beams=config.num_beams)
        spans = [(span.start, span.end) for span in found]
        whole = [(0.0, spec.duration_seconds)]
        rows += grounding_rows(seed, query.kind, (spans, whole), query.spans)
        rows += span_rows(seed, query.kind, found, query.spans)
    if config.captions:
        told = vlm.caption(memory, num_beams=config.num_beams)
        captions = [(c.start, c.end, c.text) for c in told]
        rows += caption_rows(spec.seed, captions, make_captions(spec))
    return rows


def question_rows(
    vlm: TimeVLM,
    question: Question,
    memories: tuple[VideoMemory, VideoMemory | None],
    video: tuple[int, float],
) -> list[Row]:
    """A question asked with and without the video, and what its evidence points at.

    `video` is (cluster, duration in seconds).
    """
    memory, empty = memories
    cluster, duration = video
    right = question.choices.index(question.answer)
    answer = vlm.ask(memory, question.text, choices=question.choices)
    blind = None
    if empty is not None:
        unseen = vlm.ask(empty, question.text, choices=question.choices)
        blind = float(unseen.choice == right)
    row = Row(
        table="questions",
        family=question.family,
        kind=question.kind,
        video=cluster,
        model=float(answer.choice == right),
        blind=blind,
        chance=1 / len(question.choices),
        confidence=answer.confidence,
    )
    return [row, *evidence_rows(answer, question, cluster, duration)]


def evidence_rows(answer: Answer, question: Question, video: int, duration: float) -> list[Row]:
    """Whether the seconds that an answer names are those that it truly rests on.

    "overlaps" asks for any overlap of any span, with chance from the same spans at a random place;
    "points right" for the middle of the best span inside the event; "inside" is the share of the
    spans' seconds inside it. Questions that rest on most of the video are left out.
    """
    truth = question.answer_spans
    share = sum(end - start for start, end in truth) / duration
    if not answer.evidence or share >= MAX_EVENT_SHARE:
        return []
    spans = [(span.start, span.end) for span in answer.evidence]
    middle = sum(spans[0]) / 2
    length = sum(end - start for start, end in spans)
    shared = overlap_seconds(spans, truth)
    scores = {
        "overlaps": (float(shared > 0), chance_of_overlap(spans, truth, duration)),
        "points right": (float(any(s <= middle < e for s, e in truth)), share),
        "inside": (shared / length if length > 0 else 0.0, share),
    }
    return [
        Row(table="evidence", family=name, kind=question.kind, video=video, model=got, chance=luck)
        for name, (got, luck) in scores.items()
    ]


def grounding_rows(
    video: int, kind: str, spans: tuple[Sequence[tuple[float, float]], ...], truth: Sequence
) -> list[Row]:
    """IoU of the model's spans and of a baseline's with the true ones, and recalls at IoUs.

    A repeated event has several spans; sets of spans are compared as sets of seconds.
    """
    iou, baseline = (interval_iou(each, truth) for each in spans)
    scores = {"mIoU": (iou, baseline)}
    for least in RECALL_IOUS:
        scores[f"R@1 IoU>={least}"] = (float(iou >= least), float(baseline >= least))
    return [
        Row(table="grounding", family=name, kind=kind, video=video, model=got, blind=whole)
        for name, (got, whole) in scores.items()
    ]


def span_rows(video: int, kind: str, found: Sequence[Span], truth: Sequence) -> list[Row]:
    """Whether each span that was told is right, as its score says: one true span with FOUND_IOU."""
    return [
        Row(
            table="spans",
            family="right",
            kind=kind,
            video=video,
            model=float(any(interval_iou([(s.start, s.end)], [t]) >= FOUND_IOU for t in truth)),
            confidence=s.score,
        )
        for s in found
    ]
