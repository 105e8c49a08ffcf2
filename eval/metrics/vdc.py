"""VDCscore: what a detailed caption lets a reader answer, as judged by a language model.

AuroraCap's Video Detailed Captions benchmark (Chai et al., ICLR 2025) asks about 19 questions per
video. For each, a judge (1) answers from the caption alone, then (2) compares that answer with
the right one: yes or no, and 0 to 5. A video's accuracy and score are means over its questions, a
task's over its videos, VDCscore the mean over the five tasks.

The judge belongs to the score: users of the benchmark report 31.6 and 21.2 for one model under two
judges (rese1f/aurora, GitHub thread 9). So does the wording. The prompts here are our own; to score
with a paper's wording, load it with `JudgePrompts.from_json`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from eval.metrics.judge import Judge, JudgeRequest, reply_dictionary
from timevlm.errors import InputError

VDC_TASKS = ("camera", "short", "background", "main_object", "detailed")
MAX_SCORE = 5.0
_PLACEHOLDER = re.compile(r"\{(caption|question|answer|predicted)\}")
_NEEDED = {
    "answer_user": {"caption", "question"},
    "verdict_user": {"question", "answer", "predicted"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgePrompts:
    """The wording of both steps, with `{caption}`, `{question}`, `{answer}`, `{predicted}`."""

    version: str
    answer_system: str
    answer_user: str
    verdict_system: str
    verdict_user: str

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name):
                raise InputError(f"the judge prompts have no {item.name}; all five are needed")
        for name, needed in _NEEDED.items():
            missing = needed - set(_PLACEHOLDER.findall(getattr(self, name)))
            if missing:
                names = ", ".join(f"{{{key}}}" for key in sorted(missing))
                raise InputError(f"the judge prompt {name} lacks {names}; add the placeholder")

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Prompts from a JSON object with exactly the five fields. Raises InputError."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(**data)
        except (OSError, ValueError, TypeError) as error:
            names = ", ".join(item.name for item in fields(cls))
            raise InputError(
                f"cannot read judge prompts from {path} ({error}); it is a JSON object with {names}"
            ) from error


DEFAULT_PROMPTS = JudgePrompts(
    version="timevlm-vdc-1",
    answer_system=(
        "You answer questions about a video that you cannot see. All you know about it is a "
        "description. Use nothing but that description, and answer in a few words."
    ),
    answer_user=(
        "Description of the video:\n{caption}\n\nQuestion: {question}\n\n"
        "Reply with a short answer only, without any explanation."
    ),
    verdict_system=(
        "You grade answers to questions about a video. Decide whether the given answer means the "
        "same as the correct one; other words for the same thing are as good."
    ),
    verdict_user=(
        "Question: {question}\nCorrect answer: {answer}\nGiven answer: {predicted}\n\n"
        "Reply with a Python dictionary only, without any explanation: key 'pred' holds 'yes' if "
        "the given answer is right and 'no' if not, key 'score' holds an integer from 0 (nothing "
        "in common) to 5 (the same meaning). For example: {'pred': 'no', 'score': 1}"
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The judge's opinion on one answer."""

    correct: bool
    score: float
    """0 to 5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedVideo:
    """One caption to be judged, with its video's questions."""

    video_id: str
    caption: str
    """"" where the model failed: judged wrong on every question, without asking."""
    questions: Sequence[Mapping[str, Any]]
    """Each with "question" and "answer"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedVideo:
    """What a caption earned."""

    video_id: str
    accuracy: float
    """Share of questions answered right, 0 to 1."""
    score: float
    """Mean of 0 to 5."""
    verdicts: tuple[Verdict, ...]
    answers: tuple[str, ...]
    """What the judge answered from the caption; "" where it gave none."""
    num_unparsed: int
    """Questions on which the judge gave no readable reply; they count as wrong."""


def judge_captions(
    videos: Sequence[CaptionedVideo],
    judge: Judge,
    *,
    prompts: JudgePrompts = DEFAULT_PROMPTS,
    on_reply: Callable[[int, int], None] | None = None,
) -> list[JudgedVideo]:
    """Both steps for all questions of all videos; results in the order of `videos`.

    Raises InputError for a video without questions, JudgeError if the judge cannot be asked (the
    replies so far are in its cache).
    """
    for video in videos:
        if not video.questions:
            raise InputError(f"video {video.video_id!r} has no questions to be judged by; drop it")
    asked = [
        (index, question)
        for index, video in enumerate(videos)
        if video.caption.strip()
        for question in video.questions
    ]
    answers = judge.ask_all(
        [_answer_request(videos[index].caption, item, prompts) for index, item in asked],
        on_reply=on_reply,
    )
    answered = [(item, answer) for (_, item), answer in zip(asked, answers, strict=True) if answer]
    replies = iter(
        judge.ask_all(
            [_verdict_request(item, answer, prompts) for item, answer in answered],
            accept=lambda text: parse_verdict(text) is not None,
            on_reply=on_reply,
        )
    )
    found: dict[int, list[tuple[str, Verdict | None]]] = {}
    for (index, _), answer in zip(asked, answers, strict=True):
        reply = next(replies) if answer else None
        verdict = parse_verdict(reply) if reply is not None else None
        found.setdefault(index, []).append((answer or "", verdict))
    return [_judged(video, found.get(index)) for index, video in enumerate(videos)]


def parse_verdict(text: str) -> Verdict | None:
    """The verdict in a judge's reply: a JSON or Python dictionary, else "pred" and "score".

    Scores may have decimals; None if a part is missing or the score is outside 0 to 5.
    """
    fields_found = reply_dictionary(text)
    if fields_found is None:
        pred = re.search(r"pred\W{0,5}(yes|no|true|false)\b", text, re.IGNORECASE)
        score = re.search(r"score\W{0,5}?(-?\d+(?:\.\d+)?)", text, re.IGNORECASE)
        if not pred or not score:
            return None
        fields_found = {"pred": pred[1], "score": score[1]}
    words = {"yes": True, "no": False, "true": True, "false": False}
    correct = words.get(str(fields_found.get("pred")).strip(" .'\"").lower())
    try:
        number = float(str(fields_found.get("score")))
    except ValueError:
        return None
    if correct is None or not 0.0 <= number <= MAX_SCORE:
        return None
    return Verdict(correct=correct, score=number)


def task_score(judged: Sequence[JudgedVideo], *, compat_official: bool = False) -> dict[str, float]:
    """Accuracy (percent) and score (0 to 5) of one task: means over its videos, with counts.

    `compat_official` leaves out videos whose accuracy or score is 0, as the published script does
    (which makes both numbers larger). Raises InputError if no video is left.
    """
    kept = [
        video for video in judged if not compat_official or (video.accuracy > 0 and video.score > 0)
    ]
    if not kept:
        raise InputError("no judged video is left to average; judge at least one caption")
    return {
        "accuracy": 100.0 * sum(video.accuracy for video in kept) / len(kept),
        "score": sum(video.score for video in kept) / len(kept),
        "n_videos": len(kept),
        "n_questions": sum(len(video.verdicts) for video in kept),
        "n_unparsed": sum(video.num_unparsed for video in kept),
    }


def vdc_score(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """VDCscore: the mean of `task_score` over all five tasks.

    Raises InputError for a missing or unknown task: a mean over fewer is another number.
    """
    if set(tasks) != set(VDC_TASKS):
        raise InputError(
            f"VDCscore is the mean of {', '.join(VDC_TASKS)}; got {', '.join(sorted(tasks))}"
        )
    return {
        name: sum(tasks[task][name] for task in VDC_TASKS) / len(VDC_TASKS)
        for name in ("accuracy", "score")
    }


def _judged(
    video: CaptionedVideo, found: Sequence[tuple[str, Verdict | None]] | None
) -> JudgedVideo:
    wrong = Verdict(correct=False, score=0.0)
    if found is None:  # nothing was asked about an empty caption
        verdicts, answers, num_unparsed = (wrong,) * len(video.questions), (), 0
    else:
        verdicts = tuple(verdict or wrong for _, verdict in found)
        answers = tuple(answer for answer, _ in found)
        num_unparsed = sum(verdict is None for _, verdict in found)
    return JudgedVideo(
        video_id=video.video_id,
        accuracy=sum(verdict.correct for verdict in verdicts) / len(verdicts),
        score=sum(verdict.score for verdict in verdicts) / len(verdicts),
        verdicts=verdicts,
        answers=answers or ("",) * len(verdicts),
        num_unparsed=num_unparsed,
    )


def _answer_request(caption: str, item: Mapping[str, Any], prompts: JudgePrompts) -> JudgeRequest:
    values = {"caption": caption, "question": str(item["question"])}
    return _request(prompts.answer_system, prompts.answer_user, values, prompts.version)


def _verdict_request(
    item: Mapping[str, Any], predicted: str, prompts: JudgePrompts
) -> JudgeRequest:
    values = {
        "question": str(item["question"]),
        "answer": str(item["answer"]),
        "predicted": predicted.strip(),
    }
    return _request(prompts.verdict_system, prompts.verdict_user, values, prompts.version)


def _request(system: str, user: str, values: Mapping[str, str], version: str) -> JudgeRequest:
    """Placeholders are filled in one pass: braces inside a caption stay what they are."""
    text = _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), user)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return JudgeRequest(messages=messages, prompt_version=version)
