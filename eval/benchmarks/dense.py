"""What the dense captioning benchmarks share: prompts, parsing, the tables of scores."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from eval.benchmarks import prompts
from eval.benchmarks.base import Benchmark, Grade, Graded, MetricRow, Row, Style, Tables
from eval.benchmarks.tables import count_row, counts, mean_row
from eval.metrics.captioning import rouge_l
from eval.metrics.dense_captions import (
    TIOU_THRESHOLDS,
    CaptionScorer,
    Event,
    localisation,
    matched_caption_score,
    parse_events,
    soda,
)
from eval.metrics.meteor import Meteor, MeteorError, meteor_available
from eval.metrics.spans import SECONDS, TimeScale
from eval.records import NATIVE_RULE, Prompt, Sample
from eval.subtitles import Cue

EventScore = Callable[[Sequence[Event], Sequence[Event]], float]

_SEGMENT_METRICS = ("F1", "precision", "recall")
_AT_THRESHOLDS = [f"{name}@{t:g}" for name in ("precision", "recall") for t in TIOU_THRESHOLDS]
_WITHOUT_METEOR = "needs Java and the package pycocoevalcap"


class DenseCaptionBenchmark(Benchmark):
    """A benchmark whose samples are videos to be told event by event."""

    task = "dense_caption"
    uses_meteor: ClassVar[bool] = True
    """Whether METEOR and SODA_c are among the benchmark's metrics (they start Java)."""

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
        """The form of the answer with an example; "plain" leaves out the video's length."""
        return prompts.dense_captions(
            style, num_frames=num_frames, duration_seconds=duration_seconds
        )

    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """The events of the reply and the F1 of their segments; there is one rule set."""
        return grade_events_text(sample, raw, scale=scale)

    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """(start, end, text) triples from the model itself."""
        return grade_events(sample, value, NATIVE_RULE)

    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """Segments, captions and SODA_c, each per video and then averaged."""
        return dense_tables(self.regrade(rows, rules), uses_meteor=self.uses_meteor)


def grade_events_text(sample: Sample, raw: str, *, scale: TimeScale = SECONDS) -> Grade:
    """Judge a reply of lines with times."""
    found = parse_events(raw, scale=scale)
    grade = grade_events(sample, found.events or None, "lines")
    swapped = found.num_swapped > 0
    return Grade(parsed=grade.parsed, rule=grade.rule, score=grade.score, swapped=swapped)


def grade_events(sample: Sample, events: Sequence[Event] | None, rule: str) -> Grade:
    """Judge a list of events by the F1 of its segments, in [0, 1]; None scores 0.

    The captions' own scores are computed over all videos at once, when the run is scored.
    """
    parsed = None
    if events is not None:
        parsed = [[float(start), float(end), str(text)] for start, end, text in events]
    if not sample.gold:
        return Grade(parsed=parsed, rule=rule, score=None)
    score = localisation(parsed or (), sample.gold)["F1"] / 100
    return Grade(parsed=parsed, rule=rule, score=score)


def dense_tables(graded: Sequence[Graded], *, uses_meteor: bool) -> Tables:
    """The tables of a dense captioning result.

    METEOR and SODA_c have no value without Java, nor where its program gives up: the note says why.
    """
    scored = [item for item in graded if item.row["gold"]]
    segments = [localisation(_events(item), item.row["gold"]) for item in scored]
    overall = _segment_rows(scored, segments, _SEGMENT_METRICS)
    overall.append(_each("CIDEr", scored, matched_caption_score))
    if uses_meteor:
        overall += _meteor_rows(scored)
    overall.append(
        _each("SODA, ROUGE-L", scored, _soda_by(rouge_l), note="SODA_c with ROUGE-L for METEOR")
    )
    tables: Tables = {
        "overall": overall,
        "by tIoU": _segment_rows(scored, segments, _AT_THRESHOLDS),
        "counts": counts(graded),
    }
    num_events = sum(len(_events(item)) for item in graded)
    num_swapped = sum(item.grade.swapped for item in graded)
    tables["counts"].append(count_row("n_events", num_events, len(graded)))
    tables["counts"].append(count_row("n_swapped", num_swapped, len(graded)))
    return tables


def _meteor_rows(scored: Sequence[Graded]) -> list[MetricRow]:
    """The lines that METEOR's program is needed for; from where it gave up without a value."""
    rows: list[MetricRow] = []
    problem = _WITHOUT_METEOR
    if meteor_available():
        try:
            with Meteor() as meteor:
                for name, (maker, note) in _METEOR_SCORES.items():
                    rows.append(_each(name, scored, maker(meteor), note=note))
        except MeteorError as error:
            # It may answer late, out of step with the questions: this process is not asked again.
            problem = str(error)
    missing = list(_METEOR_SCORES)[len(rows) :]
    return rows + [MetricRow(name=n, value=None, unit="", n=0, note=problem) for n in missing]


def _soda_by(scorer: CaptionScorer, *, compat_official: bool = False) -> EventScore:
    return lambda events, golds: soda(events, golds, scorer, compat_official=compat_official)


def _matched_by(scorer: CaptionScorer) -> EventScore:
    return lambda events, golds: matched_caption_score(events, golds, scorer)


_METEOR_SCORES: dict[str, tuple[Callable[[CaptionScorer], EventScore], str]] = {
    "SODA_c": (_soda_by, ""),
    "SODA_c, compat_official": (
        partial(_soda_by, compat_official=True),
        "roles in METEOR as in the published program",
    ),
    "METEOR": (_matched_by, ""),
}


def _segment_rows(
    scored: Sequence[Graded], segments: Sequence[Mapping[str, float]], names: Sequence[str]
) -> list[MetricRow]:
    """Lines in percent of what `localisation` gives, aligned with the rows."""
    rows = []
    for name in names:
        shares = {id(item): s[name] / 100 for item, s in zip(scored, segments, strict=True)}
        rows.append(mean_row(name, scored, partial(_value_of, shares), unit="%"))
    return rows


def _each(
    name: str,
    scored: Sequence[Graded],
    score: EventScore,
    *,
    note: str = "",
) -> MetricRow:
    """One line of a caption score, x100 as papers print it."""
    values = {id(item): score(_events(item), item.row["gold"]) for item in scored}
    return mean_row(name, scored, partial(_value_of, values), unit="", note=note)


def _value_of(values: Mapping[int, float], item: Graded) -> float:
    return values[id(item)]


def _events(item: Graded) -> list[Event]:
    return [tuple(event) for event in item.grade.parsed or ()]
