"""LongVideoBench: 6,678 questions that refer to moments of videos (arXiv 2407.15754).

Layout: `lvb_val.json` (1,337 questions) and `lvb_test_wo_gt.json` (5,341, gold hidden), videos in
`videos/{video_path}`, subtitles in `subtitles/{subtitle_path}`. The Parquet copy, with `option0` to
`option4` and "N/A" for missing ones, is read too. Published scores mix runs with and without
subtitles, so each carries which.

The original interleaves subtitles with frames. A prompt is text alone, so here they stand before
the question with their times; `eval.subtitles.interleave` gives the original order to models that
can take it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import PublishedScore, Row, require_split
from eval.benchmarks.choice import ChoiceBenchmark
from eval.benchmarks.files import (
    FETCHED,
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.prompts import LETTERS, dotted
from eval.records import Prompt, Sample
from eval.subtitles import Cue, at_frames_widened, read_longvideobench
from timevlm.errors import InputError

_CANDIDATES = {
    "val": ("lvb_val.json", "validation-*.parquet", "data/validation-*.parquet"),
    "test": ("lvb_test_wo_gt.json", "test-*.parquet", "data/test-*.parquet"),
}
_HUB_SPLITS = {"val": "validation", "test": "test"}
_MISSING_OPTION = "N/A"
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"


def _published() -> Iterator[PublishedScore]:
    for model, value, note in (
        ("TimeViper-9B without TransV", 54.1, "no subtitles"),
        ("TimeViper-9B with TransV", 52.0, "no subtitles"),
        ("Qwen2.5-7B, TimeViper recipe", 55.4, "no subtitles"),
        ("VideoChat-Flash-7B@224", 64.2, "with subtitles"),
        ("Video-XL-7B", 50.7, "subtitles not stated"),
        ("Vamba-10B", 55.9, "subtitles not stated"),
        ("LLaVA-Video-7B", 58.2, "subtitles not stated"),
        ("GPT-4o", 66.7, "subtitles not stated"),
        ("Gemini-1.5-Pro", 64.0, "subtitles not stated"),
    ):
        yield PublishedScore(
            model=model, metric="accuracy", value=value, source=_TIMEVIPER, note=note
        )
    yield PublishedScore(
        model="Qwen2.5-VL-7B",
        metric="accuracy",
        value=56.0,
        source="Qwen2.5-VL technical report, table 8",
        note="subtitles not stated",
    )


class LongVideoBench(ChoiceBenchmark):
    """LongVideoBench, with or without subtitles."""

    name = "longvideobench"
    title = "LongVideoBench"
    version = "1.0"
    splits = ("val", "test")
    has_subtitles = True
    hub = "longvideobench/LongVideoBench"
    breakdowns = ("duration_group", "question_category", "level", "topic_category")
    num_questions = MappingProxyType({"val": 1337, "test": 5341})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per row; in the test split the gold is None."""
        fetched = f"{FETCHED}/longvideobench-{split}.jsonl"
        path = find_annotation(data, (*_CANDIDATES[split], fetched), self.title)
        videos = VideoIndex(data)
        for row in read_rows(path):
            require(row, ("id", "video_id", "question", "video_path"), path)
            options = _options(row, path)
            gold = int(row.get("correct_choice", -1))
            yield Sample(
                id=f"{self.name}:{split}:{row['id']}",
                bench=self.name,
                task="choice",
                video=videos.locate(f"videos/{row['video_path']}"),
                question=row["question"].strip(),
                options=options,
                gold=gold if split == "val" and 0 <= gold < len(options) else None,
                cluster=str(row["video_id"]),
                tags={key: str(row[key]) for key in self.breakdowns if row.get(key) is not None},
                subtitle=_subtitle(data, row) if subtitles else None,
                extra={
                    "duration": row.get("duration"),
                    "subtitle_offset": float(row.get("starting_timestamp_for_subtitles") or 0),
                },
            )

    def official(self, sample: Sample) -> Prompt:
        """Question, options "A. text", and the request for the letter."""
        return Prompt(
            text=f"Question: {sample.question}\n{dotted(sample.options)}\n"
            "Answer with the option's letter from the given choices directly."
        )

    def cues(self, sample: Sample, data: Path) -> tuple[Cue, ...]:
        """The cues of the sample's JSON file in video time, from the video's start on."""
        if not sample.subtitle:
            return ()
        duration = sample.extra.get("duration")
        cues = read_longvideobench(
            data / sample.subtitle,
            duration_seconds=float("inf") if duration is None else float(duration),
            offset_seconds=sample.extra.get("subtitle_offset", 0.0),
        )
        return tuple(cue for cue in cues if cue.end > 0)

    def subtitle_block(self, cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[str]:
        """The cues that cover a frame as the original's loader decides, with their times."""
        shown = at_frames_widened(cues, frame_seconds) if len(frame_seconds) else cues
        return [f"{max(cue.start, 0.0):.1f}s - {cue.end:.1f}s: {cue.text}" for cue in shown]

    def submission(self, rows: Sequence[Row], *, rules: str = "ours") -> tuple[str, Any] | None:
        """`{id: letter}` of the test split for the leaderboard; unreadable replies are left out."""
        prefix = f"{self.name}:test:"
        letters = {
            item.row["id"].removeprefix(prefix): LETTERS[item.grade.parsed]
            for item in self.regrade(rows, rules)
            if item.row["id"].startswith(prefix) and item.grade.parsed is not None
        }
        return ("longvideobench_test.json", letters) if letters else None

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the hub's split as JSON lines; the terms of the set must be accepted."""
        require_split(self, split)
        rows = fetch_rows(self.hub, config=None, split=_HUB_SPLITS[split], file=None)
        return [write_rows(data / FETCHED / f"longvideobench-{split}.jsonl", rows)]


def _options(row: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    if "candidates" in row:
        return tuple(str(option).strip() for option in row["candidates"])
    require(row, ("option0",), path)
    texts = [row.get(f"option{number}") for number in range(5)]
    kept = tuple(str(text).strip() for text in texts if text not in (None, _MISSING_OPTION))
    if not kept:
        raise InputError(f"question {row['id']} of {path} has no options")
    return kept


def _subtitle(data: Path, row: Mapping[str, Any]) -> str | None:
    name = row.get("subtitle_path")
    return f"subtitles/{name}" if name and (data / "subtitles" / name).is_file() else None
