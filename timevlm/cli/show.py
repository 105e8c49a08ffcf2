"""Results as text for people, and the writing of results to stdout or files."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.cli.options import Output
from timevlm.errors import InputError
from timevlm.results import Answer, Caption, Span, Timings, format_timestamp

if TYPE_CHECKING:
    from rich.text import Text

Line = tuple[tuple[str, str], ...]  # (text, rich style) pieces of one line


def emit(output: Output, forms: Mapping[str, Callable[[], str]], lines: Iterable[Line]) -> None:
    """Write a result in the form that was asked for: one of `forms`, or `lines` for people."""
    if output.format != "text":
        text = forms[output.format]()
        _write(output.path, text if text.endswith("\n") else text + "\n")
    elif output.path is not None:
        _write(output.path, "".join(f"{_plain(line)}\n" for line in lines))
    else:
        print_lines(lines)


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines to stdout, in colour on a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    for line in lines:
        console.print(_styled(line), soft_wrap=True)


def answer_lines(answer: Answer) -> list[Line]:
    """An answer for people: text, confidence, evidence, plan and time split."""
    lines: list[Line] = [
        ((answer.text, "bold"), (f"  (confidence {answer.confidence:.2f})", "dim")),
    ]
    if answer.evidence:
        times = ", ".join(f"{_interval(span)} ({span.score:.2f})" for span in answer.evidence)
        lines.append((("evidence  ", "dim"), (times, "")))
    return [*lines, *plan_lines(answer.plan), timing_line(answer.timings)]


def span_lines(spans: Sequence[Span]) -> list[Line]:
    """Spans for people, one a line."""
    if not spans:
        return [(("nothing found", "bold"),)]
    return [((_interval(span), "bold"), (f"  score {span.score:.2f}", "dim")) for span in spans]


def caption_lines(captions: Sequence[Caption]) -> list[Line]:
    """Captions for people, one a line."""
    if not captions:
        return [(("nothing to describe", "bold"),)]
    return [((_interval(item), "dim"), (f"  {item.text}", "")) for item in captions]


def plan_lines(plan: Mapping[str, Any]) -> list[Line]:
    """The sampling plan in one line: what was not limited is not shown."""
    forms = {
        "start": lambda value: f"from {format_timestamp(max(0.0, value))}",
        "end": lambda value: f"to {format_timestamp(max(0.0, value))}",
        "fps": lambda value: f"{value:g} frames/s",
        "max_frames": lambda value: f"at most {value} frames",
        "resolution": lambda value: f"{value[1]}x{value[0]} pixels",
        "focus": lambda value: f"focused on {len(value)} segment{'s' * (len(value) != 1)}",
    }
    if plan.get("mode") not in (None, "auto"):
        forms["mode"] = lambda value: f"mode {value}"
    shown = [form(plan[name]) for name, form in forms.items() if plan.get(name) is not None]
    return [(("plan      ", "dim"), (", ".join(shown), ""))] if shown else []


def timing_line(timings: Timings) -> Line:
    """The time split in one line."""
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timings.to_dict().items())
    return (("time      ", "dim"), (parts, ""))


def check_output(path: Path | None, video: Path) -> None:
    """Refuse, before the work starts, an output file that cannot be written or is the video.

    Raises InputError.
    """
    if path is None:
        return
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise InputError(f"{path} cannot be written; give a file in a folder that exists")
    if path.exists() and video.exists() and os.path.samefile(path, video):
        raise InputError(f"-o {path} is the input itself; give another file")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise InputError(f"{path} cannot be written: permission denied; give another file")


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in place: whole or not at all.

    Raises InputError if the disk refuses.
    """
    try:
        if path.exists() and not path.is_file():
            write(path)  # a device or a pipe must not be replaced by a file
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            write(aside)
            os.replace(aside, path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be written: {reason}; give another file") from error


def _write(path: Path | None, text: str) -> None:
    if path is None:
        click.echo(text, nl=False)
    else:
        atomic_write(path, lambda target: target.write_text(text, encoding="utf-8"))


def _interval(item: Span | Caption) -> str:
    start, end = (format_timestamp(max(0.0, seconds)) for seconds in (item.start, item.end))
    return f"{start} - {end}"


def _plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def _styled(line: Line) -> "Text":
    from rich.text import Text

    # Text, not markup: what a model or a file name says must not be read as style.
    return Text.assemble(*line)
