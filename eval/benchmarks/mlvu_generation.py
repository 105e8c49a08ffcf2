"""MLVU's two generation tasks, graded by a judge model (arXiv 2406.04264).

Layout: `MLVU/json/8_sub_scene.json` (201 questions, each with the points that a right answer makes)
and `9_summary.json` (217), beside the multiple-choice files; videos in `MLVU/video/{same stem}/`.
An answer's score is the sum of two grades from 1 to 5 (`eval.metrics.open_answers`), G-Avg the mean
of both tasks. The grades are a judge's, asked after the run: `timevlm eval judge RESULT`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import Benchmark, Grade, Graded, MetricRow, Row, Style, Tables
from eval.benchmarks.files import VideoIndex, find_annotation, read_rows, require
from eval.benchmarks.tables import count_row, counts, mean_row
from eval.metrics.cleaning import clean_reply
from eval.metrics.judge import Judge
from eval.metrics.open_answers import (
    ASPECTS,
    PROMPT_VERSION,
    Grades,
    OpenAnswer,
    grade_answers,
)
from eval.metrics.spans import SECONDS, TimeScale
from eval.metrics.statistics import interval_over_clusters
from eval.metrics.vdc import JudgePrompts
from eval.records import NATIVE_RULE, Prompt, Sample
from eval.subtitles import Cue

_STEMS = MappingProxyType({"sub_scene": "8_sub_scene", "summary": "9_summary"})
_FOLDERS = ("MLVU/json", "json", "MLVU")
_NOTE = "of 10, the sum of two grades"
_NEEDS_JUDGE = "needs a judge model: timevlm eval judge RESULT"


class MLVUGeneration(Benchmark):
    """Sub-scene captioning and video summary of MLVU dev."""

    name = "mlvugeneration"
    title = "MLVU, generation tasks"
    version = "1.0"
    splits = ("all", *_STEMS)
    task = "open_answer"
    needs_judge = True
    num_questions = MappingProxyType({"all": 418, "sub_scene": 201, "summary": 217})

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question."""
        videos = VideoIndex(data)
        for task in _STEMS if split == "all" else (split,):
            stem = _STEMS[task]
            wanted = tuple(f"{folder}/{stem}.json" for folder in _FOLDERS)
            path = find_annotation(data, wanted, f"MLVU {task}")
            for number, row in enumerate(read_rows(path)):
                require(row, ("video", "question", "answer"), path)
                yield Sample(
                    id=f"{self.name}:{task}:{number}",
                    bench=self.name,
                    task="open_answer",
                    video=videos.locate(f"video/{stem}/{row['video']}"),
                    question=str(row["question"]).strip(),
                    gold=str(row["answer"]).strip(),
                    cluster=Path(row["video"]).stem,
                    tags={"task": task},
                    extra={
                        "duration": row.get("duration"),
                        "points": [str(point) for point in row.get("scoring_points") or ()],
                    },
                )

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
        """The question; "official" with a system text."""
        if style != "official":
            return Prompt(text=sample.question)
        return Prompt(
            system="Watch this video carefully and attend to every detail. Answer the question "
            "from what you see.",
            text=sample.question,
        )

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """The words; their score is the judge's. An empty answer scores 0."""
        text = clean_reply(raw).strip()
        return Grade(parsed=text or None, rule="words", score=None if text else 0.0)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """Words from the model itself."""
        return replace(self.grade(sample, str(value)), rule=NATIVE_RULE)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """The counts, and a line that says that G-Avg waits for a judge."""
        line = MetricRow(name="G-Avg", value=None, unit="", n=0, note=_NEEDS_JUDGE)
        return {"overall": [line], "counts": counts(self.regrade(rows, rules))}

    def score_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> Tables:
        """G-Avg over both tasks, each task's score (2 to 10), its two grades, and the counts."""
        graded = self.regrade(rows, rules)
        grades = _judge(graded, judge)
        numbers = counts(_with_share(graded, grades))
        unread = sum(not found.parsed for found in grades.values())
        numbers.append(count_row("n_judge_unparsed", unread, len(graded)))
        tasks = {
            task: [item for item in graded if item.row["tags"]["task"] == task] for task in ASPECTS
        }
        tasks = {task: items for task, items in tasks.items() if items}
        overall = [_mean(f"{task} ({judge.name})", x, grades, None) for task, x in tasks.items()]
        if len(tasks) == len(ASPECTS):
            overall.insert(0, _average(f"G-Avg ({judge.name})", tasks, grades))
        aspects = [
            _mean(f"{task}: {aspect}", items, grades, aspect)
            for task, items in tasks.items()
            for aspect in ASPECTS[task]
        ]
        return {"overall": overall, "by aspect": aspects, "counts": numbers}

    def regrade_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> list[Graded]:
        """Each answer with its grades as a share: 0 for 2 of 10, 1 for 10."""
        graded = self.regrade(rows, rules)
        return _with_share(graded, _judge(graded, judge))


def _judge(graded: Sequence[Graded], judge: Judge) -> dict[str, Grades]:
    """The judge's grades by sample id."""
    answers = [
        OpenAnswer(
            task=item.row["tags"]["task"],
            question=item.row["question"],
            answer=item.grade.parsed or "",
            reference=item.row["gold"],
            points=item.row["extra"]["points"],
        )
        for item in graded
    ]
    ids = [item.row["id"] for item in graded]
    return dict(zip(ids, grade_answers(answers, judge), strict=True))


def _with_share(graded: Sequence[Graded], grades: Mapping[str, Grades]) -> list[Graded]:
    return [
        replace(item, grade=replace(item.grade, score=grades[item.row["id"]].share))
        for item in graded
    ]


def _mean(
    name: str, items: Sequence[Graded], grades: Mapping[str, Grades], aspect: str | None
) -> MetricRow:
    """The mean of one aspect, or of the sum of both."""

    def value(item: Graded) -> float:
        found = grades[item.row["id"]]
        return found.total if aspect is None else found.aspects[aspect]

    note = f"{_NOTE}; judge prompts {PROMPT_VERSION}" if aspect is None else "of 5"
    return mean_row(name, items, value, unit="", note=note)


def _average(
    name: str, tasks: Mapping[str, Sequence[Graded]], grades: Mapping[str, Grades]
) -> MetricRow:
    """The mean of the tasks' means, with an interval over videos."""
    items = [item for members in tasks.values() for item in members]
    values = [grades[item.row["id"]].total for item in items]
    clusters = [item.row["cluster"] for item in items]
    labels = [item.row["tags"]["task"] for item in items]
    means = [
        sum(grades[item.row["id"]].total for item in members) / len(members)
        for members in tasks.values()
    ]
    row = MetricRow(name=name, value=sum(means) / len(means), unit="", n=len(items))
    row["num_videos"] = len(set(clusters))
    found = interval_over_clusters(values, clusters, groups=labels)
    if found is not None:
        row["low"], row["high"] = found
    row["note"] = "mean of the two tasks"
    return row
