"""Score the embedded model on held-out videos of its world: a table, and one JSON line last.

    python scripts/eval_nano.py --videos 100

"blind" is the same model shown no video (for grounding: the whole video as the answer).
"""

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from timevlm import TimeVLM
from timevlm.training.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name or folder")
    parser.add_argument("--split", default="test", choices=["val", "test"])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--fps", type=float, default=1.0)
    args = parser.parse_args()
    vlm = TimeVLM.from_pretrained(args.model)
    console = Console(stderr=True)
    started = time.perf_counter()
    with console.status("watching") as status:
        report = evaluate(
            vlm,
            split=args.split,
            num_videos=args.videos,
            fps=args.fps,
            progress=lambda done, total: status.update(f"{done} of {total} videos"),
        )
    report["seconds"] = round(time.perf_counter() - started, 1)
    Console().print(_table(report))
    print(json.dumps(report))


def _table(report: dict) -> Table:
    title = f"{report['model']} on {report['num_videos']} videos of split {report['split']}"
    table = Table(title=title)
    for name in ("family", "model %", "95 % interval", "blind %", "chance %", "count"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for family, row in sorted(report["families"].items()):
        model, blind, chance = row["model"], row["blind"], row["chance"]
        table.add_row(
            family,
            f"{100 * model['mean']:.1f}",
            f"{100 * model['low']:.1f}-{100 * model['high']:.1f}",
            "-" if blind is None else f"{100 * blind['mean']:.1f}",
            "-" if chance is None else f"{100 * chance:.1f}",
            str(model["count"]),
        )
    return table


if __name__ == "__main__":
    main()
