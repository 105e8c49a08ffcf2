"""What every benchmark provides, so that one runner and one report serve them all.

A benchmark is one small file: it reads its official annotation files, checks that they and the
videos are there, words the prompts, and scores replies with the pure functions of `eval.metrics`.
It holds no state: the data folder, the samples and the rows come in as arguments. `version` is
raised whenever a score could move, and every result carries it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from eval.benchmarks.problems import Problem, video_problems
from eval.metrics.judge import Judge
from eval.metrics.spans import SECONDS, TimeScale
from eval.metrics.vdc import JudgePrompts
from eval.records import NATIVE_RULE, Prompt, Reply, Sample, video_seconds
from eval.subtitles import Cue
from timevlm.errors import InputError

# A prediction joined with its sample, as `eval.records.scoring_row` makes it.
Row = Mapping[str, Any]
Style = Literal["official", "timeviper", "plain"]
STYLES: tuple[Style, ...] = ("official", "timeviper", "plain")
TIMED_TASKS = ("grounding", "dense_caption")
"""Tasks whose replies name times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScore:
    """A score that others reported, with where it was read; `metric` is a name of our tables."""

    model: str
    metric: str
    value: float
    source: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """One reply, judged: what was read out of it, by which rule, and its score.

    `parsed` is an option index, a (start, end) pair, a list of (start, end, text), or the text of
    a free caption; None if nothing could be read, which scores 0. `score` is None only where the
    gold answer is not public or a judge has yet to read the text.
    """

    parsed: Any
    rule: str
    score: float | None
    swapped: bool = False  # a span that was given end first

    def row_values(self) -> dict[str, Any]:
        """The keys of a prediction row that reading its reply fills."""
        return {"parsed": self.parsed, "parse_rule": self.rule, "score": self.score}


@dataclass(frozen=True, slots=True)
class Graded:
    """A scoring row with its grade."""

    row: Row
    grade: Grade


class MetricRow(TypedDict):
    """One line of a score table; `value` and the 95% interval are in `unit`.

    A mean over questions says over how many videos it runs; that of one video has no interval.
    """

    name: str
    value: float | None
    unit: str
    n: int
    low: NotRequired[float]
    high: NotRequired[float]
    num_videos: NotRequired[int]
    note: NotRequired[str]


# Table title -> its lines. "overall" comes first and "counts" (n_total, n_answered, n_unparsed,
# n_error) is always there; titles of breakdowns start with "by ", of sanity rows "baselines".
Tables = dict[str, list[MetricRow]]


class Benchmark(ABC):
    """One benchmark: data in, prompts and scores out."""

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]  # the first is the one that papers report
    task: ClassVar[str]  # of most samples; each sample carries its own
    has_subtitles: ClassVar[bool] = False
    hub: ClassVar[str | None] = None  # dataset id that `fetch` reads annotations from
    needs_judge: ClassVar[bool] = False  # some samples are scored by `score_judged` alone
    takes_judge_prompts: ClassVar[bool] = False  # its judge may be asked in another wording
    published: ClassVar[tuple[PublishedScore, ...]] = ()
    num_questions: ClassVar[Mapping[str, int]] = MappingProxyType({})  # official, by split

    def check(
        self, data: Path, split: str | None = None, *, subtitles: bool = False
    ) -> list[Problem]:
        """Everything the folder lacks for this split (default: the first); empty if all is there.

        Reads annotations and lists folders, decodes nothing.
        """
        try:
            found = list(self.samples(data, split or self.splits[0], subtitles=subtitles))
        except InputError as error:
            return [Problem(level="fatal", what=str(error))]
        if not found:
            return [Problem(level="fatal", what=f"the annotations in {data} hold no questions")]
        problems = video_problems(data, found)
        if subtitles:
            problems += self.subtitle_problems(found)
        return problems + self.notes(found, split or self.splits[0])

    def subtitle_problems(self, samples: Sequence[Sample]) -> list[Problem]:
        """What is missing for a run with subtitles."""
        if not self.has_subtitles:
            return [Problem(level="fatal", what=f"{self.name} has no subtitles")]
        without = sorted({sample.cluster for sample in samples if sample.subtitle is None})
        videos = {sample.cluster for sample in samples}
        if len(without) == len(videos):
            return [Problem(level="fatal", what="no subtitle file was found")]
        if not without:
            return []
        what = f"{len(without)} of {len(videos)} videos have no subtitle file"
        return [Problem(level="note", what=f"{what}: their questions are asked without one")]

    def notes(self, samples: Sequence[Sample], split: str) -> list[Problem]:
        """Where the annotations differ from the official ones, and defects that they have."""
        expected = self.num_questions.get(split)
        if expected is None or expected == len(samples):
            return []
        what = f"{len(samples)} questions, the official {split} split has {expected}"
        return [Problem(level="note", what=what)]

    def samples(self, data: Path, split: str, *, subtitles: bool = False) -> Iterator[Sample]:
        """The questions in the file's order, also those whose video is missing.

        Raises InputError if there is no such split, or if the annotations are absent or not in a
        known layout.
        """
        require_split(self, split)
        try:
            yield from self.read(data, split, subtitles=subtitles)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            # What a row of another form raises where it is taken apart.
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"the annotations of {self.title} in {data} are not in a known layout ({reason}); "
                "see docs/eval/benchmarks.md"
            ) from error

    @abstractmethod
    def read(self, data: Path, split: str, *, subtitles: bool) -> Iterator[Sample]:
        """What `samples` yields, for a split that exists."""

    @abstractmethod
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
        """What a generating model is shown beside the frames.

        `frame_seconds` are the presentation times of the sampled frames; `cues` the subtitles of
        the sample (see `cues`), of which only those that cover a frame are shown, or all of them
        where no frame times are given.
        """

    def wordings(self, sample: Sample) -> tuple[Prompt, ...]:
        """The prompts that a sample's own is drawn from; empty where it is always the same one."""
        return ()

    @abstractmethod
    def grade(
        self, sample: Sample, raw: str, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """Read one reply. `rules` is one of `ours`, `official`, `timeviper`, `lmms`; `scale` says
        what numbers mean where the reply names times.
        """

    @abstractmethod
    def grade_value(self, sample: Sample, value: Any) -> Grade:
        """Judge a value that the model returned itself (rule NATIVE_RULE), as in `Grade.parsed`."""

    def grade_reply(
        self, sample: Sample, reply: Reply, *, rules: str = "ours", scale: TimeScale = SECONDS
    ) -> Grade:
        """Judge whatever the model returned: its own value if it gives one, else its words."""
        values = {
            "choice": reply.choice,
            "grounding": reply.spans and reply.spans[0],
            "dense_caption": reply.captions,
        }
        value = values.get(sample.task)
        if value is not None:
            return self.grade_value(sample, value)
        return self.grade(sample, reply.raw, rules=rules, scale=scale)

    @abstractmethod
    def score(self, rows: Sequence[Row], *, rules: str = "ours") -> Tables:
        """The published metrics, read anew from the rows' raw replies.

        `rows` holds one scoring row (`eval.records.scoring_row`) for every sample of the run; a
        sample that was never answered needs a row with an `error`. Errors and unreadable replies
        count as wrong. Rows with `parse_rule` NATIVE_RULE keep their `parsed` under every rule
        set. Times in words are read in the row's `span_unit`.
        """

    def score_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> Tables:
        """`score` with a judge model's verdicts, where the benchmark has samples that need one.

        The judge's name is part of the names of its scores; its cache makes a second call free.
        `prompts` replace the judge's wording where `takes_judge_prompts`. Raises JudgeError if it
        cannot be asked.
        """
        return self.score(rows, rules=rules)

    def regrade_judged(
        self,
        rows: Sequence[Row],
        judge: Judge,
        *,
        rules: str = "ours",
        prompts: JudgePrompts | None = None,
    ) -> list[Graded]:
        """`regrade` with the judge's verdict as the score, in [0, 1], of what it has to read."""
        return self.regrade(rows, rules)

    def regrade(self, rows: Sequence[Row], rules: str) -> list[Graded]:
        """Each row with its grade by a rule set; an error scores 0 where the gold is known."""
        return [Graded(row, self._regrade_row(row, rules)) for row in rows]

    def _regrade_row(self, row: Row, rules: str) -> Grade:
        sample = Sample.from_dict({item.name: row[item.name] for item in fields(Sample)})
        if row["error"] is not None:
            # An empty reply is what a failed sample has: graded, it tells whether a gold is known.
            score = self.grade(sample, "", rules="ours").score
            return Grade(parsed=None, rule="error", score=score)
        if row["parse_rule"] == NATIVE_RULE:
            return self.grade_value(sample, row["parsed"])
        return self.grade(sample, row["raw"], rules=rules, scale=time_scale(row))

    def prepare(self, data: Path, split: str) -> int:
        """Write what the official layout lacks for our reader; the number of files written."""
        return 0

    def fetch(self, data: Path, split: str) -> list[Path]:
        """Download the split's annotations (not the videos) into `data`; the files written.

        Raises InputError where the benchmark has no hub id, without network or without the extra
        `eval`.
        """
        raise InputError(
            f"{self.name} has no annotations on the hub that can be fetched; "
            f"put the official files into {data}, see docs/eval/benchmarks.md"
        )

    def cues(self, sample: Sample, data: Path) -> tuple[Cue, ...]:
        """The subtitles of a sample in time order; empty if it has none."""
        return ()

    def submission(self, rows: Sequence[Row], *, rules: str = "ours") -> tuple[str, Any] | None:
        """File name and JSON value for the official server, where the gold is hidden."""
        return None


def time_scale(row: Row) -> TimeScale:
    """What numbers in a row's reply mean as times: its `span_unit` (seconds without one).

    Raises InputError where the unit needs a duration and neither annotations nor run have one.
    """
    unit = row.get("span_unit", "seconds")
    if unit == "seconds" or row["task"] not in TIMED_TASKS:
        return SECONDS
    try:
        return TimeScale(unit=unit, duration_seconds=video_seconds(row))
    except InputError as error:
        raise InputError(f"{row['id']}: {error}") from error


_HOMES = {
    "activitynet": "activitynet:ActivityNetGrounding",
    "cgbench": "cgbench:CGBench",
    "charades": "charades_sta:CharadesSTA",
    "egoschema": "egoschema:EgoSchema",
    "longvideobench": "longvideobench:LongVideoBench",
    "lvbench": "lvbench:LVBench",
    "mlvu": "mlvu:MLVU",
    "mlvugeneration": "mlvu_generation:MLVUGeneration",
    "mvbench": "mvbench:MVBench",
    "tempcompass": "tempcompass:TempCompass",
    "toyworld": "toyworld:ToyWorld",
    "vdc": "vdc:VDC",
    "videomme": "videomme:VideoMME",
    "youcook2": "youcook2:YouCook2",
}


def available() -> tuple[str, ...]:
    """The names of all benchmarks."""
    return tuple(_HOMES)


def get(name: str) -> Benchmark:
    """The benchmark of that name. Raises InputError, with a suggestion, for an unknown one."""
    key = name.lower().replace("-", "").replace("_", "")
    key = {"charadessta": "charades", "activitynetcaptions": "activitynet"}.get(key, key)
    if key not in _HOMES:
        close = get_close_matches(key, _HOMES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"no benchmark {name!r}: {hint}available: {', '.join(_HOMES)}")
    module, _, attribute = _HOMES[key].partition(":")
    return getattr(import_module(f"eval.benchmarks.{module}"), attribute)()


def require_split(benchmark: Benchmark, split: str) -> None:
    """Raises InputError if the benchmark has no such split."""
    if split not in benchmark.splits:
        raise InputError(
            f"{benchmark.name} has no split {split!r}; use one of {', '.join(benchmark.splits)}"
        )
