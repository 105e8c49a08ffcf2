"""What a data folder lacks, said before any model runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.records import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that a data folder lacks, found before any model runs.

    `fatal`: no sample can be read. `missing`: some samples will count as errors. `note`: known
    defects of the data that the benchmark handles, worth reading once.
    """

    level: Literal["fatal", "missing", "note"]
    what: str  # one line: what is missing, where it was looked for, what to do
    paths: tuple[str, ...] = ()  # relative to the data folder, every single one

    def __str__(self) -> str:
        return f"{self.level}: {self.what}"


def video_problems(data: Path, samples: Iterable[Sample]) -> list[Problem]:
    """What is missing or empty among the samples' videos, with how many questions that costs."""
    questions: dict[str, int] = {}
    for sample in samples:
        questions[sample.video] = questions.get(sample.video, 0) + 1
    total = sum(questions.values())
    missing = [path for path in questions if not (data / path).exists()]
    empty = [
        path for path in questions if (data / path).is_file() and (data / path).stat().st_size == 0
    ]
    problems = []
    for paths, what in ((missing, "missing"), (empty, "empty files (0 bytes)")):
        if paths:
            lost = sum(questions[path] for path in paths)
            problems.append(
                Problem(
                    level="missing",
                    what=f"{len(paths)} of {len(questions)} videos are {what}; {lost} of {total} "
                    f"questions will count as wrong: {listing(paths)}",
                    paths=tuple(paths),
                )
            )
    return problems


def listing(names: Sequence[str], at_most: int = 3) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
