"""Run a benchmark: draw the questions, answer this process's share, score once all is there.

Any number of processes may work on one result folder, one after the other or at the same time, on
one machine or several that share a disk. None waits for another: whoever finds every question
answered writes the tables. A process may be killed at any moment; the same command goes on where
it ended.
"""

import hashlib
import json
import random
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, get
from eval.judging import scored_tables
from eval.metrics.spans import TimeUnit
from eval.models import VideoModel, load_model
from eval.progress import Progress
from eval.provenance import package_versions, peak_memory, provenance
from eval.records import Sample, scoring_row
from eval.sampling import Sampling
from eval.settings import (
    CONFIG_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROCESSES_FOLDER,
    SAMPLES_FILE,
    Config,
    RunSettings,
    read_config,
    read_result,
    read_samples,
)
from eval.shards import Shard
from eval.store import CLAIMS_FOLDER, RowWriter, merge, write_json, write_lines
from eval.worker import Job, Times, Worker
from timevlm import InputError

DEFAULT_FOLDER = Path("results")
# Tags by which a drawn part of a split stays balanced, the first that a benchmark has.
_STRATA = ("duration", "duration_group", "task", "task_type", "category")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a process leaves behind."""

    folder: Path
    missing: int
    """Questions of the run that nobody has tried yet."""
    num_torn: int
    metrics: dict[str, Any] | None
    """The score tables; None while questions are missing."""


def evaluate(
    settings: RunSettings,
    *,
    out: Path | None = None,
    root: Path = DEFAULT_FOLDER,
    shard: Shard | None = None,
    progress: Progress | None = None,
    model: VideoModel | None = None,
    benchmark: Benchmark | None = None,
) -> Outcome:
    """Answer this process's share of a benchmark and, if it was the last, score the whole.

    `out` is the result folder (default: a folder under `root` named after the run); `model` and
    `benchmark` replace those that the settings name. Raises InputError or ModelError.
    """
    shard = shard or Shard()
    benchmark = benchmark or get(settings.bench)
    settings = replace(settings, bench=benchmark.name)
    samples, config_parts = draw(benchmark, settings)
    _check_prompt_index(benchmark, settings, samples)
    if model is None:
        model = load_model(_on_device(settings, shard))
    if settings.subtitles and not model.reads_prompts:
        raise InputError(
            f"{model.name} is asked the question alone, so it would not see the subtitles; "
            "leave them out, or let it answer in words: --text"
        )
    if settings.prompt_index is not None and not model.reads_prompts:
        raise InputError(
            f"{model.name} is asked in words of its own, so a prompt index changes nothing; "
            "leave it out, or let it answer in words: --text"
        )
    config = Config(
        settings=settings,
        bench_version=benchmark.version,
        sampling=resolve_sampling(settings.sampling, model),
        model_id=model.name,
        model_sha=model.fingerprint,
        gen_kwargs=model.gen_kwargs,
        **config_parts,
    )
    folder = out or root / folder_name(config)
    _enter(folder, config, samples)
    job = Job(folder=folder, config=config, benchmark=benchmark, samples=samples)
    with RowWriter(folder, f"{shard.index:05d}-of-{shard.count:05d}") as writer:
        known = provenance(sys.argv, settings.seed)
        # A resumed run keeps what the processes before it noted.
        name = f"{writer.path.stem}-{known['started']:.3f}.json"
        note = folder / PROCESSES_FOLDER / name
        write_json(note, {"shard": str(shard), **known})
        with progress or Progress() as shown:
            worker = Worker(job, model, shard, writer, shown)
            times = worker.run()
        write_json(note, {"shard": str(shard), **known, **_costs(times, shown)})
    return finish(folder, benchmark)


def _check_prompt_index(
    benchmark: Benchmark, settings: RunSettings, samples: Sequence[Sample]
) -> None:
    """Raises InputError unless every sample has a wording of the number that is asked for."""
    index = settings.prompt_index
    if index is None:
        return
    least = min(len(benchmark.wordings(sample)) for sample in samples)
    if not least:
        raise InputError(
            f"{benchmark.name} asks each question in one wording alone; leave out the prompt index"
        )
    if index >= least:
        raise InputError(f"{benchmark.name} has no prompt index {index}; use 0 to {least - 1}")


def draw(benchmark: Benchmark, settings: RunSettings) -> tuple[list[Sample], dict[str, Any]]:
    """The questions of a run, and what `Config` says about them.

    Raises InputError if the split is unknown, the annotations cannot be read, or ids repeat.
    """
    split = settings.split or benchmark.splits[0]
    if split not in benchmark.splits:
        raise InputError(
            f"{benchmark.name} has no split {split!r}; use one of {', '.join(benchmark.splits)}"
        )
    data = Path(settings.data)
    everything = list(benchmark.samples(data, split, subtitles=bool(settings.subtitles)))
    if not everything:
        raise InputError(f"the annotations of {benchmark.name} in {data} hold no questions")
    ids = {sample.id for sample in everything}
    if len(ids) < len(everything):
        raise InputError(f"{benchmark.name}: {len(everything) - len(ids)} sample ids repeat")
    drawn = draw_videos(everything, settings.limit, settings.seed)
    return drawn, {
        "split": split,
        "data_revision": revision(everything),
        "num_samples": len(drawn),
        "num_videos": len({sample.cluster for sample in drawn}),
        "num_samples_of_split": len(everything),
        "num_videos_of_split": len({sample.cluster for sample in everything}),
    }


def draw_videos(samples: Sequence[Sample], limit: float | None, seed: int) -> list[Sample]:
    """All samples of `limit` videos (a count, or a share below 1), in the order given.

    The draw is balanced over the benchmark's durations or tasks, and a larger limit with the same
    seed draws the same videos and more.
    """
    if limit is None:
        return list(samples)
    strata: dict[str, list[str]] = {}
    for cluster, stratum in {s.cluster: _stratum(s) for s in reversed(samples)}.items():
        strata.setdefault(stratum, []).append(cluster)
    place: dict[str, tuple[float, float]] = {}
    for stratum in sorted(strata):
        clusters = sorted(strata[stratum])
        generator = random.Random(f"{seed}:{stratum}")
        generator.shuffle(clusters)
        for index, cluster in enumerate(clusters):
            # Evenly over [0, 1): any beginning of the order has each stratum's share.
            position = (index + generator.random()) / len(clusters)
            place[cluster] = (position, generator.random())
    count = max(1, round(limit * len(place))) if limit < 1 else int(limit)
    chosen = set(sorted(place, key=place.__getitem__)[:count])
    return [sample for sample in samples if sample.cluster in chosen]


def revision(samples: Sequence[Sample]) -> str:
    """SHA-256 of the questions themselves, whatever files they came from."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(json.dumps(sample.to_dict(), sort_keys=True).encode())
    return found.hexdigest()


def resolve_sampling(sampling: Sampling, model: VideoModel) -> Sampling:
    """The sampling of a run, with `model` replaced by what the model's makers chose.

    Raises PlanError if the model cannot follow it.
    """
    resolved = model.default_sampling if sampling.mode == "model" else sampling
    model.check_sampling(resolved)
    return resolved


def folder_name(config: Config) -> str:
    """`BENCH-SPLIT/MODEL-KEY`: runs whose replies may differ never share a folder."""
    model = re.sub(r"[^A-Za-z0-9.]+", "-", config.model_id.rstrip("/").split("/")[-1]).strip("-")
    tag = config.settings.subtitle_tag.replace(" ", "-")
    bench = "-".join(part for part in (config.settings.bench, config.split, tag) if part)
    return f"{bench}/{model or 'model'}-{config.key[:10]}"


def finish(folder: Path, benchmark: Benchmark | None = None) -> Outcome:
    """Merge the rows of all processes and, if none is missing, score them; needs no model.

    Raises InputError if the folder holds no run.
    """
    config = read_config(folder)
    samples = read_samples(folder)
    rows, num_torn = merge(folder, [sample.id for sample in samples])
    missing = len(samples) - len(rows)
    if missing:
        return Outcome(folder=folder, missing=missing, num_torn=num_torn, metrics=None)
    benchmark = benchmark or get(config.settings.bench)
    write_lines(folder / PREDICTIONS_FILE, _read_anew(rows, samples, benchmark, config.settings))
    shutil.rmtree(folder / CLAIMS_FOLDER, ignore_errors=True)
    metrics = write_metrics(folder, benchmark)
    return Outcome(folder=folder, missing=0, num_torn=num_torn, metrics=metrics)


def _read_anew(
    rows: Sequence[dict[str, Any]],
    samples: Sequence[Sample],
    benchmark: Benchmark,
    settings: RunSettings,
) -> list[dict[str, Any]]:
    """The rows as the settings read them: a run that was resumed may have begun with others."""
    joined = [
        scoring_row(sample, row, span_unit=settings.span_unit)
        for sample, row in zip(samples, rows, strict=True)
    ]
    grades = [item.grade for item in benchmark.regrade(joined, settings.extract)]
    return [{**row, **grade.row_values()} for row, grade in zip(rows, grades, strict=True)]


def write_metrics(
    folder: Path,
    benchmark: Benchmark,
    *,
    rules: str | None = None,
    span_unit: TimeUnit | None = None,
) -> dict[str, Any]:
    """Score a result folder's predictions, write `metrics.json`, and return what it holds.

    With the verdicts of a judge that was asked about them (`eval.judging`). Replies are read by
    `rules` and in `span_unit`, or as the run's settings say. Raises InputError.
    """
    result = read_result(folder)
    config = result.config
    settings = config.settings
    settings = replace(
        settings,
        extract=rules or settings.extract,
        span_unit=span_unit or settings.span_unit,
    )
    rows = result.scoring_rows(settings.span_unit)
    tables, judge = scored_tables(folder, benchmark, rows, settings.extract)
    metrics = {
        "bench": settings.bench,
        "title": benchmark.title,
        "bench_version": config.bench_version,
        "split": config.split,
        "subtitles": settings.subtitles,
        "model": config.model_id,
        "sampling": config.frames_rule,
        "extract": settings.extract,
        "span_unit": settings.span_unit,
        "limited": config.is_limited,
        "num_videos": config.num_videos,
        "num_videos_of_split": config.num_videos_of_split,
        "judge": judge,
        "tables": tables,
        "cost": cost(result.rows),
        "published": [asdict(score) for score in benchmark.published],
        "versions": package_versions(),
    }
    write_json(folder / METRICS_FILE, metrics)
    return metrics


def cost(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What answering took: summed seconds of each stage, means of frames and tokens."""
    stages: dict[str, float] = {}
    for row in rows:
        for stage, seconds in row["details"].get("seconds", {}).items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    answered = [row for row in rows if row["error"] is None]
    tokens = [row["tokens_in"] for row in answered if row["tokens_in"] is not None]
    frames = [row["n_frames"] for row in answered]
    kept = [n for row in answered if (n := row["details"].get("tokens_kept")) is not None]
    memories = [b for row in answered if (b := row["details"].get("memory_bytes")) is not None]
    return {
        "seconds": stages,
        "seconds_per_sample": sum(stages.values()) / len(rows),
        "mean_frames": _mean(frames),
        "mean_tokens_in": _mean(tokens),
        "mean_tokens_kept": _mean(kept or tokens),
        "mean_memory_bytes": _mean(memories),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _enter(folder: Path, config: Config, samples: Sequence[Sample]) -> None:
    """Make the folder this run's, or find that it is. Raises InputError if it is another's."""
    if (folder / CONFIG_FILE).exists():
        there = read_config(folder)
        if there.key != config.key:
            raise InputError(
                f"{folder} holds another run ({', '.join(differences(there, config))}); "
                "give another --out"
            )
        # Another draw of the same run: the rows stay, the tables have to be made again.
        same_draw = there.settings.limit == config.settings.limit
        if not same_draw or there.settings.seed != config.settings.seed:
            (folder / PREDICTIONS_FILE).unlink(missing_ok=True)
    elif _is_foreign(folder):
        raise InputError(f"{folder} exists and is no result folder; give another --out")
    # The configuration comes first: it tells processes that start now whose folder this is.
    write_json(folder / CONFIG_FILE, config.to_dict())
    write_lines(folder / SAMPLES_FILE, [sample.to_dict() for sample in samples])


def _is_foreign(folder: Path) -> bool:
    """Whether something lies there that no run has begun; another process's may have just now."""
    if not folder.is_dir():
        return folder.exists()
    names = [path.name for path in folder.iterdir()]
    return any(not name.startswith(".") for name in names) and CONFIG_FILE not in names


def differences(first: Config, second: Config) -> list[str]:
    """What makes two runs different, in words."""
    pairs = {
        "benchmark": [(c.settings.bench, c.bench_version, c.split) for c in (first, second)],
        "subtitles": [c.settings.subtitles for c in (first, second)],
        "data": [c.data_revision[:12] for c in (first, second)],
        "model": [(c.model_id, c.model_sha[:12]) for c in (first, second)],
        "generation": [c.gen_kwargs for c in (first, second)],
        "sampling": [str(c.sampling) for c in (first, second)],
        "prompt style": [c.settings.prompt_style for c in (first, second)],
        "prompt index": [c.settings.prompt_index for c in (first, second)],
    }
    return [f"{name}: {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]


def _on_device(settings: RunSettings, shard: Shard) -> Any:
    """The model's settings, on this process's own GPU if the launcher counted processes."""
    model = replace(settings.model, seed=settings.seed)
    if model.device != "auto" or shard.local_rank is None:
        return model
    import torch

    if not torch.cuda.is_available():
        return model
    return replace(model, device=f"cuda:{shard.local_rank % torch.cuda.device_count()}")


def _stratum(sample: Sample) -> str:
    values = [sample.tags[tag] for tag in _STRATA if isinstance(sample.tags.get(tag), str)]
    return str(values[0]) if values else ""


def _costs(times: Times, progress: Progress) -> dict[str, Any]:
    return {
        "seconds": {**asdict(times), "harness": times.harness},
        "samples": progress.tally.done,
        "errors": progress.tally.errors,
        **peak_memory(),
    }
