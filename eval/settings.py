"""What is evaluated, and where its result lies: the settings of a run and its result folder.

    RESULT/
      config.json         the settings, what they resolved to, and the key of both
      samples.jsonl       the questions of this run
      rows/*.jsonl        one prediction a line, appended by one process each
      processes/*.json    one a process: versions, hardware, seeds, seconds
      predictions.jsonl   the rows that count, one a question, in the questions' order
      metrics.json        score tables; report.html and report.md show them

The first four are facts; the others are made from them and can be made again
(`timevlm eval --rescore`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from eval.benchmarks.base import STYLES
from eval.metrics.spans import TimeUnit, check_time_unit
from eval.models.base import ModelSettings
from eval.records import SCHEMA_VERSION, Sample, check_row, scoring_row
from eval.sampling import Sampling
from eval.store import read_json, read_lines
from timevlm import InputError

EXTRACT_RULES = ("ours", "official", "timeviper", "lmms")
CONFIG_FILE = "config.json"
SAMPLES_FILE = "samples.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
METRICS_FILE = "metrics.json"
PROCESSES_FOLDER = "processes"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """Everything that the caller decides about a run. Raises InputError."""

    bench: str
    data: str
    """Folder of the benchmark's official files."""
    split: str | None = None
    """None: the one that papers report."""
    subtitles: bool | Literal["all"] = False
    """True: those at the sampled frames, as the benchmarks do; "all": the whole file's."""
    model: ModelSettings = field(default_factory=ModelSettings)
    sampling: Sampling = field(default_factory=Sampling)
    limit: float | None = None
    """Videos to draw: a count, or a share of them below 1; None: all."""
    seed: int = 0
    extract: str = "ours"
    """Rules that read replies in words."""
    span_unit: TimeUnit = "seconds"
    """What numbers mean where replies in words name times."""
    prompt_style: str = "official"
    prompt_index: int | None = None
    """Number, from 0, of the wording of all prompts, where a benchmark draws one; None: drawn."""
    decode_wall_seconds: float = 600.0
    """Longest time that one video may keep the run waiting."""

    def __post_init__(self) -> None:
        if self.extract not in EXTRACT_RULES:
            raise InputError(
                f"extraction rules {self.extract!r} are unknown; use {', '.join(EXTRACT_RULES)}"
            )
        if self.prompt_style not in STYLES:
            raise InputError(
                f"prompt style {self.prompt_style!r} is unknown; use {', '.join(STYLES)}"
            )
        check_time_unit(self.span_unit, self.extract)
        self._check_prompt_index()
        if self.subtitles not in (False, True, "all"):
            raise InputError(f"subtitles {self.subtitles!r} are unknown; use true, false or 'all'")
        # NaN passes no comparison, and infinity leaves no remainder of 0.
        if self.limit is not None and not (
            self.limit > 0 and (self.limit <= 1 or self.limit % 1 == 0)
        ):
            raise InputError(
                f"limit {self.limit:g} is neither a number of videos nor a share below 1"
            )

    def _check_prompt_index(self) -> None:
        index = self.prompt_index
        if index is None:
            return
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise InputError(f"prompt index {index!r} is no number of a wording; count from 0")
        if self.prompt_style != "official":
            raise InputError(
                f"prompt index {index} chooses an official wording, and prompt style "
                f"{self.prompt_style!r} has one of its own; give one of the two"
            )

    @property
    def subtitle_tag(self) -> str:
        """What names and headings say about subtitles; "" without."""
        return {False: "", True: "subtitles"}.get(self.subtitles, f"{self.subtitles} subtitles")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        values = asdict(self)
        values["model"]["options"] = self.model.option_values()
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises InputError for unknown entries."""
        values = dict(data)
        unknown = sorted(set(values) - {item.name for item in fields(cls)})
        if unknown:
            raise InputError(f"a run has unknown settings {unknown}")
        model = dict(values.get("model", {}))
        model["options"] = tuple(sorted(dict(model.get("options", {})).items()))
        values["model"] = ModelSettings(**model)
        values["sampling"] = Sampling(**values.get("sampling", {}))
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The settings with everything that they resolved to: what makes two rows comparable."""

    settings: RunSettings
    bench_version: str
    split: str
    sampling: Sampling
    model_id: str
    model_sha: str
    gen_kwargs: dict[str, Any]
    data_revision: str
    num_samples: int
    num_videos: int
    num_samples_of_split: int
    num_videos_of_split: int

    @property
    def key(self) -> str:
        """SHA-256 of everything that may change a reply. Which questions are drawn, how replies are
        read, and where files lie is no part of it."""
        parts = {
            "bench": [self.settings.bench, self.bench_version, self.split, self.data_revision],
            "subtitles": self.settings.subtitles,
            "model": [self.model_id, self.model_sha, self.gen_kwargs],
            "sampling": self.sampling.to_dict(),
            "prompt_style": self.settings.prompt_style,
            "schema_version": SCHEMA_VERSION,
        }
        if self.settings.prompt_index is not None:
            parts["prompt_index"] = self.settings.prompt_index
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def is_limited(self) -> bool:
        """Whether only a part of the split is asked."""
        return self.num_samples < self.num_samples_of_split

    @property
    def frames_rule(self) -> str:
        """How frames were chosen, in words: the sampling, and the pre-filter if there was one."""
        prefilter = self.gen_kwargs.get("prefilter")
        name = f", pre-filter {prefilter['name']}" if prefilter else ""
        return f"{self.sampling}{name}"

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, and the key."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values |= {"settings": self.settings.to_dict(), "sampling": self.sampling.to_dict()}
        return {**values, "schema_version": SCHEMA_VERSION, "key": self.key}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises InputError for entries of another version."""
        values = {name: value for name, value in data.items() if name != "key"}
        version = values.pop("schema_version", None)
        if version != SCHEMA_VERSION or set(values) != {item.name for item in fields(cls)}:
            raise InputError(
                f"a result of schema version {version} cannot be read; this program reads "
                f"version {SCHEMA_VERSION}"
            )
        values["settings"] = RunSettings.from_dict(values["settings"])
        values["sampling"] = Sampling(**values["sampling"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A result folder, read: what reports and comparisons start from."""

    folder: Path
    config: Config
    samples: list[Sample]
    rows: list[dict[str, Any]]
    """Prediction rows, one a sample, in the samples' order."""
    span_unit: TimeUnit = "seconds"
    """What times in replies were read as when the result was last scored."""

    def scoring_rows(self, span_unit: TimeUnit | None = None) -> list[dict[str, Any]]:
        """The rows joined with their samples, as `Benchmark.score` takes them, to be read in
        `span_unit` (None: as last time)."""
        by_id = {sample.id: sample for sample in self.samples}
        unit = span_unit or self.span_unit
        return [scoring_row(by_id[row["id"]], row, span_unit=unit) for row in self.rows]

    def processes(self) -> list[dict[str, Any]]:
        """What each process noted about itself: versions, hardware, seconds. Raises InputError."""
        paths = sorted((self.folder / PROCESSES_FOLDER).glob("*.json"))
        return [_read_note(path) for path in paths]


def _read_note(path: Path) -> dict[str, Any]:
    note = read_json(path, "without the file its process goes unnamed, and all else works")
    if not isinstance(note, dict):
        raise InputError(f"{path} holds {note!r:.40} and no note of a process; remove the file")
    return note


def read_config(folder: Path) -> Config:
    """The configuration of a result folder. Raises InputError."""
    path = folder / CONFIG_FILE
    data = read_json(
        path, f"{folder} is no result folder: give the one that `timevlm eval` printed"
    )
    try:
        return Config.from_dict(data)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no configuration that this program wrote ({error}); run the evaluation "
            "again with another --out"
        ) from error


def read_samples(folder: Path) -> list[Sample]:
    """The questions of a result folder. Raises InputError."""
    return [Sample.from_dict(values) for values in read_lines(folder / SAMPLES_FILE)]


def read_result(folder: Path) -> Result:
    """A finished result folder. Raises InputError for another folder or an unfinished run."""
    config = read_config(folder)
    if not (folder / PREDICTIONS_FILE).is_file():
        raise InputError(f"{folder} is not finished; run the same command again to resume it")
    samples, rows = read_samples(folder), read_lines(folder / PREDICTIONS_FILE)
    _check_rows(folder, samples, rows)
    return Result(
        folder=folder,
        config=config,
        samples=samples,
        rows=rows,
        span_unit=_scored_span_unit(folder, config),
    )


def _check_rows(folder: Path, samples: list[Sample], rows: list[dict[str, Any]]) -> None:
    """Raises InputError unless there is one whole row for each sample, in the samples' order."""
    if not samples:
        raise InputError(f"{folder} has no questions in {SAMPLES_FILE}; run the evaluation again")
    try:
        for row in rows:
            check_row(row)
        whole = [row["id"] for row in rows] == [sample.id for sample in samples]
    except (TypeError, InputError) as error:
        raise InputError(
            f"{folder / PREDICTIONS_FILE} has a line that is no row ({error}); run the same "
            "command again, it is made anew"
        ) from error
    if not whole:
        raise InputError(
            f"{folder / PREDICTIONS_FILE} has {len(rows)} rows, not one for each of the "
            f"{len(samples)} questions in {SAMPLES_FILE}; run the same command again, it is made "
            "anew"
        )


def _scored_span_unit(folder: Path, config: Config) -> TimeUnit:
    """The unit of the last scoring; the run's own where its tables are gone or older."""
    try:
        metrics = read_json(folder / METRICS_FILE, "score the result again")
        return metrics.get("span_unit", config.settings.span_unit)
    except (InputError, AttributeError):
        return config.settings.span_unit


def with_data(settings: RunSettings, data: str | None) -> RunSettings:
    """The settings with another data folder, where one is given."""
    return settings if data is None else replace(settings, data=data)
