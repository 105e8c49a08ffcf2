"""Charades-STA: 3,720 sentences to be found in 1,334 videos of half a minute (arXiv 1705.02101).

Layout: `charades_sta_test.txt` with lines `VID start end##sentence.`, durations in
`Charades_v1_test.csv` (column length), videos `Charades_v1_480/{VID}.mp4`; or rows with video,
caption, timestamp. 562 golds end after the duration of the CSV. All papers leave them as they are,
and so does the headline; the line "mIoU, gold clipped" shows what clipping would do.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from eval.benchmarks.base import PublishedScore, require_split
from eval.benchmarks.files import (
    FETCHED,
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.grounding import GroundingBenchmark, published_recalls
from eval.records import Sample
from timevlm.errors import InputError

_LINE = re.compile(r"(?P<video>\S+)\s+(?P<start>[\d.]+)\s+(?P<end>[\d.]+)\s*##\s*(?P<text>.+)")
_FETCHED = f"{FETCHED}/charades.jsonl"
_CANDIDATES = (
    *("charades_sta_test.txt", "*/charades_sta_test.txt"),
    *("data/test-*.parquet", "test-*.parquet", _FETCHED),
)
_DURATIONS = ("Charades_v1_test.csv", "*/Charades_v1_test.csv")
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"


def _published() -> Iterator[PublishedScore]:
    for model, value in (
        ("TimeViper-9B without TransV", 40.5),
        ("TimeViper-9B with TransV", 37.9),
        ("Qwen2.5-7B, TimeViper recipe", 40.8),
        ("GPT-4o", 35.7),
    ):
        yield PublishedScore(model=model, metric="mIoU", value=value, source=_TIMEVIPER)
    yield PublishedScore(
        model="Qwen2.5-VL-7B",
        metric="mIoU",
        value=43.6,
        source="Qwen2.5-VL technical report, table 8",
        note="reproduced in lmms-eval as 29.5 only (lmms-eval #857)",
    )
    yield from published_recalls(
        "NumPro tables, second hand",
        {
            "VTimeLLM-7B": (51.0, 27.5, 11.4, 31.2),
            "TimeChat-7B": (47.7, 22.9, 12.5, 30.6),
            "HawkEye-7B": (50.6, 31.4, 14.5, 33.7),
            "GPT-4o (NumPro)": (55.0, 32.0, 11.5, 35.4),
        },
    )
    yield from published_recalls(
        "Time-R1 README; mIoU from TimeViper, table 2",
        {
            "TimeSuite-7B": (69.9, 48.7, 24.0, None),
            "VideoChat-Flash-7B": (74.5, 53.1, 27.6, 48.4),
            "Time-R1-7B (RL)": (78.1, 60.8, 35.3, None),
        },
    )


class CharadesSTA(GroundingBenchmark):
    """Charades-STA, test split."""

    name = "charades"
    title = "Charades-STA"
    version = "1.0"
    splits = ("test",)
    hub = "lmms-eval/charades_sta"
    num_questions = MappingProxyType({"test": 3720})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per line of the file."""
        path = find_annotation(data, _CANDIDATES, self.title)
        durations = _durations(data)
        videos = VideoIndex(data)
        for number, (video, start, end, sentence) in enumerate(_queries(path)):
            yield Sample(
                id=f"{self.name}:{split}:{video}-{number}",
                bench=self.name,
                task="grounding",
                video=videos.locate(f"Charades_v1_480/{video}.mp4"),
                question=sentence,
                gold=((start, end),),
                cluster=video,
                extra={"duration": durations.get(video)},
            )

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the hub's copy as JSON lines (without durations)."""
        require_split(self, split)
        rows = fetch_rows(self.hub, config=None, split="test", file=None)
        return [write_rows(data / _FETCHED, rows)]


def _queries(path: Path) -> Iterator[tuple[str, float, float, str]]:
    """(video id, start, end, sentence) of the text file or of rows."""
    if path.suffix != ".txt":
        for row in read_rows(path):
            require(row, ("video", "caption", "timestamp"), path)
            start, end = row["timestamp"]
            video = Path(str(row["video"])).name.removesuffix(".mp4")
            yield video, float(start), float(end), str(row["caption"]).strip()
        return
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(f"line {number} of {path} is not 'VID start end##sentence': {line!r}")
        yield match["video"], float(match["start"]), float(match["end"]), match["text"].strip()


def _durations(data: Path) -> dict[str, float]:
    """Seconds by video id; empty if the CSV is not there (prompts then use the probed length)."""
    for candidate in _DURATIONS:
        for path in sorted(data.glob(candidate)):
            rows = read_rows(path)
            for row in rows[:1]:
                require(row, ("id", "length"), path)
            return {row["id"]: float(row["length"]) for row in rows if row["length"]}
    return {}
