"""Score the embedded model on held-out videos of its world: tables, and one JSON line last.

    python scripts/eval_nano.py --videos 100 --processes 2
    python scripts/eval_nano.py --level full --split compositional --rows runs/compositional.jsonl

"blind" is the same model shown no video, "whole" the whole video as the answer. Intervals by
bootstrap over videos. With --rows an interrupted run goes on where it stopped.
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
from timevlm.api import NUM_BEAMS
from timevlm.errors import TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.evaluate import EvaluationConfig, evaluate
from timevlm.training.evaluate_tables import calibration_table, print_tables, score_table
from timevlm.training.evaluate_workers import default_processes

BASELINES = {"questions": "blind", "grounding": "whole"}


def main() -> int:
    args = _parser().parse_args()
    console = Console(stderr=True)
    started = time.perf_counter()
    try:
        config = EvaluationConfig(
            split=args.split,
            level=args.level,
            num_videos=args.videos,
            seed=args.seed,
            fps=args.fps,
            per_family=args.per_family,
            queries=args.queries,
            num_beams=args.beams,
            blind=not args.no_blind,
            captions=not args.no_captions,
        )
        vlm = TimeVLM.from_pretrained(args.model)
        with console.status("watching") as status:
            report = evaluate(
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
    print(f"{_headline(report)}\n")
    print_tables(_tables(report), markdown=args.markdown)
    print(json.dumps(report))
    return 0


def _headline(report: dict[str, Any]) -> str:
    return (
        f"{report['model']} on {report['num_videos']} videos, level {report['level']}, split "
        f"{report['split']}, {report['fps']:g} frames/s, {report['seconds']:.0f} s"
    )


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    for name, scores in report["tables"].items():
        yield score_table(name, scores, baseline=BASELINES.get(name, "blind"))
    for name in ("calibration", "span_calibration"):
        if errors := report.get(name):
            title = f"{name.replace('_', ' ')}: expected error {100 * errors['ece']:.1f} %"
            yield calibration_table(title, errors)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    splits = list(dict.fromkeys(name for names in LEVELS.values() for name in names))
    parser.add_argument("--model", default="nano", help="name or folder")
    parser.add_argument("--level", default="basic", choices=list(LEVELS))
    parser.add_argument("--split", default="test", choices=splits)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first video")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--per-family", type=int, default=2, help="questions a video and family")
    parser.add_argument("--queries", type=int, default=4, help="grounding queries a video")
    parser.add_argument("--beams", type=int, default=NUM_BEAMS, help="likely answers compared")
    parser.add_argument("--no-blind", action="store_true", help="do not ask without the video")
    parser.add_argument("--no-captions", action="store_true", help="do not caption")
    parser.add_argument("--processes", type=int, default=default_processes())
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    parser.add_argument("--rows", type=Path, help="file of scores, to stop and go on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
