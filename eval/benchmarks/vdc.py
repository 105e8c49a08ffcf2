"""VDC, the detailed captions of AuroraCap, scored by VDCscore (arXiv 2410.03051).

Layout: `VDC_1k.jsonl` (one line per video: video_id, video_name, a caption for each task) and
`VDCScore_qa/{task}.jsonl` with lines `{video_id: [{question, answer, category}, ...]}`; videos by
video_name. The repack with one row per task and video and a `qa_list` is read too.

VDCscore asks a judge model each question about the caption alone and then whether its answer agrees
with the right one. The judge runs after the captions are written (`score_judged`); its name is
part of the score's name. Upstream draws one of several wordings of the prompt without a
seed; here the sample's hash decides, or `--prompt-index` for all; `plain` always takes the first.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import (
    Benchmark,
    Grade,
    Graded,
    MetricRow,
    PublishedScore,
    Row,
    Style,
    Tables,
)
from eval.benchmarks.files import (
    FETCHED,
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.tables import count_row, counts, mean_row
from eval.metrics.cleaning import clean_reply
from eval.metrics.judge import Judge
from eval.metrics.spans import SECONDS, TimeScale
from eval.metrics.vdc import (
    DEFAULT_PROMPTS,
    CaptionedVideo,
    JudgedVideo,
    JudgePrompts,
    judge_captions,
    task_score,
    vdc_score,
)
from eval.records import NATIVE_RULE, Prompt, Sample
from eval.subtitles import Cue

TASKS = ("detailed", "short", "background", "main_object", "camera")
_SUBJECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "detailed": (
            "everything that the video shows, in detail",
            "the video in as much detail as you can, from start to end",
            "the video in detail: subjects, actions, setting and camera work",
            "in detail what is seen and what happens in the video",
            "the whole video in depth, so that someone who cannot see it could picture it",
            "the video in a long and complete caption",
        ),
        "short": (
            "the video in one sentence",
            "the video briefly",
            "what the video shows, in a short caption",
            "the main point of the video in few words",
        ),
        "background": (
            "the background of the video",
            "the setting in which the video takes place",
            "the surroundings: objects, place, weather, time of day",
            "the environment behind the main subject of the video",
        ),
        "main_object": (
            "the main subject of the video",
            "the main object: its looks, its actions and how it moves",
            "what the most prominent subject of the video looks like and does",
            "the subject that the video is about",
        ),
        "camera": (
            "the camera work of the video",
            "how the camera moves and from which angles it looks",
            "the shots, angles and camera movements of the video",
            "how the video is filmed",
        ),
    }
)
_OPENINGS = ("Describe", "Please describe", "Write down", "Put into words")
_FETCHED = f"{FETCHED}/vdc.jsonl"
_JUDGE = "Llama-3.1-8B-Instruct"  # of every published score
_AURORA = "lmms-eval VDC README"
_COLUMNS = ("camera", "short", "background", "main_object", "detailed")


def _published() -> Iterator[PublishedScore]:
    for model, pairs in {
        "AuroraCap-7B": "43.50/2.27 32.07/1.68 35.92/1.84 39.02/1.97 41.30/2.15",
        "LLaVA-OneVision-7B": "37.82/2.02 32.58/1.70 37.43/1.92 38.21/1.96 41.20/2.13",
        "InternVL-2-8B": "39.08/2.11 33.02/1.74 37.47/1.89 44.16/2.22 34.89/1.82",
        "Gemini-1.5-Pro": "38.68/2.05 35.71/1.85 43.84/2.23 47.32/2.41 43.11/2.22",
        "LongVA-7B": "35.32/1.90 31.94/1.63 36.39/1.85 40.95/2.11 27.91/1.48",
    }.items():
        for task, pair in zip(_COLUMNS, pairs.split(), strict=True):
            share, points = map(float, pair.split("/"))
            for metric, value in (("accuracy", share), ("score", points)):
                metric = f"{task}: {metric} ({_JUDGE})"
                yield PublishedScore(model=model, metric=metric, value=value, source=_AURORA)
    for model, value in (
        ("TimeViper-9B without TransV", 39.7),
        ("TimeViper-9B with TransV", 39.1),
        ("Qwen2.5-7B, TimeViper recipe", 42.0),
        ("AuroraLong-2B", 42.5),
    ):
        yield PublishedScore(
            model=model,
            metric=f"detailed: accuracy ({_JUDGE})",
            value=value,
            source="TimeViper, arXiv 2511.16595, table 2",
            note="its AuroraCap row holds the main_object value",
        )


class VDC(Benchmark):
    """VDC: five caption tasks or one of them."""

    name = "vdc"
    title = "VDC (Video Detailed Captions)"
    version = "1.0"
    splits = ("all", *TASKS)
    task = "detailed_caption"
    needs_judge = True
    takes_judge_prompts = True
    hub = "wchai/lmms_VDC_test"
    published = tuple(_published())

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per task and video, its questions in `extra["qa"]`."""
        videos = VideoIndex(data)
        for task in TASKS if split == "all" else (split,):
            for video, name, caption, questions in _captions(data, task):
                yield Sample(
                    id=f"{self.name}:{task}:{video}",
                    bench=self.name,
                    task="detailed_caption",
                    video=videos.locate(f"Test_Videos/{name}"),
                    question=f"{task} caption",
                    gold=caption,
                    cluster=video,
                    tags={"task": task},
                    extra={"qa": questions},
                )

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
        """One of the task's wordings: by the sample's hash, or the first one in `plain`."""
        wordings = self.wordings(sample)
        digest = hashlib.sha256(f"{sample.tags['task']}{sample.cluster}".encode()).digest()
        index = 0 if style == "plain" else int.from_bytes(digest, "big") % len(wordings)
        return wordings[index]

    def wordings(self, sample: Sample) -> tuple[Prompt, ...]:
        """24 for detailed captions, 16 for each other task."""
        return tuple(Prompt(text=text) for text in caption_wordings(str(sample.tags["task"])))

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """The caption; its score is the judge's. An empty one scores 0."""
        text = clean_reply(raw).strip()
        return Grade(parsed=text or None, rule="caption", score=None if text else 0.0)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """A caption from the model itself."""
        grade = self.grade(sample, str(value))
        return Grade(parsed=grade.parsed, rule=NATIVE_RULE, score=grade.score)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """The counts, and a line that says that VDCscore waits for a judge."""
        note = "needs a judge model: timevlm eval judge RESULT"
        line = MetricRow(name="VDCscore", value=None, unit="%", n=0, note=note)
        return {"overall": [line], "counts": counts(self.regrade(rows, rules))}

    def score_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> Tables:
        """Accuracy (%) and score (0-5) of each task, VDCscore over all five, and the counts.

        `compat_official` lines leave out videos with a zero, as the published script does.
        """
        prompts = prompts or DEFAULT_PROMPTS
        graded = self.regrade(rows, rules)
        judged = _judge(graded, judge, prompts)
        found: dict[str, list[tuple[Graded, JudgedVideo]]] = {}
        for item in graded:
            if item.row["id"] in judged:
                pair = (item, judged[item.row["id"]])
                found.setdefault(item.row["tags"]["task"], []).append(pair)
        numbers = counts(_with_accuracy(graded, judged))
        unread = sum(video.num_unparsed for video in judged.values())
        numbers.append(count_row("n_judge_unparsed", unread, len(graded)))
        return {
            "overall": _overall(found, judge.name, f"judge prompts {prompts.version}"),
            "by task": [row for task, pairs in found.items() for row in _task_rows(task, pairs)],
            "counts": numbers,
        }

    def regrade_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> list[Graded]:
        """Each caption with the share of its questions that it answers."""
        graded = self.regrade(rows, rules)
        return _with_accuracy(graded, _judge(graded, judge, prompts or DEFAULT_PROMPTS))

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the repack on the hub as JSON lines."""
        rows = fetch_rows(self.hub, config=None, split="test", file=None)
        return [write_rows(data / _FETCHED, rows)]


def _judge(graded: Sequence[Graded], judge: Judge, prompts: JudgePrompts) -> dict[str, JudgedVideo]:
    """The judge's verdicts by sample id; samples without questions are left out."""
    captions = [
        CaptionedVideo(
            video_id=item.row["id"],
            caption=item.grade.parsed or "",
            questions=item.row["extra"]["qa"],
        )
        for item in graded
        if item.row["extra"]["qa"]
    ]
    return {video.video_id: video for video in judge_captions(captions, judge, prompts=prompts)}


def _with_accuracy(graded: Sequence[Graded], judged: Mapping[str, JudgedVideo]) -> list[Graded]:
    found = []
    for item in graded:
        video = judged.get(item.row["id"])
        score = item.grade.score if video is None else video.accuracy
        found.append(replace(item, grade=replace(item.grade, score=score)))
    return found


def _overall(
    found: Mapping[str, Sequence[tuple[Graded, JudgedVideo]]], judge_name: str, note: str
) -> list[MetricRow]:
    """VDCscore where all five tasks are there, then each task, under the judge's name."""
    tasks = {task: task_score([video for _, video in pairs]) for task, pairs in found.items()}
    num = sum(map(len, found.values()))
    lines: list[MetricRow] = []
    if set(tasks) == set(TASKS):
        mean = vdc_score(tasks)
        for metric, unit in (("accuracy", "%"), ("score", "0-5")):
            name = f"VDCscore: {metric} ({judge_name})"
            line = MetricRow(name=name, value=mean[metric], unit=unit, n=num, note=note)
            lines.append(line)
    for task, pairs in found.items():
        accuracies = {id(item): video.accuracy for item, video in pairs}
        points = {id(item): video.score for item, video in pairs}
        items = [item for item, _ in pairs]
        for metric, values, unit in (("accuracy", accuracies, "%"), ("score", points, "0-5")):
            value = partial(_value_of, values)
            name = f"{task}: {metric} ({judge_name})"
            lines.append(mean_row(name, items, value, unit=unit, note=note))
    return lines


def _task_rows(task: str, pairs: Sequence[tuple[Graded, JudgedVideo]]) -> list[MetricRow]:
    """The numbers of the published script; none where every video has a zero."""
    videos = [video for _, video in pairs]
    if not any(video.accuracy > 0 and video.score > 0 for video in videos):
        return []
    compat = task_score(videos, compat_official=True)
    num = int(compat["n_videos"])
    return [
        MetricRow(name=f"{task}: {metric}, compat_official", value=compat[metric], unit=unit, n=num)
        for metric, unit in (("accuracy", "%"), ("score", "0-5"))
    ]


def _value_of(values: Mapping[int, float], item: Graded) -> float:
    return values[id(item)]


def caption_wordings(task: str) -> tuple[str, ...]:
    """The prompts of a task: 24 for detailed, 16 for each other."""
    pairs = product(_SUBJECTS[task], _OPENINGS)
    return tuple(f"{opening} {subject}." for subject, opening in pairs)


def _captions(data: Path, task: str) -> Iterator[tuple[str, str, str | None, list[dict[str, str]]]]:
    """(video id, video file name, reference caption, questions) of either layout."""
    wanted = (
        *(f"VDCScore_qa/{task}.jsonl", f"*/VDCScore_qa/{task}.jsonl", f"{task}.jsonl"),
        *(_FETCHED, "data/*.parquet", "*.parquet"),
    )
    path = find_annotation(data, wanted, f"VDC {task}")
    if path.stem != task:
        for row in read_rows(path):
            require(row, ("video_id", "video_name", "qa_list"), path)
            if str(row.get("task", row.get("type", task))).startswith(task):
                caption = row.get("caption") or row.get(f"{task}_caption")
                questions = [dict(question) for question in row["qa_list"]]
                yield str(row["video_id"]), str(row["video_name"]), caption, questions
        return
    meta_path = find_annotation(data, ("VDC_1k.jsonl", "*/VDC_1k.jsonl"), "VDC")
    meta = {str(row["video_id"]): row for row in read_rows(meta_path)}
    questions_of: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path):
        for video, questions in row.items():
            # main_object has four videos on two lines each: their questions belong together.
            known = questions_of.setdefault(video, [])
            known += [question for question in questions if question not in known]
    for video, questions in questions_of.items():
        entry = meta.get(video, {})
        name = str(entry.get("video_name", f"{video}.mp4"))
        yield video, name, entry.get(f"{task}_caption"), questions
