"""Draw a training log: losses, accuracies, learning rate.

    python scripts/plot_training.py runs/nano/log.jsonl --out runs/nano/log.png

Prints one JSON line with the last logged values, and the share of the time that went into making
the data ("render_share").
"""

import argparse
import json
import sys
from pathlib import Path

from timevlm.errors import TimeVLMError
from timevlm.training.plots import log_lines, plot_log, render_share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="log.jsonl of a training folder")
    parser.add_argument("--out", type=Path, help="PNG to write; default: beside the log")
    parser.add_argument("--title", default="", help="over the panels")
    args = parser.parse_args()
    out = args.out or args.log.with_suffix(".png")
    try:
        lines = log_lines(args.log)
        plot_log(lines, out, title=args.title)
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {"out": str(out), "lines": len(lines), "last": lines[-1]}
    print(json.dumps(report | {"render_share": render_share(lines)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
