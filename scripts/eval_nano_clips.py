"""Ask nano about real footage: cuts, camera, stillness, colour, light, unrelated; one JSON line.

    python scripts/eval_nano_clips.py --clips ../shared/clips

Every mistake is shown. "unrelated" are the clips' own questions, far from what nano was taught:
there its confidence should be as low as its share right.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from timevlm import TimeVLM
from timevlm.errors import TimeVLMError
from timevlm.training.evaluate_clips import (
    ClipFindings,
    evaluate_clips,
    load_clips,
    summarize_findings,
)
from timevlm.training.evaluate_tables import percent, print_tables

DEFAULT_CLIPS = Path(__file__).resolve().parent.parent / ".." / "shared" / "clips"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name or folder")
    folder = Path(os.environ.get("TIMEVLM_CLIPS_DIR", DEFAULT_CLIPS))
    parser.add_argument("--clips", type=Path, default=folder, help="folder with index.json")
    parser.add_argument("--only", nargs="+", metavar="SLUG", help="these clips alone")
    parser.add_argument("--fps", type=float, default=2.0, help="nano was trained with up to 2")
    parser.add_argument("--max-frames", type=int, default=1500)
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    args = parser.parse_args()
    started = time.perf_counter()
    findings = ClipFindings()
    try:
        clips = [c for c in load_clips(args.clips) if args.only is None or c.slug in args.only]
        vlm = TimeVLM.from_pretrained(args.model)
        with Console(stderr=True).status("watching") as status:
            steps = evaluate_clips(vlm, clips, fps=args.fps, max_frames=args.max_frames)
            for number, (clip, so_far) in enumerate(steps, start=1):
                findings = so_far
                status.update(f"{number} of {len(clips)} clips, last {clip.slug}")
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scores = summarize_findings(findings)
    print_tables((_scores(scores), _failures(findings)), markdown=args.markdown)
    report = {"model": vlm.name, "fingerprint": vlm.fingerprint, "fps": args.fps, "scores": scores}
    report |= {"lines": findings.lines, "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps(report))
    return 0


def _scores(scores: dict[str, Any]) -> Table:
    table = Table(title="real clips", title_justify="left")
    for name in ("", "score", "%", "baseline %", "mean confidence %", "count"):
        table.add_column(name, justify="right" if name else "left")
    for kind, row in scores.items():
        if "f1" in row:
            counts = f"{row['told']} told, {row['true']} true"
            table.add_row(kind, "F1 at 0.5 s", percent(row["f1"]), "-", "-", counts)
        elif "mean_iou" in row:
            cells = (percent(row["mean_iou"]), percent(row["whole_video_iou"]), "-")
            table.add_row(kind, "mean IoU", *cells, str(row["count"]))
        else:
            cells = (percent(row[name]) for name in ("accuracy", "chance", "mean_confidence"))
            table.add_row(kind, "right", *cells, str(row["count"]))
    return table


def _failures(findings: ClipFindings) -> Table:
    """What was said where it was wrong; all times of cuts and stillness."""
    table = Table(title="answers that are wrong, and all times", title_justify="left")
    for name in ("clip", "question", "right", "nano says", "confidence %"):
        table.add_column(name, overflow="fold")
    for line in findings.lines:
        if line.get("right"):
            continue
        confidence = percent(line["confidence"], 0) if "confidence" in line else ""
        cells = (line["question"], str(line["truth"]), str(line["answer"]), confidence)
        table.add_row(line["clip"], *cells)
    return table


if __name__ == "__main__":
    sys.exit(main())
