"""`timevlm eval`: run a benchmark, check its files, replay, rescore, compare, sweep.

`timevlm eval BENCH ...` is the command `run` without its name. Everything heavy is imported by the
command that needs it, so that the program's help stays quick.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.errors import InputError

if TYPE_CHECKING:
    from eval.benchmarks.base import Benchmark
    from eval.benchmarks.problems import Problem
    from eval.settings import RunSettings

Command = Callable[..., Any]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
_EXTRACT = click.option(
    "--extract",
    type=click.Choice(("ours", "official", "timeviper", "lmms")),
    help="Rules that read replies in words.  [default: ours, or the result's]",
)
_SPAN_UNIT = click.option(
    "--span-unit",
    type=click.Choice(("seconds", "frame_index", "normalized")),
    help="What times in replies are: seconds, frames 0-99, or 0-1 over the video.  "
    "[default: seconds, or the result's]",
)
_RUN_OPTIONS = (
    click.option("--data", metavar="DIR", help="Folder of the benchmark's official files."),
    click.option("--split", help="Split or subset; default: the one that papers report."),
    click.option("--model", default="nano", show_default=True, help="See `timevlm eval list`."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps."),
    click.option("--dtype", default="auto", show_default=True, help="Type of the weights."),
    click.option("--subtitles", is_flag=True, help="Show the subtitles at the sampled frames."),
    click.option("--all-subtitles", is_flag=True, help="Show all subtitles of each video."),
    click.option(
        "--sampling",
        metavar="RULE",
        help="uniform_mid:N, linspace:N, fps:R, fps_head:R:N, fps_then_uniform:R:N, timeviper.",
    ),
    click.option("--fps", type=float, help="Frames per second of video."),
    click.option("--max-frames", type=int, help="Most frames of a video."),
    click.option(
        "--prefilter",
        metavar="auto|off|NAME",
        help="timevlm: spend the frames where something happens.  [default: off]",
    ),
    click.option("--limit", type=float, help="Draw this many videos, or this share below 1."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw."),
    _EXTRACT,
    _SPAN_UNIT,
    click.option(
        "--prompt-style",
        type=click.Choice(("official", "timeviper", "plain")),
        default="official",
        show_default=True,
        help="Wording of the prompts.",
    ),
    click.option(
        "--prompt-index",
        type=click.IntRange(min=0),
        metavar="K",
        help="VDC: ask in wording K, from 0.  [default: drawn by the video's hash]",
    ),
    click.option("--text", is_flag=True, help="timevlm: answer in words instead of by likelihood."),
    click.option("--max-new-tokens", type=int, default=256, show_default=True),
    click.option("--base-url", metavar="URL", help="Address of an OpenAI-compatible endpoint."),
    click.option(
        "--model-option",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of the model, VALUE as JSON or plain text; may be repeated.",
    ),
    click.option("--decode-timeout", type=float, default=600.0, show_default=True, help="Seconds."),
    click.option("--shard", metavar="I/N", help="Only part I (from 0) of N."),
    click.option("--out", type=click.Path(path_type=Path), help="Result folder, also to resume."),
    click.option("--check", is_flag=True, help="Only say what the data folder lacks."),
    click.option("--check-videos", is_flag=True, help="The same, and try to decode each video."),
    click.option("--fetch", is_flag=True, help="Download the annotations into the data folder."),
    click.option("--prepare", is_flag=True, help="Write what the reader needs beside the files."),
    click.option(
        "--replay",
        type=click.Path(path_type=Path),
        metavar="RESULT",
        help="Run a result again and print what differs.",
    ),
    click.option(
        "--rescore",
        type=click.Path(path_type=Path),
        metavar="RESULT",
        help="Compute a result's metrics anew, without a model.",
    ),
    _JSON,
    _QUIET,
)


class EvalGroup(click.Group):
    """The commands, with `run` as the one that is meant when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse after `BENCH ...` and `--replay ...` became `run ...`."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of `run`, then the commands."""
        run_context = click.Context(run, info_name="run", parent=ctx)
        records = [param.get_help_record(run_context) for param in run.get_params(run_context)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)


@click.group(name="eval", cls=EvalGroup, subcommand_metavar="BENCH | COMMAND [ARGS]...")
def evaluation() -> None:
    """Score a model on a benchmark; interrupted or killed runs go on where they ended.

    \b
    timevlm eval charades --data DIR --check
    timevlm eval charades --data DIR --model nano --limit 50
    timevlm eval videomme --data DIR --model openai:MODEL --base-url http://localhost:8000/v1
    torchrun --nproc-per-node 8 -m eval mlvu --data DIR --model FOLDER
    timevlm eval compare RESULT_A RESULT_B
    timevlm eval judge RESULT --base-url URL --judge-model NAME
    """


def _run_options(function: Command) -> Command:
    for option in reversed(_RUN_OPTIONS):
        function = option(function)
    return function


@evaluation.command(hidden=True)
@click.argument("bench", required=False)
@_run_options
def run(**options: Any) -> None:
    """Run BENCH on the official files in a folder, or look at a result again."""
    if options["replay"] is not None:
        _replay(options)
    elif options["rescore"] is not None:
        from eval.replay import rescore

        rescore(options["rescore"], rules=options["extract"], span_unit=options["span_unit"])
        _report(options["rescore"], options)
    elif options["bench"] is None:
        raise click.UsageError("say which benchmark to run; `timevlm eval list` names them")
    else:
        _run_benchmark(options)


@evaluation.command()
@click.argument("result_a", type=click.Path(path_type=Path))
@click.argument("result_b", type=click.Path(path_type=Path))
@click.option(
    "--extract",
    type=click.Choice(("ours", "official", "timeviper", "lmms")),
    default="ours",
    show_default=True,
    help="Rules that read replies in words.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for a page of the tests.")
@_JSON
def compare(result_a: Path, result_b: Path, extract: str, out: Path | None, as_json: bool) -> None:
    """Whether RESULT_B is better than RESULT_A, on the questions that both have."""
    from eval.replay import compare as compare_results
    from eval.show import print_comparison

    found = compare_results(result_a, result_b, rules=extract)
    _print_json(found) if as_json else print_comparison(found)
    if out is not None:
        from eval.report import write_comparison

        write_comparison(result_a, result_b, out, rules=extract)


@evaluation.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--base-url", required=True, help="As http://localhost:30000/v1.")
@click.option("--judge-model", required=True, metavar="NAME", help="Name that it is served under.")
@click.option("--api-key-env", metavar="VARIABLE", help="Environment variable with the key.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="VDC: the judge's wording as JSON, in place of ours.",
)
@click.option("--temperature", type=float, default=0.0, show_default=True)
@click.option("--max-tokens", type=int, default=256, show_default=True, help="Of one reply.")
@click.option("--timeout", type=float, default=120.0, show_default=True, help="Seconds a call.")
@click.option("--attempts", type=int, default=6, show_default=True, help="Calls for one reply.")
@click.option("--concurrency", type=int, default=8, show_default=True, help="Calls at a time.")
@_EXTRACT
@_JSON
@_QUIET
def judge(result: Path, **options: Any) -> None:
    """Have a language model score RESULT where only one can: VDC, MLVU's generation, and others.

    Replies are kept in RESULT as they come: the same command goes on after an interruption, and
    scoring again later asks nobody.

    \b
    timevlm eval judge RESULT --base-url http://localhost:30000/v1 --judge-model NAME
    """
    from eval.metrics.judge import JudgeConfig
    from eval.metrics.vdc import JudgePrompts
    from eval.progress import count_progress
    from eval.replay import judge as judge_result

    config = JudgeConfig(
        base_url=options["base_url"],
        model=options["judge_model"],
        api_key_env=options["api_key_env"],
        temperature=options["temperature"],
        max_tokens=options["max_tokens"],
        timeout_seconds=options["timeout"],
        max_attempts=options["attempts"],
        concurrency=options["concurrency"],
    )
    prompts = None if options["prompts"] is None else JudgePrompts.from_json(options["prompts"])
    on_reply = count_progress("judge", "replies", quiet=options["quiet"])
    judge_result(result, config, rules=options["extract"], prompts=prompts, on_reply=on_reply)
    _report(result, options)


@evaluation.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: in RESULT.")
@_EXTRACT
def submission(result: Path, out: Path | None, extract: str | None) -> None:
    """Write RESULT's answers as the benchmark's server takes them.

    For EgoSchema full, LongVideoBench test and MLVU test, whose right answers are not public.
    """
    from eval.replay import submission as write_submission

    path, number = write_submission(result, out=out, rules=extract)
    click.echo(f"{number} answers: {path}")


@evaluation.command()
@click.argument("sweep_file", metavar="SWEEP.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="Data folder, in place of the file's.")
@click.option("--model", help="Model, in place of the file's.")
@click.option("--limit", type=float, help="Videos to draw, in place of the file's.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the sweep, also to resume.")
@_JSON
@_QUIET
def sweep(sweep_file: Path, out: Path | None, as_json: bool, quiet: bool, **changes: Any) -> None:
    """Run a grid of settings, one after the other; a table and a plot of all of them.

    SWEEP.toml is a file, or the name of one that ships with the program.
    """
    from eval.show import print_sweep
    from eval.sweep import read_sweep, run_sweep

    found = run_sweep(read_sweep(sweep_file, **changes), out=out, quiet=quiet or as_json)
    _print_json(found) if as_json else print_sweep(found)


@evaluation.command(name="list")
@_JSON
def list_benchmarks(as_json: bool) -> None:
    """The benchmarks and how models are named."""
    from eval.benchmarks.base import available, get
    from eval.show import print_benchmarks

    names = ("name", "title", "version", "task", "splits", "has_subtitles")
    found = [{n: getattr(get(key), n) for n in names} for key in available()]
    _print_json(found) if as_json else print_benchmarks(found)


def _run_benchmark(options: dict[str, Any]) -> None:
    from eval.benchmarks.base import get
    from eval.progress import make_progress
    from eval.runner import evaluate
    from eval.shards import parse_shard, shard_from_environment
    from timevlm.cli.session import silence_libraries

    silence_libraries()
    benchmark = get(options["bench"])
    settings = _settings(options)
    shard = parse_shard(options["shard"]) if options["shard"] else shard_from_environment()
    data, split = Path(settings.data), settings.split or benchmark.splits[0]
    if options["fetch"]:
        _note(f"wrote {len(benchmark.fetch(data, split))} annotation files", options)
    if options["prepare"]:
        _note(f"wrote {benchmark.prepare(data, split)} files", options)
    if _report_problems(benchmark, settings, options) or options["fetch"] or options["prepare"]:
        return
    title = f"{benchmark.name} {settings.model.name}"
    progress = make_progress(title, quiet=options["quiet"] or shard.index > 0)
    outcome = evaluate(settings, out=options["out"], shard=shard, progress=progress)
    if outcome.num_torn:
        _note(f"{outcome.num_torn} broken lines of killed runs were passed over", options)
    if outcome.metrics is not None:
        _report(outcome.folder, options)
        return
    if options["as_json"]:
        _print_json({"folder": str(outcome.folder), "missing": outcome.missing})
        return
    text = f"shard {shard} is done; {outcome.missing} questions are left to other processes"
    click.echo(f"{text}: {outcome.folder}")


def _report_problems(
    benchmark: "Benchmark", settings: "RunSettings", options: dict[str, Any]
) -> bool:
    """Say what the data folder lacks; True if there is nothing more to do (`--check`)."""
    split = settings.split or benchmark.splits[0]
    found = benchmark.check(Path(settings.data), split, subtitles=bool(settings.subtitles))
    if options["check_videos"] and not any(problem.level == "fatal" for problem in found):
        found += _video_faults(benchmark, settings, options)
    if options["check"] or options["check_videos"]:
        if options["as_json"]:
            _print_json([{"level": p.level, "what": p.what, "paths": p.paths} for p in found])
        elif not found:
            click.echo(f"{benchmark.name} {split}: nothing is missing in {settings.data}")
        for problem in () if options["as_json"] else found:
            click.echo(str(problem))
        if any(problem.level == "fatal" for problem in found):
            raise click.exceptions.Exit(2)
        return True
    for problem in found:
        if problem.level == "fatal":
            again = f"timevlm eval {benchmark.name} --data {settings.data} --check"
            raise InputError(f"{problem.what}; see: {again}")
        _note(str(problem), options)
    return False


def _video_faults(
    benchmark: "Benchmark", settings: "RunSettings", options: dict[str, Any]
) -> "list[Problem]":
    """What is wrong with the videos that the run would open."""
    from eval.preflight import video_faults
    from eval.progress import count_progress
    from eval.runner import draw

    samples, _ = draw(benchmark, settings)
    on_video = count_progress("check", "videos", quiet=options["quiet"] or options["as_json"])
    seconds = settings.decode_wall_seconds
    return video_faults(Path(settings.data), samples, wall_seconds=seconds, on_video=on_video)


def _settings(options: dict[str, Any]) -> "RunSettings":
    from eval.models.base import ModelSettings
    from eval.sampling import from_options
    from eval.settings import RunSettings

    if options["data"] is None:
        raise click.UsageError("say where the benchmark's files are: --data DIR")
    model_options = dict(_parse_option(text) for text in options["model_option"])
    for name in ("base_url", "prefilter"):
        if options[name]:
            model_options[name] = options[name]
    model = ModelSettings(
        name=options["model"],
        device=options["device"],
        dtype=options["dtype"],
        max_new_tokens=options["max_new_tokens"],
        seed=options["seed"],
        native=not options["text"],
        options=tuple(sorted(model_options.items())),
    )
    return RunSettings(
        bench=options["bench"],
        data=options["data"],
        split=options["split"],
        subtitles="all" if options["all_subtitles"] else options["subtitles"],
        model=model,
        sampling=from_options(
            options["sampling"], fps=options["fps"], max_frames=options["max_frames"]
        ),
        limit=options["limit"],
        seed=options["seed"],
        extract=options["extract"] or "ours",
        span_unit=options["span_unit"] or "seconds",
        prompt_style=options["prompt_style"],
        prompt_index=options["prompt_index"],
        decode_wall_seconds=options["decode_timeout"],
    )


def _parse_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--model-option {text!r} is not written NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _replay(options: dict[str, Any]) -> None:
    from eval.progress import make_progress
    from eval.replay import replay
    from eval.show import print_replay
    from timevlm.cli.session import silence_libraries

    silence_libraries()
    progress = make_progress(f"replay {options['replay'].name}", quiet=options["quiet"])
    found = replay(options["replay"], data=options["data"], out=options["out"], progress=progress)
    _print_json(found) if options["as_json"] else print_replay(found)
    if found["num_different"]:
        raise click.exceptions.Exit(1)


def _report(folder: Path, options: dict[str, Any]) -> None:
    """Write a scored result's report and print its metrics."""
    from eval.report import write_report
    from eval.report.reference import read_metrics
    from eval.show import print_metrics

    write_report(folder)
    metrics = {"folder": str(folder), **read_metrics(folder)}
    _print_json(metrics) if options["as_json"] else print_metrics(metrics)
    for line in metrics["tables"]["overall"]:
        if line["value"] is None and line.get("note"):
            _note(f"warning: {line['name']} has no value: {line['note']}", options)


def _note(line: str, options: dict[str, Any]) -> None:
    if not options["quiet"]:
        click.echo(line, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m eval`."""
    from timevlm.cli import OneLineErrors

    app = OneLineErrors("python -m eval", commands={"eval": evaluation})
    app(["eval", *(sys.argv[1:] if arguments is None else arguments)], prog_name="timevlm")
