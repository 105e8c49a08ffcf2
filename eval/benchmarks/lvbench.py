"""LVBench: 1,549 four-way questions about 103 videos of about an hour (arXiv 2406.08035).

Layout: `video_info.meta.jsonl`, one line per video with its `qa` list, the options inside the
question text; videos as `{key}.mp4`, in re-hosts also by line number ("00000014.mp4"). Re-hosts
with one row per question are read too, also with the options in `candidates`.

A question has one or more types. The official score counts every question once; TimeViper's
scorer counts it once per type, which cannot be compared with it, so both are reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import Graded, MetricRow, PublishedScore
from eval.benchmarks.choice import ChoiceBenchmark
from eval.benchmarks.files import (
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.problems import Problem
from eval.benchmarks.prompts import LETTERS, bracketed, split_question, without_letters
from eval.benchmarks.tables import accuracy_row
from eval.records import Prompt, Sample
from timevlm.errors import InputError

_META = "video_info.meta.jsonl"
_CANDIDATES = (
    _META,
    f"*/{_META}",
    "lvbench*.jsonl",
    "lvbench*.json",
    "data/*.parquet",
    "*.parquet",
)
_VIDEOS_IN_PAPER = 103
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"


def _published() -> Iterator[PublishedScore]:
    for model, value in (
        ("TimeViper-9B without TransV", 35.5),
        ("TimeViper-9B with TransV", 35.6),
        ("Qwen2.5-7B, TimeViper recipe", 36.6),
        ("VideoChat-Flash-7B@224", 47.2),
        ("GPT-4o", 30.8),
        ("Gemini-1.5-Pro", 33.1),
    ):
        note = "label-weighted in TimeViper's own rows" if "Time" in model else ""
        metric = "accuracy_timeviper" if note else "accuracy"
        yield PublishedScore(model=model, metric=metric, value=value, source=_TIMEVIPER, note=note)
    secondary = "Vamba paper, second hand"
    for model, value in (("Video-XL-7B", 36.8), ("Vamba-10B", 42.1), ("LongVU-7B", 37.8)):
        yield PublishedScore(model=model, metric="accuracy", value=value, source=secondary)
    yield PublishedScore(
        model="Qwen2.5-VL-7B",
        metric="accuracy",
        value=45.3,
        source="Qwen2.5-VL technical report, table 8",
    )


class LVBench(ChoiceBenchmark):
    """LVBench."""

    name = "lvbench"
    title = "LVBench"
    version = "1.0"
    splits = ("test",)
    hub = "zai-org/LVBench"
    breakdowns = ("question_type", "video_type")
    num_questions = MappingProxyType({"test": 1549})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question, in the order of the videos."""
        path = find_annotation(data, _CANDIDATES, self.title)
        videos = VideoIndex(data)
        for number, key, info, question in _questions(path):
            stem, options = _options(question, path)
            official = f"videos/{info.get('video_path') or key + '.mp4'}"
            video = videos.find(official) or videos.find(f"videos/{number:08d}.mp4") or official
            yield Sample(
                id=f"{self.name}:{split}:{question['uid']}",
                bench=self.name,
                task="choice",
                video=video,
                question=stem,
                options=options,
                gold=_gold(str(question["answer"]), options, path),
                cluster=key,
                tags={
                    "question_type": _labels(question.get("question_type")),
                    "video_type": str(info.get("type", "unknown")),
                },
                extra={"time_reference": question.get("time_reference")},
            )

    def official(self, sample: Sample) -> Prompt:
        """Question and options as stored; there is no official wording beyond them."""
        request = "Answer with the option letter."
        return Prompt(text=f"{sample.question}\n{bracketed(sample.options)}\n{request}")

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Per question (official) and once per label (TimeViper's table)."""
        note = "a question counts once for each of its types"
        weighted = accuracy_row(
            "accuracy_timeviper", graded, "label_weighted", tag="question_type", note=note
        )
        return [*super().overall(graded, rules), weighted]

    def notes(self, samples: Sequence[Sample], split: str) -> list[Problem]:
        """Official counts, and which numbering a re-host's files are taken to have."""
        problems = super().notes(samples, split)
        videos = len({sample.cluster for sample in samples})
        if videos != _VIDEOS_IN_PAPER:
            what = f"{videos} videos, the paper has {_VIDEOS_IN_PAPER}"
            problems.append(Problem(level="note", what=what))
        if any(Path(sample.video).stem.isdigit() for sample in samples):
            what = "videos are named by number, taken as the annotation's line from 0"
            problems.append(Problem(level="note", what=what))
        return problems

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The official annotation file."""
        return [
            write_rows(data / _META, fetch_rows(self.hub, config=None, split="train", file=_META))
        ]


def _questions(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any], Mapping[str, Any]]]:
    """(video number from 0, video key, video row, question) of nested and of flat files.

    Flat rows without a uid get the number of their line.
    """
    rows = read_rows(path)
    if not rows or "qa" not in rows[0]:
        order: dict[str, int] = {}
        for line, row in enumerate(rows):
            require(row, ("question", "answer"), path)
            name = str(row.get("key") or row.get("video") or row.get("video_path") or "")
            key = Path(name).name.removesuffix(".mp4")
            yield order.setdefault(key, len(order)), key, row, {"uid": f"line{line}", **row}
        return
    for number, row in enumerate(rows):
        require(row, ("key", "qa"), path)
        for question in row["qa"]:
            require(question, ("uid", "question", "answer"), path)
            yield number, str(row["key"]), row, question


def _options(question: Mapping[str, Any], path: Path) -> tuple[str, tuple[str, ...]]:
    """Stem and options, which are inside the question or, in some copies, beside it."""
    if "candidates" in question:
        return question["question"].strip(), without_letters(question["candidates"])
    stem, options = split_question(question["question"])
    if not options:
        raise InputError(f"question {question['uid']} of {path} holds no lines (A), (B), ...")
    return stem, options


def _gold(answer: str, options: Sequence[str], path: Path) -> int:
    """The option of an answer "B" or "(B) text"."""
    letter = answer.strip().lstrip("(")[:1]
    if not letter or letter not in LETTERS[: len(options)]:
        raise InputError(f"the answer {answer!r} in {path} is none of {len(options)} letters")
    return LETTERS.index(letter)


def _labels(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(label) for label in value]
