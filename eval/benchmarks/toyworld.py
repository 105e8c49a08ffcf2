"""ToyWorld-QA: questions about rendered shapes, made by `timevlm synth`; needs no download.

A folder holds `annotations.json` and its videos:

    {"version": "ToyWorld-QA v1", "split": "test", "videos": [{"video": "videos/000.mp4",
      "duration": 40.0,
      "questions": [{"id", "family", "question", "options", "answer": index}],
      "grounding": [{"id", "family", "query", "spans": [[start, end], ...]}],
      "captions": [{"start", "end", "text"}]}]}

A grounding query may be true several times: the answered span counts by its best IoU.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from eval.benchmarks import prompts
from eval.benchmarks.base import (
    Benchmark,
    Grade,
    Graded,
    MetricRow,
    Row,
    Style,
    Tables,
)
from eval.benchmarks.choice import choice_tables, grade_index, grade_text
from eval.benchmarks.dense import dense_tables, grade_events, grade_events_text
from eval.benchmarks.files import read_json
from eval.benchmarks.grounding import grade_span, grade_span_text, grounding_tables
from eval.benchmarks.tables import accuracy_row, counts
from eval.metrics.spans import SECONDS, TimeScale
from eval.records import NATIVE_RULE, Prompt, Sample
from eval.subtitles import Cue
from timevlm.errors import InputError

FORMAT = "ToyWorld-QA v1"
ANNOTATIONS = "annotations.json"
TASKS = ("choice", "grounding", "dense_caption")


class ToyWorld(Benchmark):
    """ToyWorld-QA: all three tasks, or one of them as split."""

    name = "toyworld"
    title = "ToyWorld-QA"
    version = "1.0"
    splits = ("all", *TASKS)
    task = "choice"

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """All samples of a video follow each other, so that they can share its memory."""
        return load_toyworld(data, TASKS if split == "all" else (split,))

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
        """The shared wordings by task; "official" is the plain style."""
        style = "plain" if style == "official" else style
        if sample.task == "choice":
            return prompts.common_choice(sample.question, sample.options, style)
        sizes = {"num_frames": num_frames, "duration_seconds": duration_seconds}
        if sample.task == "grounding":
            return prompts.grounding(sample.question, style, **sizes)
        return prompts.dense_captions(style, **sizes)

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """By the sample's task."""
        if sample.task == "choice":
            return grade_text(sample, raw, rules=rules)
        if sample.task == "grounding":
            return grade_span_text(sample, raw, rules=rules, scale=scale)
        return grade_events_text(sample, raw, scale=scale)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """By the sample's task."""
        judge = {"choice": grade_index, "grounding": grade_span, "dense_caption": grade_events}
        return judge[sample.task](sample, value, NATIVE_RULE)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """Each task's tables; with several tasks their titles begin with the task's name.

        But for the breakdowns of choices: "by family" is theirs, "grounding: by family" is not.
        """
        graded = self.regrade(rows, rules)
        by_task = {
            task: [item for item in graded if item.row["task"] == task]
            for task in TASKS
            if any(item.row["task"] == task for item in graded)
        }
        found = {task: self._task_tables(task, items, rules) for task, items in by_task.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        tables: Tables = {"overall": [tables["overall"][0] for tables in found.values()]}
        for task, own in found.items():
            for title, lines in own.items():
                if title != "counts":
                    is_bare = task == "choice" and title.startswith("by ")
                    tables[title if is_bare else f"{task}: {title}"] = lines
        tables["counts"] = counts(graded)
        return tables

    def _task_tables(self, task: str, graded: Sequence[Graded], rules: str) -> Tables:
        if task == "choice":
            return choice_tables(graded, ("family",), _choice_overall, rules)
        if task == "grounding":
            return grounding_tables(graded, ("family",))
        return dense_tables(graded, uses_meteor=False)


def load_toyworld(data: Path, tasks: Sequence[str] = TASKS) -> Iterator[Sample]:
    """The samples of a folder, video after video.

    Raises InputError if the folder has no annotations of this version.
    """
    path = data / ANNOTATIONS
    if not path.is_file():
        raise InputError(f"{data} holds no {ANNOTATIONS}; make a folder with `timevlm synth`")
    content = read_json(path)
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT:
        raise InputError(f"{path} has version {version!r}; this program reads {FORMAT!r}")
    makers = {"choice": _choices, "grounding": _queries, "dense_caption": _captions}
    for video in content["videos"]:
        for task in tasks:
            yield from makers[task](str(content["split"]), video)


def _choice_overall(graded: Sequence[Graded], rules: str) -> list[MetricRow]:
    return [accuracy_row("accuracy", graded)]


def _common(split: str, video: Mapping[str, Any], number: object) -> dict[str, Any]:
    stem = PurePosixPath(video["video"]).stem
    return {
        "id": f"toyworld:{split}:{number}",
        "bench": "toyworld",
        "video": video["video"],
        "cluster": stem,
        "extra": {"duration": float(video["duration"])},
    }


def _choices(split: str, video: Mapping[str, Any]) -> Iterator[Sample]:
    for item in video.get("questions", ()):
        yield Sample(
            **_common(split, video, item["id"]),
            task="choice",
            question=item["question"],
            options=tuple(item["options"]),
            gold=int(item["answer"]),
            tags={"task": "choice", "family": item["family"]},
        )


def _queries(split: str, video: Mapping[str, Any]) -> Iterator[Sample]:
    for item in video.get("grounding", ()):
        yield Sample(
            **_common(split, video, item["id"]),
            task="grounding",
            question=item["query"],
            gold=tuple((float(start), float(end)) for start, end in item["spans"]),
            tags={"task": "grounding", "family": item["family"]},
        )


def _captions(split: str, video: Mapping[str, Any]) -> Iterator[Sample]:
    if video.get("captions"):
        stem = PurePosixPath(video["video"]).stem
        yield Sample(
            **_common(split, video, f"{stem}-captions"),
            task="dense_caption",
            question="Describe every scene.",
            gold=[(float(c["start"]), float(c["end"]), c["text"]) for c in video["captions"]],
            tags={"task": "dense_caption", "family": "captions"},
        )
