"""Train the pre-filter's small recognizers and write what ships in recognizers/weights.

    python scripts/train_prefilter.py --minutes 3                      # all four families
    python scripts/train_prefilter.py --family minconv --minutes 30 --clips 4000

Ten minutes of one CPU core a family give usable weights; the shipped ones say in their README.md
what they were given and how they score. An interrupted run goes on where it stood (--run-dir);
log.jsonl there has a line every few steps. The last line printed is JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from recognizers.base import WEIGHTS_FOLDER
from timevlm.prefilter.names import FAMILIES, WEIGHTS_PREFIX
from timevlm.training.loop import PhaseConfig
from timevlm.training.recognizer_card import write_card
from timevlm.training.recognizers import (
    PoolConfig,
    half_copy,
    measure,
    render_pool,
    train_small,
)


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    pool = render_pool(PoolConfig(num_clips=options.clips))
    held_out = render_pool(PoolConfig(num_clips=options.test_clips, split="val"))
    print(f"rendered {options.clips} clips in {time.monotonic() - started:.0f} s", flush=True)
    report = {}
    for family in options.family or FAMILIES:
        phase = PhaseConfig(name="train", minutes=options.minutes, peak_rate=options.rate)
        run = options.run_dir / family
        model, usage = train_small(family, pool, phase, run, batch_size=options.batch_size)
        folder = options.out / f"{WEIGHTS_PREFIX}{family}"
        half_copy(model).save_pretrained(folder)
        usage.save(folder)
        numbers = measure(model, usage, held_out)
        numbers["parameters"] = sum(p.numel() for p in model.parameters())
        numbers["bytes"] = (folder / "model.safetensors").stat().st_size
        write_card(folder, family, numbers, minutes=options.minutes, clips=options.clips)
        report[family] = numbers
        print(family, json.dumps(numbers), flush=True)
    print(json.dumps({"minutes": options.minutes, "clips": options.clips, "families": report}))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each family")
    parser.add_argument("--clips", type=int, default=1500, help="rendered for training")
    parser.add_argument("--test-clips", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/prefilter"))
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
