"""Look at results again: replay a run, read its replies by other rules, compare two runs.

replay     runs the same questions with the same settings and says what differs
rescore    computes the metrics anew from the stored replies; loads no model
judge      has a judge model read what only one can score, then rescores
submission the file for the server of a benchmark whose answers are not public
compare    two results on the questions that both have, with paired tests
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eval.benchmarks.base import get
from eval.judging import JUDGED_TASKS, REPLIES_FILE, JudgeRecord, RecordingJudge, regraded
from eval.metrics.judge import JudgeConfig
from eval.metrics.spans import TimeUnit
from eval.metrics.statistics import mcnemar, paired_bootstrap
from eval.metrics.vdc import JudgePrompts
from eval.models import VideoModel
from eval.progress import Progress
from eval.provenance import package_versions
from eval.runner import differences, evaluate, write_metrics
from eval.settings import PREDICTIONS_FILE, Result, read_config, read_result, with_data
from eval.store import write_json
from timevlm import InputError

# What a reply is made of; times, commits and seconds differ between any two runs.
_COMPARED = ("raw", "parsed", "score", "n_frames", "frame_times", "prompt_sha256", "error")
_TIME_TOLERANCE_SECONDS = 1e-6


def replay(
    folder: Path,
    *,
    data: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    model: VideoModel | None = None,
) -> dict[str, Any]:
    """Run a result's questions again into `out` (default: a new folder beside it), and compare.

    A replay that was cut off goes on. Returns `differences`: one entry per question that came out
    differently, with both values; `settings`: what the two runs were made with, where it is not the
    same; `versions`. Raises InputError for a folder that is no result, or if `out` is the result
    itself or has every answer already.
    """
    before = read_result(folder)
    out = out or _free_folder(folder)
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} is the result itself; give another --out")
    if (out / PREDICTIONS_FILE).exists():
        raise InputError(f"{out} has every answer already, nothing would run; give another --out")
    settings = with_data(before.config.settings, data)
    outcome = evaluate(settings, out=out, progress=progress, model=model)
    if outcome.missing:
        raise InputError(f"{outcome.missing} questions were not answered; run the replay again")
    after = read_result(out)
    found = list(_row_differences(before.rows, after.rows))
    return {
        "result": str(folder),
        "replay": str(out),
        "num_samples": len(before.rows),
        "num_different": len(found),
        "differences": found,
        "settings": differences(before.config, after.config),
        "versions": _version_differences(before),
    }


def _free_folder(folder: Path) -> Path:
    """`RESULT-replay`, or with a number behind it if that has been finished."""
    out = folder.with_name(f"{folder.name}-replay")
    number = 1
    while (out / PREDICTIONS_FILE).exists():
        number += 1
        out = folder.with_name(f"{folder.name}-replay-{number}")
    return out


def rescore(
    folder: Path, *, rules: str | None = None, span_unit: TimeUnit | None = None
) -> dict[str, Any]:
    """The metrics of a finished result, computed anew and written.

    `rules` as in `--extract`, `span_unit` as in `--span-unit`; without them, as the run was made.
    Raises InputError for a folder that is no result, or a reading that there is not.
    """
    benchmark = get(read_config(folder).settings.bench)
    return write_metrics(folder, benchmark, rules=rules, span_unit=span_unit)


def judge(
    folder: Path,
    config: JudgeConfig,
    *,
    rules: str | None = None,
    prompts: JudgePrompts | None = None,
    on_reply: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Have a judge read a finished result; its metrics, computed anew and written.

    Every reply stays in the folder (`eval.judging`), so that a call that was cut off goes on where
    it was and later scoring asks nobody. `config.cache` is not used. `on_reply(done, total)` is
    called after each reply, in two rounds for benchmarks that ask twice. Raises InputError for a
    folder that is no result or a benchmark without a judge, JudgeError if it cannot be asked.
    """
    result = read_result(folder)
    benchmark = get(result.config.settings.bench)
    judged = benchmark.needs_judge and any(s.task in JUDGED_TASKS for s in result.samples)
    if not judged:
        raise InputError(
            f"{benchmark.name} {result.config.split} needs no judge: its scores are in {folder}; "
            f"compute them again with: timevlm eval --rescore {folder}"
        )
    if prompts is not None and not benchmark.takes_judge_prompts:
        raise InputError(f"{benchmark.name} has judge prompts of its own; leave out --prompts")
    rules = rules or result.config.settings.extract
    asker = RecordingJudge(replace(config, cache=folder / REPLIES_FILE), on_reply)
    benchmark.regrade_judged(result.scoring_rows(), asker, rules=rules, prompts=prompts)
    asker.record(prompts).save(folder)
    return write_metrics(folder, benchmark, rules=rules)


def submission(
    folder: Path, *, out: Path | None = None, rules: str | None = None
) -> tuple[Path, int]:
    """Write the file that the benchmark's server takes; its path and the number of answers.

    `out` defaults to the server's own file name in the result folder. Raises InputError for a
    result whose answers are public, or that is only a part of its split.
    """
    result = read_result(folder)
    config = result.config
    benchmark = get(config.settings.bench)
    rules = rules or config.settings.extract
    found = benchmark.submission(result.scoring_rows(), rules=rules)
    if found is None:
        raise InputError(
            f"{benchmark.name} {config.split} has nothing to submit: its answers are public, or no "
            "reply could be read; see docs/eval/benchmarks.md"
        )
    name, value = found
    if config.is_limited:
        raise InputError(
            f"{folder} has {config.num_samples} of {config.num_samples_of_split} questions and "
            "the server wants all; run it without --limit"
        )
    path = out or folder / name
    write_json(path, value)
    return path, len(value)


def compare(first: Path, second: Path, *, rules: str = "ours", seed: int = 0) -> dict[str, Any]:
    """Two results of one benchmark on the questions that both have.

    For every task: the two means (percent), the mean of B minus A with its 95% paired cluster
    bootstrap interval and p-value, and McNemar's exact test where scores are 0 or 1. Times are read
    in the unit that each result was last scored with. Raises InputError if the benchmarks differ
    or no question is common.
    """
    a, b = read_result(first), read_result(second)
    names = [(r.config.settings.bench, r.config.bench_version) for r in (a, b)]
    if names[0] != names[1]:
        raise InputError(f"{first} is of {names[0]} and {second} of {names[1]}: not comparable")
    scores_a, scores_b = _scores(a, rules), _scores(b, rules)
    common = [key for key in scores_a if key in scores_b]
    if not common:
        raise InputError(f"{first} and {second} have no scored question in common")
    tasks = {}
    for task in dict.fromkeys(scores_a[key]["task"] for key in common):
        keys = [key for key in common if scores_a[key]["task"] == task]
        tasks[task] = _compare_task([scores_a[k] for k in keys], [scores_b[k] for k in keys], seed)
    return {
        "a": {"folder": str(first), "model": a.config.model_id, "num_samples": len(a.rows)},
        "b": {"folder": str(second), "model": b.config.model_id, "num_samples": len(b.rows)},
        "num_common": len(common),
        "settings": [*differences(a.config, b.config), *_reading_differences(a, b)],
        "tasks": tasks,
    }


def _reading_differences(first: Result, second: Result) -> list[str]:
    """Whether two results were read in different units or by different judges, in words."""
    records = [JudgeRecord.load(result.folder) for result in (first, second)]
    found, names = [], []
    if first.span_unit != second.span_unit:
        found.append(f"span unit: {first.span_unit} there, {second.span_unit} here")
    for record in records:
        summary = {} if record is None else record.summary()
        summary.pop("num_unreadable", None)
        names.append(summary)
    if names[0] != names[1]:
        found.append(f"judge: {names[0]} there, {names[1]} here")
    return found


def _compare_task(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    scores_a, scores_b = [x["score"] for x in first], [x["score"] for x in second]
    percent_a, percent_b = [100 * s for s in scores_a], [100 * s for s in scores_b]
    paired = paired_bootstrap(percent_a, percent_b, [x["cluster"] for x in first], seed=seed)
    found = {
        "a": math.fsum(percent_a) / len(percent_a),
        "b": math.fsum(percent_b) / len(percent_b),
        **asdict(paired),
    }
    if all(score in (0, 1) for score in (*scores_a, *scores_b)):
        found["mcnemar"] = asdict(mcnemar(scores_a, scores_b))
    return found


def _scores(result: Result, rules: str) -> dict[str, dict[str, Any]]:
    """Score, cluster and task of every question that has a score."""
    benchmark = get(result.config.settings.bench)
    return {
        item.row["id"]: {
            "score": item.grade.score,
            "cluster": item.row["cluster"],
            "task": item.row["task"],
        }
        for item in regraded(result.folder, benchmark, result.scoring_rows(), rules)
        if item.grade.score is not None
    }


def _row_differences(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = []
    new = {row["id"]: row for row in after}
    for row in before:
        other = new.get(row["id"])
        if other is None:
            found.append({"id": row["id"], "changed": {"row": ["there", "absent"]}})
            continue
        changed = {
            key: [row[key], other[key]] for key in _COMPARED if not _same(row[key], other[key])
        }
        if changed:
            found.append({"id": row["id"], "changed": changed})
    return found


def _same(first: Any, second: Any) -> bool:
    """Equality, with float noise of times and overlaps let through."""
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, abs_tol=_TIME_TOLERANCE_SECONDS)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return all(map(_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return all(_same(first[key], second[key]) for key in first)
    return first == second


def _version_differences(before: Result) -> list[str]:
    """Packages whose versions are others now, in words."""
    now = package_versions()
    then: dict[str, str] = {}
    for process in before.processes():
        then |= process.get("versions", {})
    names = sorted(now.keys() | then.keys())
    return [
        f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in names
        if now.get(name) != then.get(name)
    ]
