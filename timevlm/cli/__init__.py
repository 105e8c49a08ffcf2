"""The command line: parse, call the API, print.

Results go to stdout and everything else (progress, warnings, errors) to stderr, so that `--json`
and exports can be piped. An error is one line and exit status 2; Ctrl-C is one line and 130.
Libraries that take long to import are imported inside the commands.
"""

import errno
import sys

import click

from timevlm.cli.commands import ask, caption, chat, ground, watch
from timevlm.cli.maintenance import cache, doctor
from timevlm.errors import TimeVLMError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class OneLineErrors(click.Group):
    """A group whose commands end with one line on stderr instead of a traceback."""

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
    """


for command in (ask, ground, caption, watch, chat, cache, doctor):
    app.add_command(command)


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
