"""Train the embedded model `nano` on the procedural world.

    python scripts/train_nano.py --folder runs/nano --vision-minutes 8 --minutes 75

    torchrun --nproc_per_node 2 scripts/train_nano.py ...     one process a core or GPU

    python scripts/train_nano.py --start-from timevlm/weights/nano --vision-minutes 0 \
        --align-minutes 0 --minutes 100 --no-curriculum       train saved weights further

    python scripts/train_nano.py --level full --max-frames 512 --videos 24 --workers 8     one GPU

All phases follow a budget in minutes and resume from the folder after an interruption: run the
same command again. The result is written to `--out` (weights in float16, tokenizer, config).
On two cores the default budget sees about a hundred thousand questions. docs/training.md has
recipes.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from timevlm.errors import InputError, TimeVLMError
from timevlm.synth.world import LEVELS
from timevlm.training.batches import FRAME_RATES, SHORT_FRAMES, BatchConfig
from timevlm.training.checkpoint import read_part
from timevlm.training.focus import weak_kinds
from timevlm.training.loop import (
    CURRICULUM,
    PhaseConfig,
    align_phase,
    answer_phase,
    track_phase,
    training_device,
    vision_phase,
)
from timevlm.training.nano import build_nano, export_nano
from timevlm.training.tracks import TrackHead


def main() -> int:
    args = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    try:
        _check_level(args.folder / "settings.json", args.level)
        batches = BatchConfig(
            level=args.level,
            num_videos=args.videos,
            turns_per_video=args.turns,
            max_frames=args.max_frames,
            long_share=args.long_share,
            single_scene_share=args.single_scene_share,
            odd_rate_share=args.odd_rate_share,
            late_clock_share=args.late_clock_share,
            footage_share=args.footage_share,
            eventful_share=args.eventful_share,
            frame_rates=tuple(args.frame_rates),
            first_seed=args.first_seed,
            kind_weights=None if args.focus is None else weak_kinds(args.focus),
            length_power=args.length_power,
        )
        model, processor = build_nano(args.start_from, args.level)
        tracks = TrackHead(model.config.llm.hidden_size, batches.kinds)
        if args.lessons_from is not None:
            tracks.take_over(read_part(args.lessons_from / "answers", "tracks"))
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    training_device()  # processes that were started together find each other
    if PartialState().is_main_process:
        (args.folder / "settings.json").write_text(json.dumps(settings, indent=1))
    logging.info("nano has %.2fM parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    kinds = batches.kinds
    vision = _phase(args, "vision", args.vision_minutes, args.vision_rate)
    vision_phase(model, vision, args.folder, kinds, args.keep_features)
    align = _phase(args, "align", args.align_minutes, 3e-3)
    align_phase(model, processor, align, args.folder, kinds, args.keep_features)
    reading = _phase(args, "tracks", args.track_minutes, 1e-2)
    track_phase(model, processor, reading, args.folder, batches, tracks)
    answers = _phase(args, "answers", args.minutes, args.rate)
    curriculum = CURRICULUM if args.curriculum else ()
    answer_phase(model, processor, answers, args.folder, batches, curriculum, tracks)
    if PartialState().is_main_process:
        export_nano(model, processor, args.out or args.folder / "export")
        logging.info("wrote %s", args.out or args.folder / "export")
    return 0


def _check_level(path: Path, level: str) -> None:
    """Refuse to go on with a folder that another level began: its heads have other sizes."""
    begun = json.loads(path.read_text()).get("level", "basic") if path.is_file() else level
    if begun != level:
        raise InputError(
            f"{path.parent} holds a training on level {begun}, not {level}; give another --folder"
        )


def _phase(args: argparse.Namespace, name: str, minutes: float, rate: float) -> PhaseConfig:
    return PhaseConfig(
        name=name,
        minutes=minutes,
        peak_rate=rate,
        checkpoint_seconds=args.checkpoint_seconds,
        precision=args.precision,
        num_workers=args.workers,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"), help="log, checkpoints")
    parser.add_argument("--level", default="basic", choices=list(LEVELS), help="of the world")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--start-from", type=Path, help="saved model whose weights to begin with")
    parser.add_argument(
        "--lessons-from",
        type=Path,
        help="folder of the run that made --start-from: go on with its head of tracks too",
    )
    parser.add_argument(
        "--curriculum",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="begin with single scenes, which a model that has learnt to look things up can skip",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float32", "bfloat16"],
        help="of matrix products; auto: bfloat16 on a GPU",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="processes that prepare data ahead, for a GPU that would wait for it",
    )
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=120.0, help="between checkpoints"
    )
    parser.add_argument("--out", type=Path, help="result; default: export in the folder")
    _add_phase_arguments(parser)
    _add_data_arguments(parser)
    return parser


def _add_phase_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vision-minutes", type=float, default=8.0, help="first phase")
    parser.add_argument(
        "--vision-rate", type=float, default=3e-3, help="peak learning rate of the first phase"
    )
    parser.add_argument(
        "--keep-features",
        type=float,
        default=0.0,
        help="weight in the first two phases of features staying as they are, where nothing is "
        "written: for a tower and projector that an LLM was trained with",
    )
    parser.add_argument("--align-minutes", type=float, default=2.0, help="second phase")
    parser.add_argument(
        "--track-minutes",
        type=float,
        default=0.0,
        help="before the third phase, of a new head of tracks alone: for a saved model without the "
        "run that made it",
    )
    parser.add_argument("--minutes", type=float, default=75.0, help="third phase")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument(
        "--length-power",
        type=float,
        default=0.5,
        help="an answer of n tokens weighs n to this power in the loss; more of it for captions",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=4, help="videos a step and process")
    parser.add_argument("--turns", type=int, default=12, help="questions a video")
    parser.add_argument(
        "--max-frames",
        type=int,
        default=SHORT_FRAMES,
        help=f"a video; above {SHORT_FRAMES} a share of them is long, in the end up to this",
    )
    parser.add_argument(
        "--long-share", type=float, default=0.25, help="of the videos, where long ones are allowed"
    )
    parser.add_argument(
        "--single-scene-share",
        type=float,
        default=0.0,
        help="of the videos, cut down to one scene: most of the world's have a cut",
    )
    parser.add_argument(
        "--footage-share",
        type=float,
        default=0.0,
        help="of the videos of level full, that look like film and have no objects",
    )
    parser.add_argument(
        "--eventful-share",
        type=float,
        default=0.0,
        help="of the other videos of level full, drawn for colours that turn, meetings and crowds",
    )
    parser.add_argument(
        "--frame-rates",
        type=float,
        nargs="+",
        default=FRAME_RATES,
        help="frames a second, drawn evenly; one that stands twice is drawn twice as often",
    )
    parser.add_argument(
        "--odd-rate-share",
        type=float,
        default=0.0,
        help="of the videos, read at any rate from 0.4 to 2 frames/s in place of these",
    )
    parser.add_argument(
        "--late-clock-share",
        type=float,
        default=0.3,
        help="of the videos, with times from 100 s to 11 hours on: long times in short videos",
    )
    parser.add_argument(
        "--focus",
        type=Path,
        help="JSON of scripts/eval_nano.py, best on --split val: ask more of what it got wrong",
    )
    parser.add_argument("--first-seed", type=int, default=0, help="of the videos to train on")


if __name__ == "__main__":
    sys.exit(main())
