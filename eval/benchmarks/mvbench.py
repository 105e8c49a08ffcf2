"""MVBench: 20 tasks of 200 questions about short videos (arXiv 2311.17005).

Layout: `json/{task}.json` (keys video, question, candidates, answer as text; some with start and
end), videos in one folder per task, see `FOLDERS`; some archives unpack under an extra
`data0613/`. episodic_reasoning has folders of JPEG files at 3 frames a second, which `prepare`
wraps into files without encoding them again. Questions have one to five options.

The official check takes an empty reply for right; ours is wrong. The official evaluation takes
the middles of 16 equal segments within [start, end].
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import Graded, MetricRow, PublishedScore
from eval.benchmarks.choice import ChoiceBenchmark, gold_of_text
from eval.benchmarks.files import (
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.pictures import wrap_pictures
from eval.benchmarks.problems import Problem, listing
from eval.benchmarks.prompts import bracketed
from eval.benchmarks.tables import accuracy_row
from eval.records import Prompt, Sample
from timevlm.errors import InputError

FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "action_antonym": "ssv2_video",
        "action_count": "perception/videos",
        "action_localization": "sta/sta_video",
        "action_prediction": "star/Charades_v1_480",
        "action_sequence": "star/Charades_v1_480",
        "character_order": "perception/videos",
        "counterfactual_inference": "clevrer/video_validation",
        "egocentric_navigation": "vlnqa",
        "episodic_reasoning": "tvqa/frames_fps3_hq",
        "fine_grained_action": "Moments_in_Time_Raw/videos",
        "fine_grained_pose": "nturgbd",
        "moving_attribute": "clevrer/video_validation",
        "moving_count": "clevrer/video_validation",
        "moving_direction": "clevrer/video_validation",
        "object_existence": "clevrer/video_validation",
        "object_interaction": "star/Charades_v1_480",
        "object_shuffle": "perception/videos",
        "scene_transition": "scene_qa/video",
        "state_change": "perception/videos",
        "unexpected_action": "FunQA_test/test",
    }
)
_PICTURE_TASK = "episodic_reasoning"
_PICTURES_PER_SECOND = 3
_WRAPPED = "tvqa/frames_fps3_hq_mkv"  # where `prepare` writes
_TIMEVIPER = "TimeViper, arXiv 2511.16595, table 2"


def _published() -> Iterator[PublishedScore]:
    for model, value in (
        ("TimeViper-9B without TransV", 57.2),
        ("TimeViper-9B with TransV", 56.2),
        ("Qwen2.5-7B, TimeViper recipe", 57.6),
        ("Video-XL-7B", 55.3),
        ("VideoChat-Flash-7B@224", 73.2),
        ("Vamba-10B", 60.4),
        ("LongVU-7B", 66.9),
        ("LLaVA-Video-7B", 58.6),
        ("GPT-4o", 64.6),
        ("Gemini-1.5-Pro", 60.5),
        ("AuroraLong-2B", 53.2),
    ):
        yield PublishedScore(model=model, metric="accuracy", value=value, source=_TIMEVIPER)
    yield PublishedScore(
        model="Qwen2.5-VL-7B",
        metric="accuracy",
        value=69.6,
        source="Qwen2.5-VL technical report, table 8",
    )


class MVBench(ChoiceBenchmark):
    """MVBench, all 20 tasks."""

    name = "mvbench"
    title = "MVBench"
    version = "1.0"
    splits = ("test",)
    hub = "OpenGVLab/MVBench"
    breakdowns = ("task",)
    equal_texts = True
    num_questions = MappingProxyType({"test": 4000})
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question, task after task; `clip` is the official [start, end]."""
        videos = VideoIndex(data)
        for task, path in _task_files(data):
            for number, row in enumerate(read_rows(path)):
                require(row, ("video", "question", "candidates", "answer"), path)
                options = tuple(str(text).strip() for text in row["candidates"])
                answer = str(row["answer"]).strip()
                gold = gold_of_text(answer, options)
                yield Sample(
                    id=f"{self.name}:{split}:{task}-{number}",
                    bench=self.name,
                    task="choice",
                    video=_video(videos, task, str(row["video"])),
                    clip=_clip(row),
                    question=row["question"].strip(),
                    options=options,
                    gold=gold,
                    cluster=f"{FOLDERS[task]}/{PurePosixPath(str(row['video'])).stem}",
                    tags={"task": task},
                    extra={"gold_text": answer} if gold is None else {},
                )

    def official(self, sample: Sample) -> Prompt:
        """System text, options "(A) text", and an answer that begins with "Best option:("."""
        return Prompt(
            system="Watch the video carefully. Attend to the cause and sequence of events, the "
            "detail and movement of objects, and the action and pose of persons. Based on what "
            "you see, pick the best option that answers the question.",
            text=f"Question: {sample.question}\nOptions:\n{bracketed(sample.options)}\n"
            "Only give the best option.",
            answer_prefix="Best option:(",
        )

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Accuracy; the mean over tasks is the same where all have 200 questions."""
        sizes = set(Counter(item.row["tags"]["task"] for item in graded).values())
        note = "" if len(sizes) < 2 else "tasks of unequal size: not the mean over tasks"
        return [accuracy_row("accuracy", graded, note=note)]

    def notes(self, samples: Sequence[Sample], split: str) -> list[Problem]:
        """Official counts, folders of pictures to wrap, and golds that no option holds."""
        problems = super().notes(samples, split)
        folders = sum(not PurePosixPath(sample.video).suffix for sample in samples)
        if folders:
            what = f"{folders} questions are about folders of pictures: run with --prepare first"
            problems.append(Problem(level="missing", what=what))
        lost = [sample.id for sample in samples if "gold_text" in sample.extra]
        if lost:
            what = f"{len(lost)} questions have a gold that is no option and score 0: "
            problems.append(Problem(level="note", what=what + listing(lost)))
        return problems

    def prepare(self, data: Path, split: str) -> int:
        """Wrap the folders of pictures into video files, once."""
        written = 0
        for sample in self.samples(data, split):
            folder = data / sample.video
            if sample.tags["task"] == _PICTURE_TASK and folder.is_dir():
                target = data / _WRAPPED / f"{folder.name}.mkv"
                if not target.exists():
                    wrap_pictures(folder, target, pictures_per_second=_PICTURES_PER_SECOND)
                    written += 1
        return written

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The 20 official files, one for each configuration on the hub."""
        return [
            write_rows(
                data / f"json/{task}.json",
                fetch_rows(self.hub, config=task, split="train", file=None),
            )
            for task in FOLDERS
        ]


def _task_files(data: Path) -> list[tuple[str, Path]]:
    first = next(iter(FOLDERS))
    folder = find_annotation(
        data, (f"json/{first}.json", f"*/json/{first}.json", f"{first}.json"), "MVBench"
    ).parent
    lacking = [task for task in FOLDERS if not (folder / f"{task}.json").is_file()]
    if lacking:
        raise InputError(f"{folder} lacks {', '.join(f'{t}.json' for t in lacking)}")
    return [(task, folder / f"{task}.json") for task in FOLDERS]


def _video(videos: VideoIndex, task: str, name: str) -> str:
    official = f"{FOLDERS[task]}/{name}"
    if task == _PICTURE_TASK:
        return videos.find(f"{_WRAPPED}/{name}.mkv", strict=True) or videos.locate(
            official, strict=True
        )
    return videos.locate(official, strict=True)


def _clip(row: Mapping[str, Any]) -> tuple[float, float] | None:
    if row.get("start") is None or row.get("end") is None:
        return None
    start, end = float(row["start"]), float(row["end"])
    return (start, end) if start < end else None
