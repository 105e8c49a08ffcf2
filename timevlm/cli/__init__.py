"""The command line: parse, call the API, print.

Results go to stdout and everything else (progress, warnings, errors) to stderr, so that `--json`
and exports can be piped. An error is one line and exit status 2; Ctrl-C is one line and 130.
Libraries that take long to import are imported inside the commands.
"""

import errno
import importlib
import sys
from dataclasses import dataclass

import click

from timevlm.cli.commands import ask, caption, chat, ground, watch
from timevlm.cli.maintenance import cache, doctor
from timevlm.cli.recognize import recognize
from timevlm.cli.segments import segments
from timevlm.errors import TimeVLMError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class LazyCommand:
    """A command that is imported when it is run; its line in the help is written here."""

    module: str
    attribute: str
    short_help: str


LAZY_COMMANDS = {
    "eval": LazyCommand(
        module="eval.cli",
        attribute="evaluation",
        short_help="Score a model on a benchmark; interrupted or killed runs go on...",
    ),
    "synth": LazyCommand(
        module="timevlm.cli.synth",
        attribute="synth",
        short_help="Render ToyWorld-QA, videos with exact answers, into DIR; an...",
    ),
}


class OneLineErrors(click.Group):
    """A group whose commands end with one line on stderr instead of a traceback.

    Besides its own commands it has lazy ones, for which the help imports nothing.
    """

    lazy_commands: dict[str, LazyCommand] = {}  # noqa: RUF012 - replaced, never changed

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self.lazy_commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now if it is a lazy one; None for an unknown name."""
        lazy = self.lazy_commands.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        return getattr(importlib.import_module(lazy.module), lazy.attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing the lazy ones."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(len(name) for name in names)
        rows = []
        for name in names:
            lazy = self.lazy_commands.get(name)
            if lazy is not None:
                rows.append((name, lazy.short_help))
            elif not self.commands[name].hidden:
                rows.append((name, self.commands[name].get_short_help_str(limit)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options."""
        if not args:
            click.echo(ctx.get_help())
            ctx.exit(0)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            return _fail(ctx, error)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except TimeVLMError as error:
            click.echo(f"error: {_one_line(str(error))}", err=True)
            return ctx.exit(EXIT_ERROR)
        except click.ClickException as error:
            return _fail(ctx, error)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            return ctx.exit(EXIT_INTERRUPTED)


def _fail(ctx: click.Context, error: click.ClickException) -> list[str]:
    where = getattr(error, "ctx", None) or ctx
    # From click 8.2 on a group without a command is an error whose message is the whole help.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        click.echo(where.get_help())
        return ctx.exit(0)
    message = _one_line(error.format_message()).rstrip(".")
    click.echo(f"error: {message}; see: {where.command_path} --help", err=True)
    return ctx.exit(EXIT_ERROR)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from timevlm import __version__

        click.echo(f"timevlm {__version__}")
        ctx.exit(0)


@click.group(
    name="timevlm",
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
def app() -> None:
    """Ask, ground and caption long videos, with the seconds that each answer rests on.

    \b
    timevlm ask video.mp4 "What color is the first shape?"
    timevlm ask video.mp4 "What color is it?" --choices red green blue
    timevlm ground video.mp4 "the blue square spins"
    timevlm caption video.mp4 --srt -o video.srt
    timevlm watch video.mp4 -o video.tvm; timevlm chat video.tvm
    timevlm segments video.mp4 --png timeline.png
    """


for command in (ask, ground, caption, watch, chat, segments, recognize, cache, doctor):
    app.add_command(command)
app.lazy_commands = LAZY_COMMANDS


def main() -> None:
    """Entry point of the `timevlm` script."""
    try:
        app(prog_name="timevlm")
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        # A reader such as `head` that went away before the first byte is no failure of ours.
        if error.errno != errno.EPIPE:
            raise
        sys.exit(1)
