"""The command that makes the world's benchmark: synth."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from timevlm.cli.session import silence_libraries


@click.command()
@click.option("--split", default="test", show_default=True, help="train, val, test, ...")
@click.option("--n", "num_videos", default=200, show_default=True, help="How many videos.")
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--level", default="full", show_default=True, help="basic or full.")
@click.option("--size", default=384, show_default=True, help="Side of the picture in pixels.")
@click.option("--fps", default=25, show_default=True, help="Frames per second of the files.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first video.")
def synth(
    split: str,
    num_videos: int,
    folder: Path,
    level: str,
    size: int,
    fps: int,
    seed: int,
) -> None:
    """Render ToyWorld-QA, videos with exact answers, into DIR; an interrupted run goes on.

    \b
    timevlm synth --split test --n 200 --out toyworld
    timevlm synth --split compositional --n 200 --out toyworld-new-triples
    timevlm synth --level basic --split test --n 100 --size 96 --out toyworld-basic
    """
    silence_libraries()
    from timevlm.synth.benchmark import BenchmarkConfig, write_benchmark

    config = BenchmarkConfig(
        split=split, num_videos=num_videos, level=level, size=size, fps=fps, seed=seed
    )
    with _progress() as progress:
        annotations = write_benchmark(folder, config, progress=progress)
    videos = annotations["videos"]
    counts = {key: sum(len(v[key]) for v in videos) for key in ("questions", "grounding")}
    seconds = sum(video["duration"] for video in videos)
    click.echo(
        f"{annotations['version']}: {len(videos)} videos of split {split} ({seconds / 60:.1f} "
        f"min), {counts['questions']} questions and {counts['grounding']} sentences to ground, "
        f"in {folder}"
    )


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr as a callback (videos done, videos in all); None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("render", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
