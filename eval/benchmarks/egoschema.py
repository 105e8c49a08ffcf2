"""EgoSchema: five-way questions about first-person videos of three minutes (arXiv 2308.09126).

The answers of 500 questions are public ("subset"); the full 5,031 are scored by the authors'
server, for which `submission` writes the file. Layouts: the hub's Parquet (`Subset/`, `MC/`), or
`questions.json` with `subset_answers.json` of the repository; videos in `videos/{video_idx}.mp4`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.benchmarks.base import PublishedScore, Row, require_split
from eval.benchmarks.choice import ChoiceBenchmark
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
from eval.benchmarks.prompts import dotted, without_letters
from eval.records import Prompt, Sample

_CONFIGS = {"subset": "Subset", "full": "MC"}
_NUM_OPTIONS = 5


class EgoSchema(ChoiceBenchmark):
    """EgoSchema: the public subset, or all questions for the server."""

    name = "egoschema"
    title = "EgoSchema"
    version = "1.0"
    splits = ("subset", "full")
    hub = "lmms-lab/egoschema"
    num_questions = MappingProxyType({"subset": 500, "full": 5031})
    published = (
        PublishedScore(
            model="Qwen2.5-VL-7B",
            metric="accuracy",
            value=65.0,
            source="Qwen2.5-VL technical report, second hand",
            note="full set",
        ),
    )

    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """One sample per question; in the full split the gold is None."""
        videos = VideoIndex(data)
        for row in _rows(data, split):
            answer = row.get("answer")
            known = split == "subset" and answer not in (None, "", "None")
            yield Sample(
                id=f"{self.name}:{split}:{row['video_idx']}",
                bench=self.name,
                task="choice",
                video=videos.locate(f"videos/{row['video_idx']}.mp4"),
                question=row["question"].strip(),
                options=without_letters(row["option"]),
                gold=int(answer) if known else None,
                cluster=str(row["video_idx"]),
            )

    def official(self, sample: Sample) -> Prompt:
        """Question, options "A. text", and the request for the letter."""
        return Prompt(
            text=f"{sample.question}\n{dotted(sample.options)}\n"
            "Answer with the option's letter from the given choices directly."
        )

    def submission(self, rows: Sequence[Row], *, rules: str = "ours") -> tuple[str, Any] | None:
        """`{uid: option index}` of the full split for the authors' server.

        The form has an entry for every question: -1, which is no option, stands for an unreadable
        reply.
        """
        prefix = f"{self.name}:full:"
        answers = {
            item.row["id"].removeprefix(prefix): -1
            if item.grade.parsed is None
            else item.grade.parsed
            for item in self.regrade(rows, rules)
            if item.row["id"].startswith(prefix)
        }
        return ("egoschema_full.json", answers) if answers else None

    def fetch(self, data: Path, split: str) -> list[Path]:
        """The rows of the hub's configuration as JSON lines."""
        require_split(self, split)
        rows = fetch_rows(self.hub, config=_CONFIGS[split], split="test", file=None)
        return [write_rows(data / FETCHED / f"egoschema-{split}.jsonl", rows)]


def _rows(data: Path, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows with question, video_idx, option and answer, from either layout."""
    config, fetched = _CONFIGS[split], f"{FETCHED}/egoschema-{split}.jsonl"
    wanted = (f"{config}/test-*.parquet", f"{config}/*.json*", fetched, "questions.json")
    path = find_annotation(data, wanted, "EgoSchema")
    if path.name != "questions.json":
        for row in read_rows(path):
            require(row, ("question", "video_idx", "option"), path)
            yield row
        return
    answers = {}
    if split == "subset":
        answers = read_json(find_annotation(data, ("subset_answers.json",), "EgoSchema's subset"))
    for row in read_rows(path):
        require(row, ("q_uid", "question", f"option {_NUM_OPTIONS - 1}"), path)
        uid = row["q_uid"]
        if split == "full" or uid in answers:
            options = [row[f"option {number}"] for number in range(_NUM_OPTIONS)]
            yield {
                "question": row["question"],
                "video_idx": uid,
                "option": options,
                "answer": answers.get(uid),
            }
