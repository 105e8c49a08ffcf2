"""Score nano on needles and their order in videos of 32 to 10,000 frames; one JSON line last.

    python scripts/eval_nano_length.py --rows runs/length.jsonl
    python scripts/eval_nano_length.py --lengths 32 128 512 --frames 2000

With --rows an interrupted run goes on where it stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from timevlm import TimeVLM
from timevlm.errors import TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.evaluate_length import LENGTHS, LengthConfig, evaluate_lengths
from timevlm.training.evaluate_tables import print_tables, score_table
from timevlm.training.evaluate_workers import default_processes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name or folder")
    parser.add_argument("--level", default="basic", choices=list(LEVELS))
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="frames")
    parser.add_argument("--frames", type=int, default=20_000, help="frames a length, in all videos")
    parser.add_argument("--max-videos", type=int, default=40, help="videos a length, at most")
    parser.add_argument("--min-videos", type=int, default=2, help="videos a length, at least")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=default_processes())
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    parser.add_argument("--rows", type=Path, help="file of scores, to stop and go on")
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        config = LengthConfig(
            lengths=tuple(args.lengths),
            frames_per_length=args.frames,
            min_videos=args.min_videos,
            max_videos=args.max_videos,
            level=args.level,
            fps=args.fps,
        )
        vlm = TimeVLM.from_pretrained(args.model)
        with Console(stderr=True).status("watching") as status:
            report = evaluate_lengths(
                vlm,
                config,
                processes=args.processes,
                rows_file=args.rows,
                progress=lambda done, total: status.update(f"{done} of {total} videos"),
            )
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report["seconds"] = round(time.perf_counter() - started, 1)
    print_tables(_tables(report), markdown=args.markdown)
    print(json.dumps(report))
    return 0


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    """A table for each thing that is asked, and one of what it costs; a row a length."""
    by_length = report["by_length"]
    wanted = (("questions", "needle"), ("questions", "order"), ("evidence", "points right"))
    for table, family in wanted:
        found = {
            f"{length} frames": row
            for length, part in by_length.items()
            if (row := part["tables"].get(table, {}).get(family)) is not None
        }
        if found:
            name = family if table == "questions" else f"{table} {family}"
            yield score_table(f"{name}, level {report['level']}", found, baseline="blind")
    costs = Table(title="cost a video", title_justify="left")
    for name in ("frames", "videos", "render s", "watch s", "ask ms", "memory MB"):
        costs.add_column(name, justify="right")
    for length, part in by_length.items():
        cells = [length, str(part["videos"]), f"{part['render_seconds']:.1f}"]
        cells += [f"{part['watch_seconds']:.1f}", f"{1000 * part['ask_seconds']:.0f}"]
        costs.add_row(*cells, f"{part['memory_bytes'] / 1e6:.2f}")
    yield costs


if __name__ == "__main__":
    sys.exit(main())
