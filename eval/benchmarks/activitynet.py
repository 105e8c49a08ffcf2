"""ActivityNet Captions as grounding: each sentence is to be found in its video (arXiv 1705.00754).

Layout: `val_2.json` (17,031 queries, 4,885 videos; what papers call the test) and `val_1.json`
(17,505, 4,917; TimeViper's default), which VideoX renames `test.json` and `val.json`; videos
`{id}.mp4`, `.mkv` or `.webm`, with or without the prefix `v_`. Several hundred videos can no longer
be downloaded, so the coverage is part of a result.
"""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from eval.benchmarks.files import VideoIndex, find_annotation, read_json
from eval.benchmarks.grounding import GroundingBenchmark, published_recalls
from eval.records import Sample
from timevlm.errors import InputError

_FILES = {"val_2": ("val_2.json", "test.json"), "val_1": ("val_1.json", "val.json")}
_FOLDERS = ("", "captions/", "annotations/")


class ActivityNetGrounding(GroundingBenchmark):
    """ActivityNet Captions, val_2 or val_1."""

    name = "activitynet"
    title = "ActivityNet Captions (grounding)"
    version = "1.0"
    splits = ("val_2", "val_1")
    num_questions = MappingProxyType({"val_2": 17031, "val_1": 17505})
    published = (
        *published_recalls(
            "NumPro tables, second hand",
            {
                "VTimeLLM-7B": (44.0, 27.8, 14.3, 30.4),
                "TimeChat-7B": (30.2, 16.9, 8.2, 21.8),
                "HawkEye-7B": (49.1, 29.3, 10.7, 32.7),
                "GPT-4o": (33.3, 21.2, 10.4, 23.7),
            },
        ),
        *published_recalls("Time-R1 README", {"Time-R1-7B (RL)": (58.6, 39.0, 21.4, None)}),
    )

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per sentence, sentences stripped of outer spaces."""
        wanted = [folder + name for folder in _FOLDERS for name in _FILES[split]]
        path = find_annotation(data, wanted, self.title)
        videos = VideoIndex(data)
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} is not an object of videos; see docs/eval/benchmarks.md")
        for video, entry in content.items():
            official = f"videos/{video}.mp4"
            bare = f"videos/{video.removeprefix('v_')}.mp4"
            place = videos.find(official) or videos.find(bare) or official
            pairs = zip(entry["timestamps"], entry["sentences"], strict=True)
            for number, ((start, end), sentence) in enumerate(pairs):
                yield Sample(
                    id=f"{self.name}:{split}:{video}-{number}",
                    bench=self.name,
                    task="grounding",
                    video=place,
                    question=sentence.strip(),
                    gold=((float(min(start, end)), float(max(start, end))),),
                    cluster=video,
                    extra={"duration": float(entry["duration"])},
                )
