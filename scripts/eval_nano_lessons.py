"""Count what nano's vision tokens know, lesson by lesson; tables and one JSON line.

    python scripts/eval_nano_lessons.py --model runs/full/export --run runs/full --level full

A saved model does not hold the head that asks tokens; the folder of its training does.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from timevlm import TimeVLM
from timevlm.errors import TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.batches import BatchConfig
from timevlm.training.evaluate_lessons import lesson_counts, lesson_scores, lesson_tables
from timevlm.training.evaluate_tables import print_tables
from timevlm.training.kinds import kinds_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name or folder")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of the training that made it"
    )
    parser.add_argument("--level", default="basic", choices=list(LEVELS), help="of the world")
    parser.add_argument("--split", default="val", help="of the world")
    parser.add_argument("--videos", type=int, default=30)
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument(
        "--classes", nargs="+", metavar="LESSON", default=[], help="show these class by class"
    )
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    args = parser.parse_args()
    kinds = kinds_of(args.level)
    if unknown := sorted(set(args.classes) - kinds.lessons.keys()):
        parser.error(f"unknown lesson {unknown[0]!r}; choose from {', '.join(kinds.lessons)}")
    try:
        config = BatchConfig(
            level=args.level,
            num_videos=1,
            turns_per_video=1,
            frame_rates=(args.fps,),
            late_clock_share=0.0,
        )
        vlm = TimeVLM.from_pretrained(args.model)
        with Console(stderr=True).status("watching") as status:
            counts = lesson_counts(
                vlm,
                args.run,
                config,
                num_steps=args.videos,
                split=args.split,
                on_step=lambda step: status.update(f"{step} of {args.videos} videos"),
            )
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scores = lesson_scores(counts, kinds)
    print_tables(lesson_tables(scores, args.classes), markdown=args.markdown)
    report = {"model": vlm.name, "fingerprint": vlm.fingerprint, "level": args.level}
    report |= {"split": args.split, "videos": args.videos, "fps": args.fps, "lessons": scores}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
