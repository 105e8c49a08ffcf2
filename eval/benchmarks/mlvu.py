"""MLVU: seven multiple-choice tasks about videos of 3 minutes to 2 hours (arXiv 2406.04264).

Layout of dev: `MLVU/json/{1_plotQA, ..., 7_topic_reasoning}.json` (2,175 questions), videos in
`MLVU/video/{same stem}/{video}`. Test: `test_question.json` with six options, videos in one folder.
Repacks with the options inside the question and a letter as answer are read too. M-Avg is the mean
of the tasks' accuracies; TimeViper reports the mean over questions, so both are given. The two
generation tasks (G-Avg) are `eval.benchmarks.mlvu_generation`.

Defects that the reader handles: two needle questions have a gold text that no option holds, and 16
questions hold the same option twice, so an option that reads like the gold is right.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import Graded, MetricRow, PublishedScore, Row, require_split
from eval.benchmarks.choice import ChoiceBenchmark, gold_of_text
from eval.benchmarks.files import (
    FETCHED,
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.problems import Problem, listing
from eval.benchmarks.prompts import LETTERS, bracketed, split_question
from eval.benchmarks.tables import accuracy_row
from eval.records import Prompt, Sample
from timevlm.errors import InputError

TASKS = (
    *("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco"),
    "7_topic_reasoning",
)
_DEV_FOLDERS = ("MLVU/json", "json", "MLVU")
_TEST_FILES = (
    *("test_question.json", "*/test_question.json", "test-ground-truth/*mcq*.json"),
    *("MLVU_Test*.json", "*/test-*.parquet", "test-*.parquet"),
)
_REPACKS = {"dev": "sy1998/MLVU_dev", "test": "sy1998/MLVU_Test"}
# The gold of the two needle questions is this option in other words.
_ALIAS = "Catching the drone"
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"
_LEADERBOARD = "MLVU README, leaderboard"


def _published() -> Iterator[PublishedScore]:
    for model, metric, value in (
        ("TimeViper-9B without TransV", "accuracy_timeviper", 65.6),
        ("TimeViper-9B with TransV", "accuracy_timeviper", 63.1),
        ("Qwen2.5-7B, TimeViper recipe", "accuracy_timeviper", 64.9),
        ("VideoChat-Flash-7B@224", "M-Avg", 74.5),
        ("Vamba-10B", "M-Avg", 65.9),
        ("LongVU-7B", "M-Avg", 65.4),
        ("LLaVA-Video-7B", "M-Avg", 70.8),
        ("LongVA-7B", "M-Avg", 56.3),
    ):
        yield PublishedScore(model=model, metric=metric, value=value, source=_TIMEVIPER, note="dev")
    for model, value, note in (
        ("GPT-4o", 64.6, "dev"),
        ("Video-XL-7B", 64.9, "dev"),
        ("VideoLLaMA3-7B", 73.0, "dev"),
        ("Video-XL-7B", 45.5, "test"),
        ("LongVA-7B", 41.1, "test"),
        ("VideoLLaMA3-7B", 47.7, "test"),
        ("GPT-4o", 54.9, "test"),
    ):
        yield PublishedScore(
            model=model, metric="M-Avg", value=value, source=_LEADERBOARD, note=note
        )
    yield PublishedScore(
        model="Qwen2.5-VL-7B",
        metric="M-Avg",
        value=70.2,
        source="Qwen2.5-VL technical report, table 8",
        note="dev",
    )


class MLVU(ChoiceBenchmark):
    """MLVU, dev and test."""

    name = "mlvu"
    title = "MLVU"
    version = "1.0"
    splits = ("dev", "test")
    hub = "sy1998/MLVU_dev"
    breakdowns = ("task",)
    equal_texts = True
    num_questions = MappingProxyType({"dev": 2175, "test": 502})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per multiple-choice question."""
        videos = VideoIndex(data)
        for number, row, folder, path in _rows(data, split):
            require(row, ("question",), path)
            question, options = _question(row, path)
            name = str(row.get("video") or row.get("video_name") or "")
            task = str(row.get("question_type") or row.get("task_type") or folder)
            answer = row.get("answer")
            gold = _gold(answer, options)
            extra = {"duration": row.get("duration")}
            if answer is not None and gold is None:
                extra["gold_text"] = answer
            yield Sample(
                id=f"{self.name}:{split}:{row.get('question_id') or number}",
                bench=self.name,
                task="choice",
                video=videos.locate(f"{folder}/{name}"),
                question=question,
                options=options,
                gold=gold,
                cluster=Path(name).stem,
                tags={"task": task},
                extra=extra,
            )

    def official(self, sample: Sample) -> Prompt:
        """System text, options "(A) text", and an answer that begins with "Best Option: ("."""
        return Prompt(
            system="Watch this video carefully and attend to every detail. Based on what you "
            "see, select the best option that answers the question.",
            text=f"Question: {sample.question}\nOptions:\n{bracketed(sample.options)}\n"
            "Only give the best option.",
            answer_prefix="Best Option: (",
        )

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Mean of the task accuracies (M-Avg), and over questions as TimeViper counts."""
        return [
            accuracy_row(
                "M-Avg", graded, "macro", tag="task", note="mean of the tasks' accuracies"
            ),
            accuracy_row("accuracy_timeviper", graded, note="mean over questions"),
        ]

    def notes(self, samples: Sequence[Sample], split: str) -> list[Problem]:
        """Official counts and questions whose gold no option holds."""
        problems = super().notes(samples, split)
        lost = [sample.id for sample in samples if "gold_text" in sample.extra]
        if lost:
            what = f"{len(lost)} questions have a gold that is no option and score 0: "
            problems.append(Problem(level="note", what=what + listing(lost)))
        return problems

    def submission(self, rows: Sequence[Row], *, rules: str = "ours") -> tuple[str, Any] | None:
        """The test split's list of question id, type and letter."""
        answers = [
            {
                "question_id": item.row["id"].rpartition(":")[2],
                "question_type": item.row["tags"]["task"],
                "option": "" if item.grade.parsed is None else LETTERS[item.grade.parsed],
            }
            for item in self.regrade(rows, rules)
            if item.row["id"].startswith(f"{self.name}:test:")
        ]
        return ("mlvu_test.json", answers) if answers else None

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the repack on the hub as JSON lines."""
        require_split(self, split)
        rows = fetch_rows(_REPACKS[split], config=None, split="test", file=None)
        return [write_rows(data / FETCHED / f"mlvu-{split}.jsonl", rows)]


def _rows(data: Path, split: str) -> Iterator[tuple[str, Mapping[str, Any], str, Path]]:
    """(number, row, video folder, file) of the official files, or of a repack."""
    fetched = f"{FETCHED}/mlvu-{split}.jsonl"
    if split == "dev":
        for folder in _DEV_FOLDERS:
            paths = [data / folder / f"{task}.json" for task in TASKS]
            there = [path for path in paths if path.is_file()]
            if there and len(there) < len(paths):
                lacking = ", ".join(path.name for path in paths if path not in there)
                raise InputError(f"{data / folder} lacks {lacking}; download the whole folder")
            if there:
                for path in paths:
                    for number, row in enumerate(read_rows(path)):
                        yield f"{path.stem}-{number}", row, f"video/{path.stem}", path
                return
        wanted = (f"MLVU/json/{TASKS[0]}.json", f"json/{TASKS[0]}.json", fetched, "MLVU_dev*")
    else:
        wanted = (*_TEST_FILES, fetched)
    path = find_annotation(data, wanted, f"MLVU {split}")
    for number, row in enumerate(read_rows(path)):
        yield str(number), row, "video", path


def _question(row: Mapping[str, Any], path: Path) -> tuple[str, tuple[str, ...]]:
    if "candidates" in row:
        return row["question"].strip(), tuple(str(text).strip() for text in row["candidates"])
    question, options = split_question(row["question"])
    if not options:
        raise InputError(f"question {question!r} of {path} has no candidates and no option lines")
    return question, options


def _gold(answer: Any, options: Sequence[str]) -> int | None:
    """The option of an answer, which is a text in the official files and a letter in repacks."""
    if answer is None:
        return None
    text = str(answer).strip()
    gold = gold_of_text(text, options)
    if gold is None and len(text) == 1 and text in LETTERS[: len(options)]:
        return LETTERS.index(text)
    return gold_of_text(_ALIAS, options) if gold is None else gold
