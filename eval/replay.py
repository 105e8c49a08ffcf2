"""Look at results again: replay a run, read its replies by other rules, compare two runs.

replay     runs the same questions with the same settings and says what differs
rescore    computes the metrics anew from the stored replies; loads no model
compare    two results on the questions that both have, with paired tests
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.benchmarks.base import get
from eval.metrics.statistics import mcnemar, paired_bootstrap
from eval.models import VideoModel
from eval.progress import Progress
from eval.provenance import package_versions
from eval.runner import differences, evaluate, write_metrics
from eval.settings import Result, read_result, with_data
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
    """Run a result's questions again into `out` (default: a folder beside it), and compare.

    Returns `differences`: one entry per question that came out differently, with both values;
    `settings`: what the two runs were made with, where it is not the same; `versions`. Raises
    InputError for a folder that is no result, or if `out` is the result itself.
    """
    before = read_result(folder)
    out = out or folder.with_name(f"{folder.name}-replay")
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} is the result itself; give another --out")
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


def rescore(folder: Path, *, rules: str | None = None) -> dict[str, Any]:
    """The metrics of a finished result, computed anew and written; `rules` as in `--extract`."""
    result = read_result(folder)
    return write_metrics(folder, get(result.config.settings.bench), rules=rules)


def compare(first: Path, second: Path, *, rules: str = "ours", seed: int = 0) -> dict[str, Any]:
    """Two results of one benchmark on the questions that both have.

    For every task: the two means (percent), the mean of B minus A with its 95% paired cluster
    bootstrap interval and p-value, and McNemar's exact test where scores are 0 or 1. Raises
    InputError if the benchmarks differ or no question is common.
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
        "settings": differences(a.config, b.config),
        "tasks": tasks,
    }


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
        for item in benchmark.regrade(result.scoring_rows(), rules)
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
