"""What the YAML files beside this one name: documents, prompts and scores of ToyWorld-QA.

lmms-eval loads this file by its path, hence no imports from the package.
"""

import re
from pathlib import Path
from typing import Any

from datasets import Dataset

FOLDER = Path("toyworld")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPAN = re.compile(r"(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?)")

Document = dict[str, Any]


def questions(videos: Dataset) -> Dataset:
    """A row for each question with options."""
    return _rows(videos, "questions")


def queries(videos: Dataset) -> Dataset:
    """A row for each event to find."""
    return _rows(videos, "grounding")


def _rows(videos: Dataset, kind: str) -> Dataset:
    rows = [{"video": video["video"], **row} for video in videos for row in video[kind]]
    return Dataset.from_list(rows)


def video(document: Document) -> list[str]:
    """The path of a row's video."""
    return [str(FOLDER / document["video"])]


def choice_prompt(document: Document) -> str:
    """The question, its options, and a request for a letter."""
    lines = [
        f"{letter}. {text}" for letter, text in zip(LETTERS, document["options"], strict=False)
    ]
    return "\n".join(
        [document["question"], *lines, "Answer with the option's letter from the given choices."]
    )


def choice_letter(document: Document) -> str:
    """The right option's letter."""
    return LETTERS[document["answer"]]


def score_letter(document: Document, results: list[str]) -> dict[str, float]:
    """1 where the reply is the right letter."""
    return {"accuracy": float(results[0].strip() == choice_letter(document))}


def options(document: Document) -> list[str]:
    """The options' texts, whose likelihoods are compared."""
    return list(document["options"])


def event_prompt(document: Document) -> str:
    """The query between the phrases of lmms-eval's Charades-STA."""
    return (
        f"Now I will give you the textual sentence: {document['query']}. "
        "Please return its start time and end time."
    )


def score_span(document: Document, results: list[str]) -> dict[str, float]:
    """IoU with the nearest right span; 0 for a reply without a span."""
    match = _SPAN.search(results[0])
    if match is None:
        return {"iou": 0.0}
    start, end = float(match[1]), float(match[2])
    return {"iou": max(_iou(start, end, *span) for span in document["spans"])}


def _iou(start: float, end: float, gold_start: float, gold_end: float) -> float:
    shared = max(0.0, min(end, gold_end) - max(start, gold_start))
    union = (end - start) + (gold_end - gold_start) - shared
    return shared / union if union > 0 else 0.0
