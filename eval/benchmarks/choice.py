"""What the multiple-choice benchmarks share: prompts by style, grading, accuracy tables."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from eval.benchmarks.base import Benchmark, Grade, Graded, MetricRow, Row, Style, Tables
from eval.benchmarks.prompts import (
    LETTERS,
    common_choice,
    subtitle_lines,
    with_subtitles,
)
from eval.benchmarks.tables import accuracy_row, breakdown_rows, counts
from eval.metrics import choices
from eval.metrics.spans import SECONDS, TimeScale
from eval.records import NATIVE_RULE, Prompt, Sample
from eval.subtitles import Cue
from timevlm.errors import InputError

_HIDDEN = "the right answers are not public: timevlm eval submission RESULT"


class ChoiceBenchmark(Benchmark):
    """A benchmark whose questions all have options."""

    task = "choice"
    breakdowns: ClassVar[tuple[str, ...]] = ()  # tags that get a table of their own
    equal_texts: ClassVar[bool] = False
    """Whether an option with the gold's text is right as well (duplicated options)."""

    @abstractmethod
    def official(self, sample: Sample) -> Prompt:
        """The prompt of the benchmark's own evaluation, without subtitles."""

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
        """The question in a style, behind a block of the subtitles shown at the frames."""
        if style == "official":
            prompt = self.official(sample)
        else:
            prompt = common_choice(sample.question, sample.options, style)
        lines = self.subtitle_block(cues, frame_seconds)
        return replace(prompt, text=with_subtitles(prompt.text, lines))

    def subtitle_block(self, cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[str]:
        """The subtitle lines that stand before the question."""
        return subtitle_lines(cues, frame_seconds)

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """The option that the reply names by the given rule set, and whether it is right."""
        return grade_text(sample, raw, rules=rules, equal_texts=self.equal_texts)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """An option index from the model itself."""
        return grade_index(sample, value, NATIVE_RULE, equal_texts=self.equal_texts)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """Accuracy overall, by each tag, the best constant answer, and the counts."""
        return choice_tables(self.regrade(rows, rules), self.breakdowns, self.overall, rules)

    def overall(self, graded: Sequence[Graded], rules: str) -> list[MetricRow]:
        """The lines of the table "overall"; the first is the headline."""
        return [accuracy_row("accuracy", graded)]


def grade_text(
    sample: Sample, raw: str, *, rules: str = "ours", equal_texts: bool = False
) -> Grade:
    """Judge a reply in words to a question with options."""
    if not isinstance(sample.gold, int):
        found = choices.extract_choice(raw, sample.options, rules=rules, bench=sample.bench)
        return grade_index(sample, found.choice, found.rule)
    judged = choices.grade_choice(
        raw,
        sample.options,
        sample.gold,
        rules=rules,
        bench=sample.bench,
        equal_text_counts=equal_texts,
    )
    return Grade(parsed=judged.choice, rule=judged.rule, score=float(judged.correct))


def grade_index(
    sample: Sample, choice: int | None, rule: str, *, equal_texts: bool = False
) -> Grade:
    """Judge an option index; None is wrong, and so is every one where no option holds the gold.

    Raises InputError for an index beyond the options.
    """
    if choice is not None and not 0 <= choice < len(sample.options):
        raise InputError(
            f"sample {sample.id!r} was answered with option {choice}; it has {len(sample.options)}"
        )
    if not isinstance(sample.gold, int):
        unmatched = sample.extra.get("gold_text") is not None
        return Grade(parsed=choice, rule=rule, score=0.0 if unmatched else None)
    right = choice == sample.gold
    if equal_texts and choice is not None:
        right = right or sample.options[choice] == sample.options[sample.gold]
    return Grade(parsed=choice, rule=rule, score=float(right))


def choice_tables(
    graded: Sequence[Graded],
    breakdowns: Sequence[str],
    overall: Callable[[Sequence[Graded], str], list[MetricRow]],
    rules: str,
) -> Tables:
    """The tables of a multiple-choice result; `overall` makes the lines of the first."""
    tables: Tables = {"overall": overall(graded, rules)}
    if any(item.row["task"] == "choice" and item.grade.score is None for item in graded):
        for line in tables["overall"]:
            if line["value"] is None:
                line["note"] = _HIDDEN
    for tag in breakdowns:
        lines = breakdown_rows(graded, tag)
        if lines:
            tables[f"by {tag}"] = lines
    tables["baselines"] = constant_baselines(graded)
    tables["counts"] = counts(graded)
    return tables


def constant_baselines(graded: Sequence[Graded]) -> list[MetricRow]:
    """What the most frequent gold letter and a random guess would score, in percent."""
    known = [item.row for item in graded if isinstance(item.row["gold"], int)]
    if not known:
        return []
    letter, most = Counter(row["gold"] for row in known).most_common(1)[0]
    chance = sum(1 / len(row["options"]) for row in known)
    num = len(known)
    return [
        MetricRow(name=f"always {LETTERS[letter]}", value=100 * most / num, unit="%", n=num),
        MetricRow(name="random", value=100 * chance / num, unit="%", n=num),
    ]


def gold_of_text(answer: str, options: Sequence[str]) -> int | None:
    """Index of the first option with the answer's text, exactly or but for case and spaces."""
    if answer in options:
        return options.index(answer)
    folded = [_fold(option) for option in options]
    return folded.index(_fold(answer)) if _fold(answer) in folded else None


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
