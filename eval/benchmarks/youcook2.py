"""YouCook2 dense captions: the steps of a recipe, each with its time (arXiv 1703.09788).

Layout: `youcookii_annotations_trainval.json` with `database[video] = {duration, subset,
recipe_type, annotations: [{id, segment: [start, end], sentence}]}`; videos as .mp4, .mkv or .webm
in any folder (officially `raw_videos/validation/{recipe_type}/`). The paper counts 457 validation
videos; fewer can be downloaded today. lmms-eval's task of this name gives the segments and asks for
sentences, which is another task.
"""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from eval.benchmarks.base import PublishedScore
from eval.benchmarks.dense import DenseCaptionBenchmark
from eval.benchmarks.files import VideoIndex, find_annotation, read_json
from eval.records import Sample
from timevlm.errors import InputError

_CANDIDATES = ("youcookii_annotations_trainval.json", "*/youcookii_annotations_trainval.json")
_SUBSETS = {"val": "validation", "train": "training"}


def _published() -> Iterator[PublishedScore]:
    for model, soda, cider, f1 in (("TimeChat-7B", 1.0, 2.9, 12.7), ("Seq2Time", 1.3, 4.2, 16.2)):
        for metric, value in (("SODA_c", soda), ("CIDEr", cider), ("F1", f1)):
            yield PublishedScore(
                model=model, metric=metric, value=value, source="papers, second hand"
            )


class YouCook2(DenseCaptionBenchmark):
    """YouCook2, validation videos."""

    name = "youcook2"
    title = "YouCook2 (dense captions)"
    version = "1.0"
    splits = ("val", "train")
    num_questions = MappingProxyType({"val": 457})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per video of the subset."""
        path = find_annotation(data, _CANDIDATES, self.title)
        content = read_json(path)
        if not isinstance(content, dict) or "database" not in content:
            raise InputError(f"{path} has no key 'database'; see docs/eval/benchmarks.md")
        videos = VideoIndex(data)
        for video, entry in content["database"].items():
            if entry["subset"] != _SUBSETS[split]:
                continue
            recipe = str(entry.get("recipe_type", "unknown"))
            place = f"raw_videos/{_SUBSETS[split]}/{recipe}/{video}.mp4"
            gold = sorted(
                (float(item["segment"][0]), float(item["segment"][1]), item["sentence"].strip())
                for item in entry["annotations"]
            )
            yield Sample(
                id=f"{self.name}:{split}:{video}",
                bench=self.name,
                task="dense_caption",
                video=videos.locate(place),
                question="Describe the steps of the recipe, each with its time.",
                gold=gold,
                cluster=video,
                tags={"recipe_type": recipe},
                extra={"duration": float(entry["duration"])},
            )
