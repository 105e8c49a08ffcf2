"""The command that shows where something happens in a video: segments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.cli import session, show
from timevlm.cli.options import Output, TimeType, WatchSettings, output_options
from timevlm.errors import InputError
from timevlm.prefilter.names import AUTO, prefilter_names, resolve_name
from timevlm.results import format_timestamp

if TYPE_CHECKING:
    from timevlm.prefilter.scan import Scan


@click.command()
@click.argument("video", metavar="VIDEO")
@click.option(
    "--model",
    default=AUTO,
    show_default=True,
    metavar="NAME",
    help=f"{', '.join(prefilter_names())}, or the folder of a trained recognizer.",
)
@click.option("--about", metavar="TEXT", help="A question: its event counts as interesting too.")
@click.option("--fps", type=float, help="Frames per second.  [default: the recognizer's own]")
@click.option("--start", type=TimeType(), help="First second, as 90.5 or 1:30.5.")
@click.option("--end", type=TimeType(), help="Last second, as 90.5 or 1:30.5.")
@click.option("--png", metavar="FILE", help="Draw the timeline with a picture of each segment.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
@output_options("json", "csv")
def segments(
    video: str,
    model: str,
    about: str | None,
    png: str | None,
    quiet: bool,
    output: Output,
    **sampling: float | None,
) -> None:
    """List the stretches of VIDEO in which something happens.

    \b
    timevlm segments video.mp4
    timevlm segments video.mp4 --model movinet --png timeline.png
    timevlm segments video.mp4 --model novelty --json
    """
    path, picture = Path(video), None if png is None else Path(png)
    resolve_name(model)
    for target in (output.path, picture):
        show.check_output(target, path)
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--png {picture} is not a picture file name; end it in .png")
    session.silence_libraries()
    from timevlm.prefilter.scan import scan_video

    settings = WatchSettings(quiet=quiet)
    with session.watching_progress(path.name, settings) as progress:
        scan = scan_video(path, model, about=about, sampling=sampling, progress=progress)
    for line in scan.warnings:
        session.print_warning(line)
    if picture is not None:
        from timevlm.prefilter.timeline import draw_timeline

        show.atomic_write(picture, lambda target: draw_timeline(scan, target))
        session.print_note(f"timeline written to {picture}", settings)
    forms = {"json": lambda: _json(scan), "csv": lambda: _csv(scan)}
    if output.format == "text" and output.path is None:
        _print_table(scan)
    else:
        show.emit(output, forms, _lines(scan))


def _json(scan: "Scan") -> str:
    return json.dumps(scan.to_dict(), ensure_ascii=False, allow_nan=False, indent=2)


def _csv(scan: "Scan") -> str:
    rows = ["start,end,peak,score,label"]
    for item in scan.segments:
        label = next((label for label, _ in item.likely_labels()), "")
        rows.append(f"{item.start:.3f},{item.end:.3f},{item.peak:.3f},{item.score:.4f},{label}")
    return "\n".join(rows) + "\n"


def _rows(scan: "Scan") -> list[tuple[str, str, str, str, str]]:
    """A row per segment: when, how long, when most, how sure, what."""
    rows = []
    for item in scan.segments:
        start, end, peak = (format_timestamp(s) for s in (item.start, item.end, item.peak))
        what = ", ".join(f"{label} {score:.2f}" for label, score in item.likely_labels())
        seconds = f"{item.end - item.start:.1f} s"
        rows.append((f"{start} - {end}", seconds, peak, f"{item.score:.2f}", what))
    return rows


def _summary(scan: "Scan") -> str:
    watched = sum(item.end - item.start for item in scan.segments)
    total = scan.end_seconds - scan.start_seconds
    return (
        f"{scan.count_text}, {watched:.1f} of {total:.1f} s; {scan.num_frames} frames, "
        f"decode {scan.decode_seconds:.2f} s, {scan.model} {scan.recognize_seconds:.2f} s"
    )


def _lines(scan: "Scan") -> Sequence[show.Line]:
    lines: list[show.Line] = [tuple((f"{part}  ", "") for part in row) for row in _rows(scan)]
    return [*lines, ((_summary(scan), "dim"),)]


def _print_table(scan: "Scan") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns: tuple[Any, ...] = ("segment", "length", "peak", "score", "what")
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    for row in _rows(scan):
        table.add_row(*(Text(part) for part in row))
    console = Console(highlight=False)
    if scan.segments:
        console.print(table)
    console.print(Text(_summary(scan), style="dim"), soft_wrap=True)
