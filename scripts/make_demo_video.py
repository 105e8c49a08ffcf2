"""Write a demo video of the procedural world, held out from training, as an H.264 mp4.

    python scripts/make_demo_video.py                 # demo/demo.mp4
    python scripts/make_demo_video.py --json          # also its timeline, captions and questions

The default seed follows from a fixed rule (see `timevlm.synth.world.DEMO_SEED`), not from what any
model answers.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from timevlm.errors import TimeVLMError
from timevlm.synth.captions import make_captions
from timevlm.synth.export import write_video
from timevlm.synth.questions import make_grounding, make_questions
from timevlm.synth.world import DEMO_SEED, VideoSpec, sample_video


def describe(spec: VideoSpec, path: Path) -> dict[str, object]:
    """Everything a reader needs to check answers about the video, as JSON values."""
    captions = make_captions(spec)
    return {
        "path": str(path),
        "seed": spec.seed,
        "split": spec.split,
        "duration_seconds": spec.duration_seconds,
        "captions": [{"start": start, "end": end, "text": text} for start, end, text in captions],
        "questions": [dataclasses.asdict(q) for q in make_questions(spec, 0, per_family=4)],
        "grounding": [dataclasses.asdict(q) for q in make_grounding(spec, 0, limit=8)],
        "timeline": spec.to_dict(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=DEMO_SEED, help="seed in the demo split")
    parser.add_argument("--out", type=Path, default=Path("demo/demo.mp4"), help="file to write")
    parser.add_argument("--json", action="store_true", help="print timeline, captions, questions")
    args = parser.parse_args()
    try:
        spec = sample_video(args.seed, split="demo")
        write_video(spec, args.out)
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(describe(spec, args.out), indent=2))
    else:
        print(f"{args.out}: {spec.duration_seconds:.1f} s, {len(spec.scenes)} scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
