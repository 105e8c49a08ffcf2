"""What a score is read against: answers that need no video, runs without eyes, published scores.

Everything here is written into `metrics.json` under `without_watching`, so that the page shows no
number of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, Tables
from eval.metrics.grounding import centre_spans, full_video_spans
from eval.models.baselines import BlindModel
from eval.records import NATIVE_RULE, Sample, video_seconds
from eval.settings import METRICS_FILE, PREDICTIONS_FILE, Result, read_config, read_samples
from eval.store import read_json
from timevlm import InputError

Row = Mapping[str, Any]
_SAME = ("metric", "value", "low", "high", "n")


def without_watching(
    result: Result, benchmark: Benchmark, rules: str, overall: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Score lines, with intervals, of answers that nobody had to watch the videos for.

    Each has `name` (the answer), `metric` (one of the names in `overall`), `source`, and the keys
    of a score line. Runs of the baselines on the very same questions in folders beside this one
    are among them.
    """
    metrics = {line["name"] for line in overall}
    found: list[dict[str, Any]] = []
    for line in (*_computed(result, benchmark, rules), *_runs_beside(result)):
        # `blind` and `constant` runs are often one of the computed answers.
        known = any(all(line.get(key) == other.get(key) for key in _SAME) for other in found)
        if line["metric"] in metrics and not known:
            found.append(line)
    return found


def read_metrics(folder: Path) -> dict[str, Any]:
    """The score tables of a result folder. Raises InputError."""
    path = folder / METRICS_FILE
    again = f"make it again: timevlm eval --rescore {folder}"
    metrics = read_json(path, again)
    needed = {"tables", "extract", "published", "cost"}
    if not isinstance(metrics, dict) or not needed <= metrics.keys():
        raise InputError(f"{path} holds no score tables; {again}")
    return metrics


def find_line(tables: Tables, metric: str) -> Mapping[str, Any] | None:
    """Our line of a published metric: a line of "overall", or `tag: value` of "by tag"."""
    for line in tables.get("overall", ()):
        if line["name"] == metric:
            return line
    tag, _, value = metric.partition(": ")
    for line in tables.get(f"by {tag}", ()):
        if line["name"] == value:
            return line
    return None


def _computed(result: Result, benchmark: Benchmark, rules: str) -> Iterator[dict[str, Any]]:
    rows = result.scoring_rows()
    for task, name, answer in _ANSWERS:
        asked = [row for row in rows if row["task"] == task and row["gold"] is not None]
        replies = [answer(row) for row in asked]
        if not asked or any(reply is None for reply in replies):
            continue
        native = {"parse_rule": NATIVE_RULE, "error": None, "raw": ""}
        answered = [
            {**row, **native, "parsed": reply} for row, reply in zip(asked, replies, strict=True)
        ]
        line = benchmark.score(answered, rules=rules)["overall"][0]
        if line["value"] is not None:
            yield {**line, "metric": line["name"], "name": name, "source": "computed"}


def _runs_beside(result: Result) -> Iterator[dict[str, Any]]:
    """Headline lines of finished baseline runs of the same questions in the folders beside."""
    for path in sorted(result.folder.resolve().parent.glob(f"*/{METRICS_FILE}")):
        folder = path.parent
        if folder == result.folder.resolve() or not (folder / PREDICTIONS_FILE).is_file():
            continue
        try:
            config = read_config(folder)
            if config.model_id.partition(":")[0] not in ("blind", "constant", "shuffled"):
                continue
            if config.data_revision != result.config.data_revision:
                continue
            if [s.id for s in read_samples(folder)] != [s.id for s in result.samples]:
                continue
            metrics = read_metrics(folder)
        except InputError:
            continue
        for line in headlines(metrics["tables"]):
            if line["value"] is not None:
                own = {"metric": line["name"], "name": config.model_id, "source": folder.name}
                yield {**line, **own}


def headlines(tables: Tables) -> list[Mapping[str, Any]]:
    """The first line of every task: what one would quote."""
    overall = tables["overall"]
    firsts = {lines[0]["name"] for title, lines in tables.items() if title.endswith(": overall")}
    return [line for line in overall if line["name"] in firsts] or list(overall[:1])


def _longest_option(row: Row) -> int:
    return BlindModel().choose(_sample(row))


def _full_video(row: Row) -> tuple[float, float] | None:
    duration = video_seconds(row)
    return None if duration is None else full_video_spans([duration])[0]


def _middle(row: Row) -> tuple[float, float] | None:
    duration = video_seconds(row)
    return None if duration is None else centre_spans([duration])[0]


def _sample(row: Row) -> Sample:
    return Sample.from_dict({key: row[key] for key in Sample.__dataclass_fields__})


_ANSWERS: tuple[tuple[str, str, Callable[[Row], Any]], ...] = (
    ("choice", "longest option", _longest_option),
    ("grounding", "whole video", _full_video),
    ("grounding", "middle half of the video", _middle),
)
