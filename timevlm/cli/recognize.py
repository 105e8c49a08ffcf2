"""The command that runs a recognizer over a video and prints its classes as it goes: recognize."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.cli import session, show
from timevlm.cli.options import Output, TimeType, WatchSettings, output_options
from timevlm.errors import InputError
from timevlm.results import format_timestamp

if TYPE_CHECKING:
    from timevlm.prefilter.running import Recognition

NUM_CLASSES = 5


@click.command()
@click.argument("video", metavar="VIDEO")
@click.option(
    "--model",
    default="movinet-a0-stream",
    show_default=True,
    metavar="NAME",
    help="A recognizer's name, a name in recognizers/weights, or a trained folder.",
)
@click.option("--weights", metavar="FILE", help="Weights of the published releases, or a folder.")
@click.option("--labels", metavar="FILE", help="Class names, one a line.")
@click.option("--fps", type=float, help="Frames per second.  [default: the recognizer's own]")
@click.option("--size", type=int, help="Side of the picture in pixels, likewise.")
@click.option("--start", type=TimeType(), help="First second, as 90.5 or 1:30.5.")
@click.option("--end", type=TimeType(), help="Last second, as 90.5 or 1:30.5.")
@click.option("--every", type=float, default=1.0, show_default=True, help="Seconds between lines.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
@output_options("json")
def recognize(
    video: str,
    model: str,
    weights: str | None,
    labels: str | None,
    every: float,
    output: Output,
    **options: Any,
) -> None:
    """Name what happens in VIDEO: the five likeliest classes so far, again and again.

    \b
    timevlm recognize video.mp4 --model world-movinet
    timevlm recognize video.mp4 --model movinet-a0-stream --weights a0.pt --labels k600.txt
    """
    path = Path(video)
    show.check_output(output.path, path)
    if not every > 0:
        raise InputError(f"--every {every:g} is no step; give seconds above 0")
    session.silence_libraries()
    from timevlm.prefilter.running import load_recognizer, recognize_video

    quiet = options.pop("quiet")
    sampling = {name: options[name] for name in ("fps", "start", "end", "size")}
    recognizer = load_recognizer(model, weights=weights, labels=labels)
    for line in recognizer.notes:
        session.print_note(f"note: {line}", WatchSettings(quiet=quiet))
    found = recognize_video(path, recognizer, every=every, top=NUM_CLASSES, sampling=sampling)
    if output.format == "json":
        show.emit(output, {"json": lambda: _json(path, model, list(found))}, ())
    elif output.path is not None:
        show.emit(output, {}, _lines(found))
    else:
        for line in _lines(found):
            show.print_lines([line])


def _lines(found: Iterable["Recognition"]) -> Iterator[show.Line]:
    for item in found:
        classes = ", ".join(f"{label} {score:.2f}" for label, score in item.classes)
        yield ((format_timestamp(max(0.0, item.seconds)), "bold"), (f"  {classes}", ""))


def _json(path: Path, model: str, found: list["Recognition"]) -> str:
    record = {
        "video": str(path),
        "model": model,
        "times": [item.to_dict() for item in found],
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2)
