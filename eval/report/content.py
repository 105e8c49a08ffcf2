"""Everything that a report says, gathered from a result folder before any of it is laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, Graded, MetricRow, Tables, get
from eval.judging import regraded
from eval.report import words
from eval.report.cases import Case, with_pictures, worst_cases
from eval.report.further import further_tables
from eval.report.reference import find_line, headlines, read_metrics, without_watching
from eval.settings import METRICS_FILE, Config, Result, read_result
from eval.store import write_json

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An error, with the questions that it cost."""

    video: str
    message: str
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """A result, read and graded. `metrics` is what `metrics.json` holds."""

    result: Result
    benchmark: Benchmark
    metrics: dict[str, Any]
    cases: tuple[Case, ...]
    unread: tuple[Graded, ...]
    failures: tuple[Failure, ...]

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.result.config

    @property
    def tables(self) -> Tables:
        """Score tables by title."""
        return self.metrics["tables"]

    @property
    def counts(self) -> dict[str, int]:
        """n_total, n_answered, n_unparsed, n_error, and what else the benchmark counts."""
        return {line["name"]: int(line["value"]) for line in self.tables["counts"]}

    @property
    def title(self) -> str:
        """Benchmark and split."""
        tag = self.config.settings.subtitle_tag
        subtitles = f", with {tag}" if tag else ""
        return f"{self.benchmark.title} {self.config.split}{subtitles}"

    @property
    def limited(self) -> str | None:
        """How much of the split was asked, if not all of it."""
        config = self.config
        if not config.is_limited:
            return None
        return (
            f"LIMITED to {config.num_videos:,} of {config.num_videos_of_split:,} videos, "
            f"{config.num_samples:,} of {config.num_samples_of_split:,} questions"
        )

    @property
    def headlines(self) -> list[Line]:
        """The first line of each task."""
        return headlines(self.tables)

    def titles(self, kind: str) -> list[str]:
        """Titles of the tables of one kind: scores, breakdowns or baselines."""
        return [title for title in self.tables if table_kind(title) == kind]

    @property
    def breakdowns(self) -> Tables:
        """The benchmark's own tables by tag, then further ones."""
        own = {title: self.tables[title] for title in self.titles("breakdowns")}
        return own | self.metrics["further_tables"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Scores of one metric: the published ones and ours, best first."""

    metric: str
    unit: str
    digits: int
    entries: tuple[Line, ...]
    """Lines with `name`, `value`, `source`, `note`; ours has `own` and perhaps an interval."""


def gather(folder: Path) -> Content:
    """Read a finished result, and complete its `metrics.json`. Raises InputError."""
    result = read_result(folder)
    benchmark = get(result.config.settings.bench)
    if not (folder / METRICS_FILE).is_file():
        from eval.runner import write_metrics  # the runner may itself ask for a report

        write_metrics(folder, benchmark)
    metrics = read_metrics(folder)
    rules, overall = metrics["extract"], metrics["tables"]["overall"]
    graded = regraded(folder, benchmark, result.scoring_rows(), rules)
    metrics["without_watching"] = without_watching(result, benchmark, rules, overall)
    metrics["further_tables"] = further_tables(graded, metrics["tables"])
    write_json(folder / METRICS_FILE, metrics)
    cases = with_pictures(worst_cases(graded), Path(result.config.settings.data))
    return Content(
        result=result,
        benchmark=benchmark,
        metrics=metrics,
        cases=tuple(cases),
        unread=tuple(
            item for item in graded if item.grade.parsed is None and item.row["error"] is None
        ),
        failures=tuple(_failures(graded)),
    )


def table_kind(title: str) -> str:
    """scores, breakdowns, baselines or counts."""
    if title == "counts":
        return "counts"
    if title == "baselines" or title.endswith(": baselines"):
        return "baselines"
    _, _, own = title.rpartition(": ")
    return "breakdowns" if own.startswith("by ") else "scores"


def published_scores(content: Content) -> list[Published]:
    """What others reported, by metric, with this run among them."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for entry in content.metrics["published"]:
        by_metric.setdefault(entry["metric"], []).append(entry)
    found = []
    for metric, entries in by_metric.items():
        lines: list[dict[str, Any]] = [{**entry, "name": entry["model"]} for entry in entries]
        own = find_line(content.tables, metric)
        unit = own["unit"] if own is not None else "%"
        if own is not None:
            lines.append({**own, "name": content.config.model_id, "own": True} | _own_note(content))
        lines = [{"unit": unit, **line} for line in lines]
        lines.sort(key=lambda line: -float("inf") if line["value"] is None else -line["value"])
        digits = words.decimals(unit, (entry["value"] for entry in entries))
        found.append(Published(metric=metric, unit=unit, digits=digits, entries=tuple(lines)))
    return found


def shown_scores(content: Content) -> list[str]:
    """Titles of score tables, without those that only repeat lines of the first."""
    tables = content.tables
    return [
        title
        for title in content.titles("scores")
        if title == "overall" or any(line not in tables["overall"] for line in tables[title])
    ]


def references(content: Content, headline: Line) -> list[dict[str, Any]]:
    """Answers without watching that a headline is read against, with the benchmark's own fixed
    ones; `name` and `note` say what each is."""
    metric = headline["name"]
    found = [
        {**line, "note": "" if line["source"] == "computed" else f"run in {line['source']}"}
        for line in content.metrics["without_watching"]
        if line["metric"] == metric
    ]
    for title in content.titles("baselines"):
        scores = title.removesuffix("baselines") + "overall"
        if content.tables[scores][0]["name"] == metric:
            # Names with a colon are of other metrics than the headline.
            found += [dict(line) for line in content.tables[title] if ": " not in line["name"]]
    return found


def reference_value(lines: Sequence[MetricRow], tables: Tables) -> tuple[str, float] | None:
    """(name, value) of the score that a breakdown takes apart, if its lines average to it."""
    known = [line for line in lines if line["value"] is not None and line["n"]]
    if len(known) < 2:
        return None
    total = sum(line["n"] for line in known)
    micro = sum(line["n"] * line["value"] for line in known) / total
    macro = sum(line["value"] for line in known) / len(known)
    for line in tables["overall"]:
        if line["value"] is not None and line["unit"] == known[0]["unit"]:
            near_micro = abs(micro - line["value"]) < 1e-6 and total == line["n"]
            if near_micro or abs(macro - line["value"]) < 1e-6:
                return line["name"], line["value"]
    return None


def ordered(lines: Sequence[MetricRow]) -> list[MetricRow]:
    """Long breakdowns by score, best first; short ones and those with a numeric order as they
    are."""
    if len(lines) <= 4 or any(letter.isdigit() for line in lines for letter in line["name"]):
        return list(lines)
    return sorted(lines, key=lambda line: -1.0 if line["value"] is None else -line["value"])


def settings_rows(content: Content) -> list[tuple[str, str]]:
    """The configuration as names and values for people."""
    config = content.config
    settings, model = config.settings, config.settings.model
    limit = "none" if settings.limit is None else f"{settings.limit:g}, drawn with seed "
    options = ", ".join(f"{k}={v}" for k, v in model.option_values().items())
    return [
        ("benchmark", f"{content.title}, version {config.bench_version}"),
        ("questions", f"{config.num_samples:,} of {config.num_samples_of_split:,}"),
        ("videos", f"{config.num_videos:,} of {config.num_videos_of_split:,}"),
        ("data revision", config.data_revision),
        ("model", config.model_id),
        ("model fingerprint", config.model_sha),
        ("model settings", f"device {model.device}, dtype {model.dtype}"),
        ("model options", options or "none"),
        ("generation", ", ".join(f"{k}={v}" for k, v in config.gen_kwargs.items()) or "none"),
        ("sampling", config.frames_rule),
        ("prompt style", settings.prompt_style + _wording(settings.prompt_index)),
        ("prompts", _prompt_hashes(content.result.rows)),
        ("replies read by", words.reading(content.metrics)),
        ("judge", _judge(content.metrics.get("judge"))),
        ("limit", limit if settings.limit is None else f"{limit}{settings.seed}"),
        ("seed", str(settings.seed)),
        ("key", config.key),
    ]


def process_rows(process: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What one process noted about itself, as names and values for people."""
    hardware, source = process.get("hardware", {}), process.get("source")
    commit = "an installed package"
    if source:
        commit = source["commit"] + (", with changed files" if source["modified"] else "")
    gpus = ", ".join(hardware.get("gpus", ())) or "none"
    memory = hardware.get("memory_bytes")
    cpu = f"{hardware.get('cpu', 'unknown')}, {words.count(hardware.get('cores') or 0, 'core')}"
    versions = ", ".join(f"{k} {v}" for k, v in process.get("versions", {}).items())
    environment = ", ".join(f"{k}={v}" for k, v in process.get("environment", {}).items())
    rows = [
        ("command", " ".join(_command(process.get("arguments", ())))),
        ("source", commit),
        ("Python", f"{process.get('python', 'unknown')} on {process.get('platform', 'unknown')}"),
        ("packages", versions),
        ("processor", cpu if memory is None else f"{cpu}, {words.size(memory)} of memory"),
        ("GPU", gpus),
        ("seed", str(process.get("seed", "unknown"))),
        ("environment", environment or "none of note"),
    ]
    return rows


def process_groups(content: Content) -> list[tuple[str, list[tuple[str, str]]]]:
    """Who worked on the run: (which processes, what they noted), each note once."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for process in content.result.processes():
        shard = str(process.get("shard", "unknown"))
        groups.setdefault(tuple(process_rows(process)), []).append(shard)
    found = []
    for rows, shards in groups.items():
        names = ", ".join(dict.fromkeys(shards))
        found.append(
            (f"{words.count(len(shards), 'process', 'processes')}, shard {names}", [*rows])
        )
    return found


def _command(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the program by its name alone."""
    return [Path(arguments[0]).name, *arguments[1:]] if arguments else ["unknown"]


def _judge(judge: Mapping[str, Any] | None) -> str:
    if judge is None:
        return "none"
    unread = words.count(judge["num_unreadable"], "reply", "replies")
    prompts = judge["prompts"] or "the benchmark's own"
    return f"{judge['model']}, prompts {prompts}, {unread} unreadable"


def _wording(index: int | None) -> str:
    return "" if index is None else f", wording {index} throughout"


def _prompt_hashes(rows: Sequence[Mapping[str, Any]]) -> str:
    hashes = {row["prompt_sha256"] for row in rows} - {""}
    return f"{words.count(len(hashes), 'prompt')}, each row has its SHA-256"


def _own_note(content: Content) -> dict[str, str]:
    limited = content.limited
    subtitles = ""
    if content.benchmark.has_subtitles:
        tag = content.config.settings.subtitle_tag
        subtitles = f"with {tag}" if tag else "no subtitles"
    notes = [subtitles, content.config.frames_rule, "LIMITED" if limited else ""]
    return {"source": "this run", "note": ", ".join(note for note in notes if note)}


def _failures(graded: Sequence[Graded]) -> list[Failure]:
    found: dict[tuple[str, str], list[str]] = {}
    for item in graded:
        if item.row["error"] is not None:
            key = (item.row["video"], item.row["error"])
            found.setdefault(key, []).append(item.row["id"])
    return [
        Failure(video=video, message=message, ids=tuple(ids))
        for (video, message), ids in found.items()
    ]
