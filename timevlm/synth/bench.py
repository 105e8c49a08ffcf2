"""What a frame of each level costs to paint: `python -m timevlm.synth.bench [--device cuda]`.

Both levels paint the videos of the same seeds at 1 frame a second, eight videos a call, as a
training step does. CPU times are those of the process, so that a busy machine does not count. The
last line is JSON.
"""

import argparse
import json
import time

import torch

from timevlm.synth.render import render_frames
from timevlm.synth.world import LEVELS, frame_seconds, sample_video

_VIDEOS_A_CALL = 8


def milliseconds_per_frame(level: str, num_videos: int, size: int, device: torch.device) -> float:
    """Mean time of one frame, without the sampling of the videos."""
    specs = [sample_video(seed, level=level) for seed in range(num_videos)]
    requests = [(spec, frame_seconds(spec, 1.0)) for spec in specs]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    render_frames(requests[:2], (size, size), device)  # first calls load and tune
    _finish(device)
    start, num_frames = clock(), 0
    for first in range(0, num_videos, _VIDEOS_A_CALL):
        part = requests[first : first + _VIDEOS_A_CALL]
        num_frames += len(render_frames(part, (size, size), device))
    _finish(device)
    return 1000.0 * (clock() - start) / num_frames


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure both levels and print a line each, then their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=96, help="side of the picture in pixels")
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = torch.device(options.device)
    best = {
        level: min(
            milliseconds_per_frame(level, options.videos, options.size, device)
            for _ in range(options.repeats)
        )
        for level in LEVELS
    }
    for level, milliseconds in best.items():
        print(f"{level}: {milliseconds:.3f} ms a frame of {options.size}x{options.size}")
    ratio = best["full"] / best["basic"]
    print(json.dumps({"device": str(device), "size": options.size, **best, "ratio": ratio}))


if __name__ == "__main__":
    main()
