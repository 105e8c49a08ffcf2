"""What a judge model said about a result, kept so that its scores can be made again without it.

    RESULT/judge.jsonl     every reply, by all that it depends on
    RESULT/judge.json      who judged, by which prompts, and what it never answered readably

`timevlm eval judge` asks and writes both. Whoever scores the folder afterwards (a resumed run,
`--rescore`, a report, a comparison) reads the verdicts from there; nothing is asked again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from eval.benchmarks.base import Benchmark, Graded, Row, Tables
from eval.metrics.judge import Judge, JudgeConfig, JudgeError, JudgeRequest, ReplyCache
from eval.metrics.vdc import JudgePrompts
from eval.store import write_json
from timevlm import InputError

JUDGED_TASKS = ("detailed_caption", "open_answer")
JUDGE_FILE = "judge.json"
REPLIES_FILE = "judge.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeRecord:
    """Who judged a result."""

    model: str
    temperature: float
    max_tokens: int
    prompts: JudgePrompts | None
    """None: the benchmark's own."""
    unreadable: tuple[str, ...] = ()
    """Keys of requests that no attempt gave a readable reply to: they count as wrong."""

    def save(self, folder: Path) -> None:
        """Write the file into a result folder, atomically."""
        write_json(folder / JUDGE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The record of a result folder; None if nobody judged it. Raises InputError."""
        path = folder / JUDGE_FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            prompts = values.pop("prompts")
            values["unreadable"] = tuple(values["unreadable"])
            return cls(**values, prompts=None if prompts is None else JudgePrompts(**prompts))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); judge the result again or delete the file"
            ) from error

    def summary(self) -> dict[str, Any]:
        """What `metrics.json` says about the judge."""
        return {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "prompts": None if self.prompts is None else self.prompts.version,
            "num_unreadable": len(self.unreadable),
        }


class RecordingJudge(Judge):
    """A judge whose replies stay in a result folder."""

    def __init__(
        self,
        config: JudgeConfig,
        on_reply: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_reply = on_reply
        self._unreadable: set[str] = set()

    def ask_all(
        self,
        requests: Sequence[JudgeRequest],
        *,
        accept: Callable[[str], bool] = bool,
        on_reply: Callable[[int, int], None] | None = None,
    ) -> list[str | None]:
        """As `Judge.ask_all`; notes the requests without an acceptable reply."""
        replies = super().ask_all(requests, accept=accept, on_reply=on_reply or self._on_reply)
        for request, reply in zip(requests, replies, strict=True):
            if reply is None:
                self._unreadable.add(self.key(request))
        return replies

    def record(self, prompts: JudgePrompts | None) -> JudgeRecord:
        """What was asked so far, for the result folder."""
        return JudgeRecord(
            model=self.config.model,
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
            prompts=prompts,
            unreadable=tuple(sorted(self._unreadable)),
        )


class RecordedJudge(Judge):
    """Repeats the replies of a result folder; reaches no server."""

    def __init__(self, folder: Path, record: JudgeRecord) -> None:
        # The address is never used: every reply is in the file, or that is an error.
        config = JudgeConfig(
            base_url="http://localhost/v1",
            model=record.model,
            temperature=record.temperature,
            max_tokens=record.max_tokens,
            cache=folder / REPLIES_FILE,
        )
        super().__init__(config)
        self._folder = folder
        self._unreadable = frozenset(record.unreadable)

    def ask_all(
        self,
        requests: Sequence[JudgeRequest],
        *,
        accept: Callable[[str], bool] = bool,
        on_reply: Callable[[int, int], None] | None = None,
    ) -> list[str | None]:
        """The stored replies. Raises JudgeError if one was never asked for."""
        replies: list[str | None] = []
        missing = 0
        cache = ReplyCache(self._folder / REPLIES_FILE)
        for request in requests:
            key = self.key(request)
            reply = cache.get(key)
            usable = reply is not None and accept(reply)
            missing += not usable and key not in self._unreadable
            replies.append(reply if usable else None)
        cache.close()
        if missing:
            raise JudgeError(
                f"{missing} of {len(requests)} replies of {self.name} are not in "
                f"{self._folder / REPLIES_FILE}; run: timevlm eval judge {self._folder}"
            )
        return replies


def scored_tables(
    folder: Path, benchmark: Benchmark, rows: Sequence[Row], rules: str
) -> tuple[Tables, dict[str, Any] | None]:
    """The score tables of a result, with its judge's verdicts if all are there, and the judge.

    Verdicts that do not cover the rows (a larger part of the split was answered since) are left
    out, as if nobody had judged.
    """
    record = JudgeRecord.load(folder) if benchmark.needs_judge else None
    if record is not None:
        try:
            judge = RecordedJudge(folder, record)
            tables = benchmark.score_judged(rows, judge, rules=rules, prompts=record.prompts)
        except JudgeError:
            pass
        else:
            return tables, record.summary()
    return benchmark.score(rows, rules=rules), None


def regraded(folder: Path, benchmark: Benchmark, rows: Sequence[Row], rules: str) -> list[Graded]:
    """Each row with its grade, the judge's where `scored_tables` has it."""
    record = JudgeRecord.load(folder) if benchmark.needs_judge else None
    if record is not None:
        try:
            judge = RecordedJudge(folder, record)
            return benchmark.regrade_judged(rows, judge, rules=rules, prompts=record.prompts)
        except JudgeError:
            pass
    return benchmark.regrade(rows, rules)
