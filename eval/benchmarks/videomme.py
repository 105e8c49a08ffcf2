"""Video-MME: 2,700 four-way questions about 900 videos of 11 seconds to an hour (arXiv 2405.21075).

Layout: `videomme/test-00000-of-00001.parquet` (2,700 rows), videos in `data/{videoID}.mp4`, SRT
files in `subtitle/{videoID}.srt` (744 of them; every long video has one).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from eval.benchmarks.base import Graded, MetricRow, PublishedScore
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
from eval.benchmarks.problems import Problem, listing
from eval.benchmarks.prompts import (
    LETTERS,
    dotted,
    letter_list,
    without_letters,
)
from eval.benchmarks.tables import accuracy_row
from eval.records import Prompt, Sample
from eval.subtitles import Cue, read_srt

_KEYS = ("duration", "domain", "sub_category", "videoID", "question_id", "question", "options")
_TAGS = ("duration", "domain", "sub_category", "task_type")
_FETCHED = f"{FETCHED}/videomme.jsonl"
_CANDIDATES = (
    "videomme/test-00000-of-00001.parquet",
    "test-00000-of-00001.parquet",
    "videomme*.parquet",
    "videomme*.json*",
    _FETCHED,
)
_SUBTITLES = ("subtitle", "subtitles")
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"
_QWEN = "Qwen2.5-VL technical report, table 8"


def _published() -> Iterator[PublishedScore]:
    no_subtitles = "no subtitles"
    for model, everything, long in (
        ("TimeViper-9B without TransV", 58.8, 48.8),
        ("TimeViper-9B with TransV", 56.9, 48.2),
        ("Qwen2.5-7B, TimeViper recipe", 56.6, 48.7),
        ("VideoChat-Flash-7B@224", 64.0, 53.6),
        ("LongVU-7B", 60.6, 59.5),
        ("LongVA-7B", 52.6, 46.2),
        ("GPT-4o", 71.9, 65.3),
        ("Gemini-1.5-Pro", 75.0, 67.4),
    ):
        for metric, value in (("accuracy", everything), ("duration: long", long)):
            yield PublishedScore(
                model=model, metric=metric, value=value, source=_TIMEVIPER, note=no_subtitles
            )
    for model, value in (("Video-XL-7B", 55.5), ("Vamba-10B", 57.8), ("LLaVA-Video-7B", 63.3)):
        yield PublishedScore(
            model=model, metric="accuracy", value=value, source=_TIMEVIPER, note=no_subtitles
        )
    for value, note in ((65.1, no_subtitles), (71.6, "with subtitles")):
        yield PublishedScore(
            model="Qwen2.5-VL-7B", metric="accuracy", value=value, source=_QWEN, note=note
        )


class VideoMME(ChoiceBenchmark):
    """Video-MME, with or without subtitles."""

    name = "videomme"
    title = "Video-MME"
    version = "1.0"
    splits = ("test",)
    has_subtitles = True
    hub = "lmms-lab/Video-MME"
    breakdowns = ("duration", "domain", "sub_category", "task_type")
    num_questions = MappingProxyType({"test": 2700})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per row; `subtitle` is set where the run uses them and the file exists."""
        path = find_annotation(data, _CANDIDATES, self.title)
        videos = VideoIndex(data)
        for row in read_rows(path):
            require(row, (*_KEYS, "answer"), path)
            video = str(row["videoID"])
            yield Sample(
                id=f"{self.name}:{split}:{row['question_id']}",
                bench=self.name,
                task="choice",
                video=videos.locate(f"data/{video}.mp4"),
                question=row["question"].strip(),
                options=without_letters(row["options"]),
                gold=LETTERS.index(row["answer"].strip()),
                cluster=video,
                tags={key: str(row[key]) for key in _TAGS if key in row},
                subtitle=_subtitle(data, video) if subtitles else None,
            )

    def official(self, sample: Sample) -> Prompt:
        """Instruction, question, options, "The best answer is:"."""
        letters = letter_list(len(sample.options))
        return Prompt(
            text="Select the best answer to the following multiple-choice question based on the "
            f"video. Respond with only the letter ({letters}) of the correct option.\n"
            f"{sample.question}\n{dotted(sample.options)}\nThe best answer is:"
        )

    def cues(self, sample: Sample, data: Path) -> tuple[Cue, ...]:
        """The cues of the sample's SRT file."""
        return read_srt(data / sample.subtitle) if sample.subtitle else ()

    def subtitle_problems(self, samples: Sequence[Sample]) -> list[Problem]:
        """Videos may lack subtitles, but no long one does in the official archive."""
        problems = super().subtitle_problems(samples)
        lacking = {
            s.cluster for s in samples if s.subtitle is None and s.tags["duration"] == "long"
        }
        if lacking and all(problem.level != "fatal" for problem in problems):
            what = f"{len(lacking)} long videos have no subtitle file, officially all have: "
            problems.append(Problem(level="missing", what=what + listing(sorted(lacking))))
        return problems

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Accuracy over all questions, and as the official script counts."""
        return [*super().overall(graded, rules), self._official_script(graded)]

    def _official_script(self, graded: Sequence[Graded]) -> MetricRow:
        """The official regex over answered rows alone: unreadable answers leave the denominator."""
        again = self.regrade([item.row for item in graded], "official")
        note = "official regex; unreadable answers are left out"
        return accuracy_row("compat_official", again, "answered", note=note)

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the hub's test split as JSON lines."""
        rows = fetch_rows(self.hub, config="videomme", split=split, file=None)
        return [write_rows(data / _FETCHED, rows)]


def _subtitle(data: Path, video: str) -> str | None:
    for folder in _SUBTITLES:
        if (data / folder / f"{video}.srt").is_file():
            return f"{folder}/{video}.srt"
    return None
