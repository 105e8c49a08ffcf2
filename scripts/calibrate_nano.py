"""Fit nano's confidence on validation videos and write the temperature into its config.

    python scripts/calibrate_nano.py --videos 60
    python scripts/calibrate_nano.py --dry-run

Prints the calibration before and after, and one JSON line last. Answers do not change.
"""

import argparse
import json
import sys
import time

from rich.console import Console

from timevlm import TimeVLM
from timevlm.errors import TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.calibrate import (
    calibrate,
    model_folder,
    scores_of_videos,
    write_temperature,
)
from timevlm.training.evaluate import EvaluationConfig
from timevlm.training.evaluate_tables import calibration_table, report_console
from timevlm.training.evaluate_workers import default_processes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name of an embedded model, or folder")
    parser.add_argument("--level", default="basic", choices=list(LEVELS))
    parser.add_argument("--split", default="val", choices=["train", "val"])
    parser.add_argument("--videos", type=int, default=60, help="2 or more")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=default_processes())
    parser.add_argument("--dry-run", action="store_true", help="do not write the config")
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        folder = model_folder(args.model)
        config = EvaluationConfig(
            split=args.split, level=args.level, num_videos=args.videos, fps=args.fps
        )
        vlm = TimeVLM.from_pretrained(args.model)
        with Console(stderr=True).status("watching") as status:
            by_video = scores_of_videos(
                vlm,
                config,
                processes=args.processes,
                progress=lambda done, total: status.update(f"{done} of {total} videos"),
            )
        report = calibrate(by_video, vlm.model.config.choice_temperature)
        if not args.dry_run:
            write_temperature(folder, report["temperature"])
    except (TimeVLMError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = report_console()
    for when in ("before", "after"):
        part = report[when]
        title = (
            f"{when}: temperature {part['temperature']:.3f}, loss {part['loss']:.3f}, "
            f"expected error {100 * part['ece']:.1f} %"
        )
        console.print(calibration_table(title, part))
    console.print(f"on videos that the fit has not seen: {100 * report['held_out_ece']:.1f} %")
    report |= {"model": args.model, "written": not args.dry_run, "videos": args.videos}
    report |= {"level": args.level, "split": args.split}
    report["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
