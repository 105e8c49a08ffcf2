"""The records that benchmarks, models, the runner and the report exchange.

A benchmark turns its official files into `Sample`s and each sample into a `Prompt`; a model turns
a prompt into a `Reply`; the runner writes one prediction row for each sample. Rows are plain dicts
with exactly the keys `ROW_KEYS`, one JSON line each, so that any program can read them. Times are
seconds of presentation time (PTS), spans are (start_seconds, end_seconds).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from eval.metrics.spans import TimeUnit
from timevlm.errors import InputError

SCHEMA_VERSION = 1

Task = Literal["choice", "grounding", "dense_caption", "detailed_caption", "open_answer"]
Gold = int | tuple[tuple[float, float], ...] | list[tuple[float, float, str]] | str | None
Tags = dict[str, str | list[str]]

ROW_KEYS = (
    "id",
    "bench",
    "raw",  # the model's own words; "" when it failed
    "parsed",  # option index | [start, end] | [[start, end, text], ...] | text | None
    "parse_rule",  # the rule that parsed `raw`; NATIVE_RULE where the model returns the value
    "gold",
    "score",  # 0 or 1 | IoU | None where the score needs more than this row
    "n_frames",
    "frame_times",  # {"first": seconds, "last": seconds, "n": count} | None
    "sampling",  # the sampling plan as asked
    "prompt_sha256",
    "gen_kwargs",
    "model_id",
    "model_sha",
    "data_revision",
    "seconds_decode",
    "seconds_gen",  # encode + prefill + generate
    "tokens_in",
    "tokens_out",
    "error",  # one line, or None
    "ts",  # Unix time in seconds
    "schema_version",
    "details",  # what only a report needs: confidence, evidence, seconds of each stage, warnings
)
"""The keys of a prediction row, in the order in which they are written."""

NATIVE_RULE = "native"
"""`parse_rule` of an answer that the model returns as a value (the likeliest option, a span decoded
under a grammar), so that there is no text to parse and no other rule set changes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One question of a benchmark, with its gold answer."""

    id: str
    """`{bench}:{split}:{official id}`: stable over runs and machines."""
    bench: str
    task: Task
    video: str
    """Path relative to the data folder: a file, or a folder of pictures."""
    question: str
    cluster: str
    """The video's id: samples of one cluster are not independent of each other."""
    clip: tuple[float, float] | None = None
    """The part of the video that the question is about, in seconds; None: all of it."""
    options: tuple[str, ...] = ()
    """Texts without letters."""
    gold: Gold = None
    """Option index | spans | (start, end, text) captions | text | None where it is not public."""
    tags: Tags = field(default_factory=dict)
    """What scores are broken down by: duration, category, task, ..."""
    subtitle: str | None = None
    """Path relative to the data folder, where the run uses subtitles."""
    extra: dict[str, Any] = field(default_factory=dict)
    """JSON values that the benchmark's own score needs, such as the duration or VDC's questions."""

    def __post_init__(self) -> None:
        for name in ("id", "bench", "video", "cluster"):
            if not getattr(self, name):
                raise InputError(f"sample {self.id!r} has no {name}; every sample needs one")
        if self.task not in get_args(Task):
            allowed = ", ".join(get_args(Task))
            raise InputError(f"sample {self.id!r} has task {self.task!r}; it is one of {allowed}")
        object.__setattr__(self, "options", tuple(self.options))
        if self.clip is not None:
            object.__setattr__(self, "clip", _clip(self.id, self.clip))
        if self.task == "choice":
            self._check_choice()

    def _check_choice(self) -> None:
        if not self.options:
            raise InputError(f"sample {self.id!r} is a choice without options")
        if self.gold is None:
            return
        whole = isinstance(self.gold, int) and not isinstance(self.gold, bool)
        if not whole or not 0 <= self.gold < len(self.options):
            raise InputError(
                f"sample {self.id!r} has gold {self.gold!r}; it is an index into "
                f"{len(self.options)} options or None"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values (tuples become lists when written)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, also after a way through JSON. Raises InputError."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise InputError(f"a sample has unknown entries {unknown}; known are {sorted(known)}")
        values = dict(data)
        if values.get("task") == "grounding" and values.get("gold") is not None:
            values["gold"] = tuple((float(s), float(e)) for s, e in values["gold"])
        if values.get("task") == "dense_caption" and values.get("gold") is not None:
            values["gold"] = [(float(s), float(e), str(text)) for s, e, text in values["gold"]]
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a generating model is shown beside the frames."""

    text: str
    system: str | None = None
    answer_prefix: str = ""
    """What the model's turn already begins with, such as "Best Option: ("."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a model says about one sample, and what that cost.

    `choice`, `spans` and `captions` are set only by models that return the value itself; a text
    model leaves them None and its `raw` is parsed. Seconds are wall time; what all questions of a
    video share (decode, encode, prefill of the video) is reported by the first of them alone, so
    that sums over rows are the time that was spent.
    """

    raw: str
    choice: int | None = None
    spans: tuple[tuple[float, float], ...] | None = None
    captions: tuple[tuple[float, float, str], ...] | None = None
    confidence: float | None = None
    evidence: tuple[tuple[float, float], ...] = ()
    seconds_decode: float = 0.0
    seconds_encode: float = 0.0
    seconds_prefill: float = 0.0
    seconds_generate: float = 0.0
    num_frames: int = 0
    first_frame_seconds: float | None = None
    last_frame_seconds: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    """Further JSON values about this answer, such as bytes of the video's memory."""


def scoring_row(
    sample: Sample, row: Mapping[str, Any], *, span_unit: TimeUnit = "seconds"
) -> dict[str, Any]:
    """A prediction row joined with its sample: what `Benchmark.score` and the report read.

    All keys of the row, and the sample's fields that a row does not have: task, video, clip,
    question, options, cluster, tags, subtitle, extra. `gold` is the sample's own; `span_unit` says
    what numbers mean where the reply names times.
    """
    if row["id"] != sample.id:
        raise InputError(f"row {row['id']!r} is not about sample {sample.id!r}")
    return {**row, **sample.to_dict(), "span_unit": span_unit}


def video_seconds(row: Mapping[str, Any]) -> float | None:
    """Length of a scoring row's video: the annotations', else what the run measured, else None."""
    for value in (row["extra"].get("duration"), row["details"].get("duration_seconds")):
        if isinstance(value, int | float):
            return float(value)
    return None


def check_row(row: Mapping[str, Any]) -> None:
    """Raise InputError unless `row` has exactly the keys of a prediction row of this version."""
    if set(row) != set(ROW_KEYS):
        missing, unknown = set(ROW_KEYS) - set(row), set(row) - set(ROW_KEYS)
        raise InputError(
            f"a prediction row lacks {sorted(missing)} and has unknown {sorted(unknown)}; "
            f"schema version {SCHEMA_VERSION} has {len(ROW_KEYS)} keys"
        )
    if row["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"row {row['id']!r} has schema version {row['schema_version']}; this program reads "
            f"version {SCHEMA_VERSION}"
        )


def _clip(sample_id: str, clip: tuple[float, float]) -> tuple[float, float]:
    start, end = (float(value) for value in clip)
    if not (math.isfinite(start) and math.isfinite(end) and start < end):
        raise InputError(f"sample {sample_id!r} has clip {clip}; it is (start, end) in seconds")
    return start, end
