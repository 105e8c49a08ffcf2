"""What the temporal grounding benchmarks share: prompts, IoU, recalls, answers without watching."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from eval.benchmarks import prompts
from eval.benchmarks.base import (
    Benchmark,
    Grade,
    Graded,
    MetricRow,
    PublishedScore,
    Row,
    Style,
    Tables,
)
from eval.benchmarks.tables import counts, mean_row, mean_rows
from eval.metrics.grounding import (
    CENTRE_WIDTH,
    IOU_THRESHOLDS,
    centre_spans,
    clip_spans,
    full_video_spans,
    grounding_scores,
    interval_iou,
)
from eval.metrics.spans import SECONDS, SPAN_RULE_SETS, TimeScale, parse_spans
from eval.records import NATIVE_RULE, Prompt, Sample, video_seconds
from eval.subtitles import Cue


class GroundingBenchmark(Benchmark):
    """A benchmark whose questions are sentences to be found in time."""

    task = "grounding"

    def prompt(
        self,
        sample: Sample,
        *,
        num_frames: int,
        duration_seconds: float,
        style: Style = "official",
        frame_seconds: Sequence[float] = (),
        cues: Sequence[Cue] = (),
    ) -> Prompt:
        """The query in a style; `timeviper` states the video's length and the frames as well."""
        return prompts.grounding(
            sample.question, style, num_frames=num_frames, duration_seconds=duration_seconds
        )

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """The span that the reply names and its IoU; no grounding benchmark has official rules."""
        return grade_span_text(sample, raw, rules=rules, scale=scale)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """A (start, end) pair in seconds from the model itself."""
        return grade_span(sample, value, NATIVE_RULE)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """mIoU and R@1 with both comparisons, baselines, and the counts."""
        return grounding_tables(self.regrade(rows, rules))


def grade_span_text(
    sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
) -> Grade:
    """Judge a reply in words to a grounding query."""
    found = parse_spans(raw, rules=rules if rules in SPAN_RULE_SETS else "ours", scale=scale)
    grade = grade_span(sample, found.span, found.rule)
    return Grade(parsed=grade.parsed, rule=grade.rule, score=grade.score, swapped=found.swapped)


def grade_span(sample: Sample, span: Sequence[float] | None, rule: str) -> Grade:
    """Judge one span by its best IoU with a gold; None scores 0."""
    golds = sample.gold
    score = _best_iou(span, golds) if golds else None
    return Grade(parsed=None if span is None else [*map(float, span)], rule=rule, score=score)


def grounding_tables(graded: Sequence[Graded], breakdowns: Sequence[str] = ()) -> Tables:
    """The tables of a grounding result; mIoU by each of the tags `breakdowns`."""
    tables: Tables = {"overall": [mean_row("mIoU", graded, _iou, unit="%")]}
    for threshold in IOU_THRESHOLDS:
        tables["overall"].append(
            mean_row(f"R@1,IoU>={threshold:g}", graded, partial(_reaches, threshold), unit="%")
        )
    for threshold in IOU_THRESHOLDS:
        tables["overall"].append(
            mean_row(f"R@1,IoU>{threshold:g}", graded, partial(_exceeds, threshold), unit="%")
        )
    timed = [item for item in graded if _duration(item) and item.row["gold"]]
    if timed:
        note = "variant: golds cut at the video's end; papers leave them"
        clipped = mean_row("mIoU, gold clipped", timed, _clipped_iou, unit="%", note=note)
        tables["overall"].append(clipped)
        tables["baselines"] = list(_baseline_rows(timed))
    for tag in breakdowns:
        lines = mean_rows(graded, tag, _iou, unit="%")
        if lines:
            tables[f"by {tag}"] = lines
    tables["counts"] = counts(graded)
    for name, number in (
        ("n_swapped", sum(item.grade.swapped for item in graded)),
        ("n_gold_beyond_video", sum(_beyond(item) for item in timed)),
    ):
        tables["counts"].append(MetricRow(name=name, value=float(number), unit="", n=len(graded)))
    return tables


def published_recalls(
    source: str, scores: Mapping[str, tuple[float, float, float, float | None]]
) -> Iterator[PublishedScore]:
    """Published rows of R@1 at 0.3, 0.5, 0.7 and mIoU, by model."""
    for model, (*recalls, miou) in scores.items():
        for threshold, value in zip(IOU_THRESHOLDS, recalls, strict=True):
            yield PublishedScore(
                model=model, metric=f"R@1,IoU>={threshold:g}", value=value, source=source
            )
        if miou is not None:
            yield PublishedScore(model=model, metric="mIoU", value=miou, source=source)


def _baseline_rows(graded: Sequence[Graded]) -> Iterator[MetricRow]:
    """What the full video and its middle score as answers to the same queries."""
    durations = [_duration(item) for item in graded]
    answers = {
        "full video": full_video_spans(durations),
        f"centre {CENTRE_WIDTH:.0%}": centre_spans(durations),
    }
    for answer, spans in answers.items():
        ious = [_best_iou(span, i.row["gold"]) for span, i in zip(spans, graded, strict=True)]
        for metric, value in grounding_scores(ious).items():
            yield MetricRow(name=f"{answer}: {metric}", value=value, unit="%", n=len(ious))


def _best_iou(span: Sequence[float] | None, golds: Sequence[Sequence[float]]) -> float:
    return max(interval_iou(span, gold) for gold in golds)


def _iou(item: Graded) -> float | None:
    return item.grade.score


def _reaches(threshold: float, item: Graded) -> float | None:
    return None if item.grade.score is None else float(item.grade.score >= threshold)


def _exceeds(threshold: float, item: Graded) -> float | None:
    return None if item.grade.score is None else float(item.grade.score > threshold)


def _clipped_iou(item: Graded) -> float:
    golds = item.row["gold"]
    clipped = clip_spans(golds, [_duration(item)] * len(golds))
    return _best_iou(item.grade.parsed, clipped)


def _duration(item: Graded) -> float | None:
    return video_seconds(item.row)


def _beyond(item: Graded) -> bool:
    return any(end > _duration(item) for _, end in item.row["gold"])
