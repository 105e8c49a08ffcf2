"""TempCompass: what changes over time in 410 short videos, asked in four ways (arXiv 2403.00476).

Layout: `questions/{multi-choice,yes_no,caption_matching,captioning}.json`, each of the form
`{video: {dimension: [{question, answer}]}}` with the options inside the question; or the hub's
Parquet with the columns video_id, dim, question, answer; videos in `videos/{video}.mp4`.

Replies are matched by rules alone; where the original asks a judge model, an unreadable reply is
wrong here. The captioning task needs a judge that says which fact a caption agrees with
(`score_judged`), so its samples have no score of their own. The README of the benchmark doubts
lmms-eval's per-dimension scores, so ours are over questions of a dimension within a task.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import (
    Grade,
    Graded,
    MetricRow,
    PublishedScore,
    Row,
    Style,
    Tables,
    require_split,
)
from eval.benchmarks.choice import ChoiceBenchmark, choice_tables, grade_index
from eval.benchmarks.files import (
    FETCHED,
    VideoIndex,
    fetch_rows,
    find_annotation,
    read_json,
    read_rows,
    require,
    write_rows,
)
from eval.benchmarks.prompts import LETTERS, split_question
from eval.benchmarks.tables import accuracy_row, breakdown_rows
from eval.metrics.choices import extract_choice
from eval.metrics.cleaning import clean_reply
from eval.metrics.judge import Judge, JudgeRequest
from eval.metrics.spans import SECONDS, TimeScale
from eval.metrics.vdc import JudgePrompts
from eval.records import Prompt, Sample
from eval.subtitles import Cue
from timevlm.errors import InputError

TASKS = ("multi-choice", "yes_no", "caption_matching", "captioning")
_REQUESTS = {
    "multi-choice": "Please directly give the best option:",
    "yes_no": "Please answer yes or no:",
    "caption_matching": "Please directly give the best option:",
}
_JUDGE_PROMPT = "timevlm-tempcompass-1"
_NEEDS_JUDGE = "captions need a judge model: timevlm eval judge RESULT"
_YES_NO = ("yes", "no")
_LABELLED = re.compile(r"^((?:Option|Caption|Sentence) ([12AB])): (.*)$", re.MULTILINE)
_LABEL = re.compile(r"\b(?:option|caption|sentence|information)\s*([12AB])\b", re.IGNORECASE)
_FACT = re.compile(r"^Information ([A-Z]): (.*)$", re.MULTILINE)


class TempCompass(ChoiceBenchmark):
    """TempCompass, all four tasks or one of them."""

    name = "tempcompass"
    title = "TempCompass"
    version = "1.0"
    splits = ("all", *TASKS)
    hub = "lmms-lab/TempCompass"
    needs_judge = True
    breakdowns = ("task", "dimension", "task and dimension")
    num_questions = MappingProxyType(
        {
            "all": 7540,
            "multi-choice": 1580,
            "yes_no": 2453,
            "caption_matching": 1503,
            "captioning": 2004,
        }
    )
    published = (
        PublishedScore(
            model="Qwen2.5-VL-7B",
            metric="average",
            value=71.7,
            source="Qwen2.5-VL technical report, second hand",
        ),
    )

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question, task after task."""
        videos = VideoIndex(data)
        for task in TASKS if split == "all" else (split,):
            for number, (video, dimension, row) in enumerate(_rows(data, task)):
                question, options, gold, extra = _read(task, row["question"], row["answer"])
                yield Sample(
                    id=f"{self.name}:{task}:{video}-{number}",
                    bench=self.name,
                    task="detailed_caption" if task == "captioning" else "choice",
                    video=videos.locate(f"videos/{video}.mp4"),
                    question=question,
                    options=options,
                    gold=gold,
                    cluster=video.removesuffix("_reverse"),
                    tags={
                        "task": task,
                        "dimension": dimension,
                        "task and dimension": f"{task}, {dimension}",
                    },
                    extra=extra,
                )

    def official(self, sample: Sample) -> Prompt:
        """The question as stored and the task's request."""
        task = str(sample.tags["task"])
        if task == "captioning":
            return Prompt(text=sample.question)
        lines = [sample.question]
        if task != "yes_no":
            labels = sample.extra["labels"]
            lines += [f"{a}{b}" for a, b in zip(labels, sample.options, strict=True)]
        return Prompt(text="\n".join([*lines, _REQUESTS[task]]))

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
        """The question with its task's request; the other styles exist for multi-choice alone."""
        if sample.tags["task"] != "multi-choice":
            style = "official"
        return super().prompt(
            sample, num_frames=num_frames, duration_seconds=duration_seconds, style=style
        )

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """Rule matching by task; captions are left to a judge."""
        task = sample.tags["task"]
        if task == "captioning":
            text = clean_reply(raw).strip()
            return Grade(parsed=text or None, rule="caption", score=None if text else 0.0)
        if task == "yes_no":
            return grade_index(sample, _yes_no(raw), "yes_no")
        if task == "caption_matching":
            label = _only_label(raw)
            if label is not None:
                return grade_index(sample, label, "label")
        return super().grade(sample, raw, rules=rules, scale=scale)

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """Mean of the accuracies of the tasks that have scores, then each of them."""
        scored = [item for item in graded if item.row["tags"]["task"] != "captioning"]
        tasks = breakdown_rows(scored, "task")
        note = f"mean over {', '.join(row['name'] for row in tasks)}" if tasks else _NEEDS_JUDGE
        return [accuracy_row("average", scored, "macro", tag="task", note=note), *tasks]

    def score_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> Tables:
        """The rule-matched tasks, and captioning: the judge says which fact a caption agrees with.

        The average then runs over all four tasks, as in the paper.
        """
        judged = self.regrade_judged(rows, judge, rules=rules)
        tasks = breakdown_rows(judged, "task")
        note = f"captioning by {judge.name}"
        average = accuracy_row(f"average ({judge.name})", judged, "macro", tag="task", note=note)
        return {
            **choice_tables(judged, self.breakdowns, self.overall, rules),
            "overall": [average, *tasks],
        }

    def regrade_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> list[Graded]:
        """Captions score 1 if the judge finds that they agree with the right fact."""
        graded = self.regrade(rows, rules)
        captions = [
            item
            for item in graded
            if item.row["tags"]["task"] == "captioning" and item.grade.parsed is not None
        ]
        replies = judge.ask_all([_judge_request(item) for item in captions])
        scores = {
            item.row["id"]: _judged_score(item, reply)
            for item, reply in zip(captions, replies, strict=True)
        }
        return [
            replace(item, grade=replace(item.grade, score=scores[item.row["id"]]))
            if item.row["id"] in scores
            else item
            for item in graded
        ]

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the hub's configurations as JSON lines."""
        require_split(self, split)
        return [
            write_rows(
                data / FETCHED / f"tempcompass-{task}.jsonl",
                fetch_rows(self.hub, config=task, split="test", file=None),
            )
            for task in (TASKS if split == "all" else (split,))
        ]


def _rows(data: Path, task: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(video, dimension, row) of either layout."""
    wanted = (
        *(f"questions/{task}.json", f"{task}.json"),
        *(f"{task}/test-*.parquet", f"{FETCHED}/tempcompass-{task}.jsonl"),
    )
    path = find_annotation(data, wanted, f"TempCompass {task}")
    if path.suffix != ".json":
        for row in read_rows(path):
            require(row, ("video_id", "dim", "question", "answer"), path)
            yield str(row["video_id"]), str(row["dim"]), row
        return
    for video, dimensions in read_json(path).items():
        for dimension, rows in dimensions.items():
            for row in rows:
                yield video, dimension, row


def _read(
    task: str, text: str, answer: str
) -> tuple[str, tuple[str, ...], int | str | None, dict[str, Any]]:
    """Stem, options, gold and what the prompt or a judge needs."""
    answer = answer.strip()
    if task == "yes_no":
        return text.strip(), _YES_NO, _YES_NO.index(answer.lower().rstrip(".")), {}
    if task == "captioning":
        facts = dict(_FACT.findall(text))
        return text.strip(), (), answer, {"facts": facts, "gold_letter": answer[:1]}
    if task == "caption_matching":
        found = _LABELLED.findall(text)
        labels, options = [f"{label}: " for label, _, _ in found], [t.strip() for _, _, t in found]
        stem = text[: text.index(found[0][0])].strip() if found else text
        gold = next((n for n, label in enumerate(labels) if answer.startswith(label)), None)
    else:
        stem, options = split_question(text)
        labels = [f"{letter}. " for letter in LETTERS[: len(options)]]
        gold = next((n for n, label in enumerate(labels) if answer.startswith(label)), None)
    if not options:
        raise InputError(f"the TempCompass question {text!r} holds no options")
    extra: dict[str, Any] = {"labels": labels}
    if gold is None:
        extra["gold_text"] = answer
    return stem, tuple(options), gold, extra


def _judge_request(item: Graded) -> JudgeRequest:
    facts = item.row["extra"]["facts"]
    lines = [f"{letter}. {fact}" for letter, fact in facts.items()]
    text = "\n".join(
        [
            "Which of these facts does the caption of a video agree with?",
            *lines,
            f"Caption: {item.grade.parsed}",
            "Reply with the letter alone.",
        ]
    )
    return JudgeRequest(messages=[{"role": "user", "content": text}], prompt_version=_JUDGE_PROMPT)


def _judged_score(item: Graded, reply: str | None) -> float:
    facts, gold = item.row["extra"]["facts"], item.row["extra"]["gold_letter"]
    choice = extract_choice(reply or "", list(facts.values())).choice
    return float(choice is not None and list(facts)[choice] == gold)


def _yes_no(raw: str) -> int | None:
    """0 for yes, 1 for no: the first word, else the only one of the two that occurs."""
    words = re.findall(r"[a-z]+", clean_reply(raw).casefold())
    if words and words[0] in _YES_NO:
        return _YES_NO.index(words[0])
    found = {word for word in words if word in _YES_NO}
    return _YES_NO.index(found.pop()) if len(found) == 1 else None


def _only_label(raw: str) -> int | None:
    """The only label in the reply ("Option 2", "Caption A", a lone "1"); None if none or both."""
    text = clean_reply(raw).strip()
    found = {mark.upper() for mark in _LABEL.findall(text)}
    if not found and text.rstrip(".") in ("1", "2"):
        found = {text[0]}
    return "1A2B".index(found.pop()) // 2 if len(found) == 1 else None
