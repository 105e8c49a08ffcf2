"""CG-Bench: questions about clues in long videos, with five to eight options (arXiv 2412.12075).

Layout: `cgbench_mini.json` (3,000 questions about 1,118 videos) and `cgbench.json` (12,129 about
1,219); videos in `cg_videos_720p/{video_uid}.mp4`, subtitles in `cg_subtitles/{video_uid}.srt`. The
set is handed out on request.

What is scored is long-acc, the accuracy of answers to whole videos. Clue-acc (the same questions
about the clue's seconds alone) and the overlap of named clues are not part of this; the clues'
intervals are kept with the samples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from eval.benchmarks.base import Graded, MetricRow, PublishedScore
from eval.benchmarks.choice import ChoiceBenchmark, gold_of_text
from eval.benchmarks.files import VideoIndex, find_annotation, read_rows, require
from eval.benchmarks.prompts import LETTERS, dotted, letter_list
from eval.benchmarks.tables import accuracy_row
from eval.records import Prompt, Sample
from eval.subtitles import Cue, read_srt

_KEYS = ("qid", "video_uid", "question", "choices")
_CANDIDATES = {
    "mini": ("cgbench_mini.json", "*/cgbench_mini.json"),
    "full": ("cgbench.json", "*/cgbench.json"),
}


def _published() -> Iterator[PublishedScore]:
    for model, value in (
        ("GPT-4o", 45.2),
        ("InternVL2-78B", 42.2),
        ("Qwen2-VL-72B", 41.3),
        ("VideoMind-7B", 38.4),
        ("Gemini-1.5-Pro", 37.2),
        ("LLaVA-OneVision-7B", 31.1),
        ("LongVA-7B", 28.7),
    ):
        yield PublishedScore(
            model=model,
            metric="long-acc",
            value=value,
            source="VideoMind, list of benchmark results",
            note="mini; subtitles not stated",
        )


class CGBench(ChoiceBenchmark):
    """CG-Bench, the mini split or all of it."""

    name = "cgbench"
    title = "CG-Bench"
    version = "1.0"
    splits = ("mini", "full")
    has_subtitles = True
    breakdowns = ("domain", "sub_category")
    num_questions = MappingProxyType({"mini": 3000, "full": 12129})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question."""
        path = find_annotation(data, _CANDIDATES[split], f"{self.title} {split}")
        videos = VideoIndex(data)
        for row in read_rows(path):
            require(row, _KEYS, path)
            video = str(row["video_uid"])
            options = tuple(str(text).strip() for text in row["choices"])
            subtitle = f"cg_subtitles/{video}.srt"
            yield Sample(
                id=f"{self.name}:{split}:{row['qid']}",
                bench=self.name,
                task="choice",
                video=videos.locate(f"cg_videos_720p/{video}.mp4"),
                question=str(row["question"]).strip(),
                options=options,
                gold=_gold(row.get("right_answer"), row.get("answer"), options),
                cluster=video,
                tags={key: str(row[key]) for key in self.breakdowns if row.get(key) is not None},
                subtitle=subtitle if subtitles and (data / subtitle).is_file() else None,
                extra={
                    "duration": row.get("duration"),
                    "clue_intervals": [list(span) for span in row.get("clue_intervals") or ()],
                },
            )

    def official(self, sample: Sample) -> Prompt:
        """Question, options "A. text", and the request for the letter; the wording is ours."""
        letters = letter_list(len(sample.options))
        return Prompt(
            text=f"{sample.question}\n{dotted(sample.options)}\n"
            f"Respond with only the letter ({letters}) of the correct option."
        )

    def cues(self, sample: Sample, data: Path) -> tuple[Cue, ...]:
        """The cues of the sample's SRT file."""
        return read_srt(data / sample.subtitle) if sample.subtitle else ()

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Accuracy of answers to whole videos."""
        return [accuracy_row("long-acc", graded)]


def _gold(letter: object, answer: object, options: tuple[str, ...]) -> int | None:
    """The option of the right letter, or of the answer's text where there is none."""
    mark = str(letter or "").strip().upper()
    if len(mark) == 1 and mark in LETTERS[: len(options)]:
        return LETTERS.index(mark)
    return None if answer is None else gold_of_text(str(answer).strip(), options)
