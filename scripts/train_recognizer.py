"""Train or fine-tune a recognizer on labelled clips, and score it.

    python scripts/train_recognizer.py clips/ --model movinet-a0-stream --out mine --minutes 60
    python scripts/train_recognizer.py list.csv --model recognizers/weights/world-movinet --out mine
    timevlm recognize video.mp4 --model mine

Clips lie in a folder per class, or in a CSV (path,label; path,labels with ";" between; or Charades'
id,actions). Single classes are scored by top-1 and top-5, several a clip by mAP. A run goes on
where it stood: checkpoint and log.jsonl lie in OUT/run, decoded clips in OUT/clips. The last line
printed is JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from timevlm.errors import TimeVLMError
from timevlm.training.clips import (
    ClipConfig,
    build_recognizer,
    read_clips,
    score_clips,
    train_on_clips,
)
from timevlm.training.loop import PhaseConfig


def main() -> None:
    options = _parse()
    try:
        print(json.dumps(run(options)))
    except TimeVLMError as error:
        raise SystemExit(f"error: {error}") from error


def run(options: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    data = read_clips(options.data)
    model, usage, fresh = build_recognizer(options.model, data)
    if options.size:
        usage = replace(usage, frame_size=(options.size, options.size))
    if options.fps:
        usage = replace(usage, fps=options.fps)
    usage = replace(usage, trained_on=f"{len(data.clips)} clips of {options.data.name}")
    config = ClipConfig(
        usage=usage,
        num_frames=options.frames,
        batch_size=options.batch_size,
        cache=options.out / "clips",
    )
    print(f"{len(data.clips)} clips, {len(data.labels)} classes; {len(fresh)} tensors begin fresh")
    phase = PhaseConfig(name="train", minutes=options.minutes, peak_rate=options.rate)
    train_on_clips(model, data, config, phase, options.out / "run")
    model.save_pretrained(options.out)
    usage.save(options.out)
    scores = {split: score_clips(model, data, config, split) for split in ("train", "val")}
    return {"model": options.model, "labels": data.labels, "scores": scores}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of class folders, or a CSV")
    parser.add_argument("--model", default="movinet-a0-stream", help="name, or a trained folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--frames", type=int, default=16, help="of a training clip")
    parser.add_argument("--fps", type=float, help="default: the model's")
    parser.add_argument("--size", type=int, help="side of the picture; default: the model's")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as cores")
    return parser.parse_args()


if __name__ == "__main__":
    main()
