"""Options that several commands share, and the values they become."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from timevlm.errors import InputError
from timevlm.prefilter.names import OFF, prefilter_names
from timevlm.results import parse_time

Command = Callable[..., Any]

MEMORY_SUFFIX = ".tvm"


class TimeType(click.ParamType):
    """A time: seconds or a clock."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_time(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How a video is watched and by which model; None means the model's own default."""

    model: str = "nano"
    device: str = "auto"
    fps: float | None = None
    start: float | None = None  # seconds
    end: float | None = None  # seconds
    max_frames: int | None = None
    prefilter: str = OFF
    use_cache: bool = True
    quiet: bool = False

    @property
    def plan_flags(self) -> tuple[str, ...]:
        """The flags of the sampling options that were given."""
        names = ("fps", "start", "end", "max_frames")
        given = [name for name in names if getattr(self, name) is not None]
        given += ["prefilter"] if self.prefilter != OFF else []
        return tuple("--" + name.replace("_", "-") for name in given)


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a result goes and in which form."""

    format: str  # "text" or one of the command's export formats
    path: Path | None  # None: stdout


_WATCH_OPTIONS = (
    click.option("--model", default="nano", show_default=True, help="Model name or folder."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps."),
    click.option("--fps", type=float, help="Frames per second of video to look at."),
    click.option("--start", type=TimeType(), help="First second, as 90.5 or 1:30.5."),
    click.option("--end", type=TimeType(), help="Last second, as 90.5 or 1:30.5."),
    click.option("--max-frames", type=int, help="Most frames to look at."),
    click.option(
        "--prefilter",
        default=OFF,
        show_default=True,
        metavar="auto|off|NAME",
        help=f"Spend the frames where something happens: {', '.join(prefilter_names())}.",
    ),
    click.option("--no-cache", is_flag=True, help="Neither use nor keep cached memories."),
    click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr."),
)


def watch_options(function: Command) -> Command:
    """Add VIDEO and the options of watching; the command receives `video` and `settings`."""

    @functools.wraps(function)
    def command(video: str, no_cache: bool, **values: Any) -> Any:
        names = {item.name for item in fields(WatchSettings)} & set(values)
        given = {name: values.pop(name) for name in names}
        settings = WatchSettings(use_cache=not no_cache, **given)
        return function(video=Path(video), settings=settings, **values)

    for option in reversed(_WATCH_OPTIONS):
        command = option(command)
    return click.argument("video", metavar="VIDEO")(command)


_FORMAT_HELP = {
    "json": "Print JSON and nothing else.",
    "csv": "Export CSV.",
    "vtt": "Export WebVTT subtitles.",
    "srt": "Export SubRip subtitles.",
}


def output_options(*formats: str) -> Callable[[Command], Command]:
    """Add one flag per format and `-o`; the command receives `output`.

    Without a flag the suffix of the `-o` file decides, else the result is text for people.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(output: str | None, **values: Any) -> Any:
            chosen = [name for name in formats if values.pop(f"as_{name}")]
            if len(chosen) > 1:
                flags = " and ".join(f"--{name}" for name in chosen)
                raise click.UsageError(f"{flags} exclude each other; give one")
            path = None if output in (None, "-") else Path(output)
            suffix = path.suffix.removeprefix(".").lower() if path else ""
            if not chosen and suffix in _FORMAT_HELP and suffix not in formats:
                raise click.UsageError(
                    f"-o {path}: this command does not write {suffix}; end the file in "
                    f".{', .'.join((*formats, 'txt'))}"
                )
            form = chosen[0] if chosen else suffix if suffix in formats else "text"
            return function(output=Output(format=form, path=path), **values)

        command = click.option(
            "-o", "--output", metavar="FILE", help="Write to this file instead of stdout."
        )(command)
        for name in reversed(formats):
            flag = click.option(f"--{name}", f"as_{name}", is_flag=True, help=_FORMAT_HELP[name])
            command = flag(command)
        return command

    return decorate


class ChoicesCommand(click.Command):
    """A command whose `--choices` takes several values, `--choices red blue green`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse after `--choices A B` became `--choice A --choice B`."""
        try:
            spread = spread_choices(args)
        except click.UsageError as error:
            error.ctx = ctx  # names the command whose help explains it
            raise
        return super().parse_args(ctx, spread)


def spread_choices(args: list[str]) -> list[str]:
    """Arguments with every value after `--choices` behind its own `--choice`.

    The values of `--choices` end at the next option; negative numbers count as values. Raises
    UsageError if there is none.
    """
    spread: list[str] = []
    position = 0
    while position < len(args):
        argument = args[position]
        position += 1
        if argument == "--":
            return [*spread, "--", *args[position:]]
        if argument != "--choices" and not argument.startswith("--choices="):
            spread.append(argument)
            continue
        values = [argument.split("=", 1)[1]] if "=" in argument else []
        while position < len(args) and not _is_option(args[position]):
            values.append(args[position])
            position += 1
        if not values:
            raise click.UsageError("--choices needs values, for example --choices red green blue")
        spread += [part for value in values for part in ("--choice", value)]
    return spread


def _is_option(argument: str) -> bool:
    if not argument.startswith("-") or argument == "-":
        return False
    try:
        float(argument)
    except ValueError:
        return True
    return False
