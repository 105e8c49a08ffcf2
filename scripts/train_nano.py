"""Train the embedded model `nano` on the procedural world.

    python scripts/train_nano.py --folder runs/nano --vision-minutes 8 --minutes 75

    torchrun --nproc_per_node 2 scripts/train_nano.py ...     one process a core or GPU

    python scripts/train_nano.py --start-from timevlm/weights/nano --vision-minutes 0 \
        --align-minutes 0 --minutes 100 --no-curriculum       train saved weights further

All phases follow a budget in minutes and resume from the folder after an interruption: run the
same command again. The result is written to `--out` (weights in float16, tokenizer, config).
On two cores the default budget sees about a hundred thousand questions.
"""

import argparse
import json
import logging
from pathlib import Path

import torch
from accelerate import PartialState

from timevlm.training.batches import BatchConfig
from timevlm.training.loop import CURRICULUM, PhaseConfig, align_phase, answer_phase, vision_phase
from timevlm.training.nano import build_nano, export_nano


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"), help="log, checkpoints")
    parser.add_argument("--vision-minutes", type=float, default=8.0, help="first phase")
    parser.add_argument("--align-minutes", type=float, default=2.0, help="second phase")
    parser.add_argument("--minutes", type=float, default=75.0, help="third phase")
    parser.add_argument("--videos", type=int, default=4, help="videos a step and process")
    parser.add_argument("--turns", type=int, default=12, help="questions a video")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--start-from", type=Path, help="saved model whose weights to begin with")
    parser.add_argument(
        "--curriculum",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="begin with single scenes, which a model that has learnt to look things up can skip",
    )
    parser.add_argument("--first-seed", type=int, default=0, help="of the videos to train on")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/export"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    (args.folder / "settings.json").write_text(json.dumps(settings, indent=1))
    model, processor = build_nano(args.start_from)
    logging.info("nano has %.2fM parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    vision = PhaseConfig(name="vision", minutes=args.vision_minutes, peak_rate=3e-3)
    vision_phase(model, vision, args.folder)
    align = PhaseConfig(name="align", minutes=args.align_minutes, peak_rate=3e-3)
    align_phase(model, processor, align, args.folder)
    answers = PhaseConfig(name="answers", minutes=args.minutes, peak_rate=args.rate)
    batches = BatchConfig(
        num_videos=args.videos, turns_per_video=args.turns, first_seed=args.first_seed
    )
    curriculum = CURRICULUM if args.curriculum else ()
    answer_phase(model, processor, answers, args.folder, batches, curriculum)
    if PartialState().is_main_process:
        export_nano(model, processor, args.out)
        logging.info("wrote %s", args.out)


if __name__ == "__main__":
    main()
