"""Train and compare variants of nano under one budget: a table, and one JSON line last.

    python scripts/ablate_nano.py --grid compression --minutes 10 --folder runs/ablate
    python scripts/ablate_nano.py --grid mixers --cost-frames 10000

Grids: compression (25 models), mixers (3), tokens (4), pooling (2). Every model starts from the
trained vision tower, projector and embeddings of --start, with --keep-layers also from the layers
of its LLM, and trains for --minutes as nano is trained. A run that was killed goes on where it
stopped, also inside a model. Grid gates (4) trains nothing: it shuts the TransV gates of --start.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from timevlm import TimeVLM
from timevlm.errors import InputError, TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.ablate import GRIDS, AblationConfig, grid_variants, run_grid
from timevlm.training.evaluate_tables import percent, print_tables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", required=True, choices=GRIDS)
    parser.add_argument("--start", default="nano", help="model whose vision tower is used")
    parser.add_argument("--minutes", type=float, default=5.0, help="training of each variant")
    parser.add_argument(
        "--keep-layers", action="store_true", help="begin with the LLM's layers too, not TransV's"
    )
    parser.add_argument("--level", default="basic", choices=list(LEVELS), help="that of --start")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--videos", type=int, default=20, help="validation videos")
    parser.add_argument("--cost-frames", type=int, default=512, help="length of the timed video")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants alone")
    parser.add_argument("--list", action="store_true", help="print the variants' names and stop")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablate"))
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    args = parser.parse_args()
    started = time.perf_counter()
    console = Console(stderr=True)
    try:
        config = AblationConfig(
            grid=args.grid,
            minutes=args.minutes,
            keep_layers=args.keep_layers,
            level=args.level,
            peak_rate=args.rate,
            num_videos=args.videos,
            cost_frames=args.cost_frames,
        )
        start = TimeVLM.from_pretrained(args.start)
        variants = grid_variants(args.grid, start.model.config.llm)
        names = [variant.name for variant in variants]
        if args.list:
            print("\n".join(names))
            return 0
        if args.only and (unknown := set(args.only) - set(names)):
            raise InputError(f"no variant {sorted(unknown)[0]!r}; --list prints all of them")
        report = run_grid(
            start,
            config,
            args.folder,
            variants=[v for v in variants if args.only is None or v.name in args.only],
            progress=lambda name: console.print(f"training {name}"),
        )
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report["seconds"] = round(time.perf_counter() - started, 1)
    print_tables([_table(report)], markdown=args.markdown)
    print(json.dumps(report))
    return 0


def _table(report: dict[str, Any]) -> Table:
    frames = report["cost_frames"]
    title = f"{report['grid']}: {report['minutes']:g} minutes each, cost at {frames} frames"
    table = Table(title=title, title_justify="left")
    names = ("", "right %", "95 %", "mIoU %", "IoU>=0.5 %", "steps", "prefill s", "ask ms", "MB")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for name, row in report["variants"].items():
        answers = row["tables"]["questions"]["all"]["model"]
        found, cost = row["tables"]["grounding"], row["cost"]
        cells = [name, percent(answers["mean"])]
        cells.append(f"{percent(answers['low'], 0)}-{percent(answers['high'], 0)}")
        cells += [percent(found[n]["model"]["mean"]) for n in ("mIoU", "R@1 IoU>=0.5")]
        cells += [str(row["steps"]), f"{cost['prefill_seconds']:.2f}"]
        table.add_row(*cells, f"{1000 * cost['ask_seconds']:.0f}", _megabytes(cost))
    return table


def _megabytes(cost: dict[str, Any]) -> str:
    return f"{cost['memory_bytes'] / 1e6:.2f}"


if __name__ == "__main__":
    sys.exit(main())
