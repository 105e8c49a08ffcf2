"""RRM against the plain network: frames per second at a measured error, on videos of yours.

    python scripts/bench_rrm.py --clips ../shared/clips                 # two networks, four videos
    python scripts/bench_rrm.py --clips ../shared/clips --settled       # norms settled on the video
    python scripts/bench_rrm.py --clips DIR --names a.mp4 --frames 16 --size 64   # a short try

The networks are ResNet-18 and MobileNetV3-Large with seeded random weights; both sides run the same
folded network, channels-last, in inference mode, one thread. The plain network reads frame by
frame; RRM reads chunks of `--chunk` frames and hands its state on. They take turns, chunk by chunk,
and process time is counted, so that a busy machine slows both alike: quote the ratio. Per video,
thresholds are found by `calibrate` on its first frames, which are not measured, and then follow the
error that each refresh measures (part of the time). "first repeated" is the error of an output that
never changes: what a skipping network must beat.

A last video is moved by hand: the first one, enlarged, under a window that wanders three pixels a
frame, with the first one's thresholds. There nothing can be skipped, and the question is what
looking for it costs.

Error: |RRM - plain| / |plain| of the logits, mean over frames. Asked on the first video: twice the
frames per second at an error of at most 1%; on the wandering window at most 1.1 times the plain
network's time. Prints a table and, last, one JSON line.

With `--out` every video is kept when it is measured, and the same command goes on after the last
one. `--networks mobilenet_v3_large` with the same `--out` adds that network to the file.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from _bench import MEBIBYTE, Parts, table, verdict, verdict_list
from torch import Tensor, nn

from recognizers.base import num_bytes
from recognizers.cnn import mobilenet_v3_large, resnet18, settle_batch_norm
from recognizers.rrm import RRMConfig, StreamingNetwork, calibrate, relative_errors
from timevlm.video import SamplingPlan, open_video

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet18,
    "mobilenet_v3_large": mobilenet_v3_large,
}
NAMES = ("mouse_arena.mp4", "people_one_by_one.mp4", "car_overhead.mp4", "bbb_intro.webm")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WANDERING = "wandering window"
WANDER_PIXELS = 3
MIN_SPEED_RATIO, MAX_ERROR, MAX_MOVING_RATIO = 2.0, 0.01, 1.1
COLUMNS = (
    "network",
    "video",
    "plain ms",
    "RRM ms",
    "faster",
    "error %",
    "p95 %",
    "first repeated %",
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network on one video."""

    network: str
    video: str
    config: dict[str, object]
    plain_ms: float  # process time a frame
    rrm_ms: float
    wall_ratio: float  # of the plain network's wall time to RRM's
    error: float  # mean, relative
    error_p95: float
    first_repeated: float
    error_estimate: float  # what the state says after its last refresh
    skipped: dict[str, float]  # per layer
    state_mib: float

    @property
    def speed_ratio(self) -> float:
        """How many times faster RRM is, by process time."""
        return self.plain_ms / self.rrm_ms


def read_frames(path: Path, num_frames: int, size: int, start: float) -> Tensor:
    """The first frames from `start` on, every one of them: normalised, (T, 3, size, size)."""
    plan = SamplingPlan(
        start=start or None, max_frames=num_frames, mode="fps_head", resolution=(size, size)
    )
    with open_video(path, plan) as reader:
        pixels = torch.cat([batch.pixels for batch in reader])
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels.float() / 255 - mean) / std


def wander(frames: Tensor) -> Tensor:
    """The frames enlarged by half, under a window that wanders along the diagonal and back."""
    size = frames.shape[-1]
    large = F.interpolate(frames, scale_factor=1.5, mode="bilinear")
    room = large.shape[-1] - size
    windows = []
    for index, frame in enumerate(large):
        place = index * WANDER_PIXELS % (2 * room)
        place = min(place, 2 * room - place)
        windows.append(frame[:, place : place + size, place : place + size])
    return torch.stack(windows)


def measure(
    module: nn.Module, frames: Tensor, config: RRMConfig, chunk: int, names: tuple[str, str]
) -> Measured:
    """Both sides in turns over the frames; the first chunk is not timed."""
    network = StreamingNetwork(module, config)
    state = network.init_state(1, *frames.shape[-2:])
    seconds = {"plain": [0.0, 0.0], "rrm": [0.0, 0.0]}  # process time, wall time
    expected, outputs = [], []
    for index, part in enumerate(frames.split(chunk)):
        for side in ("plain", "rrm"):
            before = time.process_time(), time.perf_counter()
            if side == "plain":
                for frame in part:
                    frame = frame[None].contiguous(memory_format=torch.channels_last)
                    expected.append(network.plain(frame))
            else:
                output, state = network.step(part[None], state, consume=True)
                outputs.append(output[0])
            after = time.process_time(), time.perf_counter()
            if index:
                for clock in (0, 1):
                    seconds[side][clock] += after[clock] - before[clock]
    timed = max(len(frames) - chunk, 1)
    plain, ours = torch.cat(expected), torch.cat(outputs)
    errors = relative_errors(ours, plain)[chunk:]
    return Measured(
        network=names[0],
        video=names[1],
        config=asdict(config),
        plain_ms=1000 * seconds["plain"][0] / timed,
        rrm_ms=1000 * seconds["rrm"][0] / timed,
        wall_ratio=seconds["plain"][1] / seconds["rrm"][1],
        error=float(errors.mean()),
        error_p95=float(errors.quantile(0.95)),
        first_repeated=float(relative_errors(plain[:1].expand_as(plain), plain)[chunk:].mean()),
        error_estimate=float(state["error"]),
        skipped={row.layer: row.share_skipped for row in network.report(state)},
        state_mib=num_bytes(state) / MEBIBYTE,
    )


def build(name: str, frames: Tensor, *, settled: bool) -> nn.Module:
    """A network of seeded weights; its batch norms settled on some 16 of the frames, if asked."""
    torch.manual_seed(0)
    module = NETWORKS[name]().eval()
    if settled:
        settle_batch_norm(module, frames[:: max(len(frames) // 16, 1)])
    return module


def split_frames(video: str, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Frames of a video for the calibration, and those that are measured."""
    total = options.calibration_frames + options.frames
    frames = read_frames(options.clips / video, total, options.size, options.start)
    if len(frames) <= options.calibration_frames + options.chunk:
        raise SystemExit(
            f"error: {video} has {len(frames)} frames from {options.start:g} s on, too few: give "
            "fewer --calibration-frames or an earlier --start"
        )
    return frames[: options.calibration_frames], frames[options.calibration_frames :]


@torch.inference_mode()
def run_video(network: str, video: str, options: argparse.Namespace) -> dict[str, object]:
    """One network on one video, its thresholds found on the first frames."""
    first, rest = split_frames(video, options)
    module = build(network, first, settled=options.settled)
    config = calibrate(module, first, target_error=options.target_error)
    if not config.exact:
        config = replace(
            config, target_error=options.target_error, refresh_every=options.refresh_every
        )
    return asdict(measure(module, rest, config, options.chunk, (network, video)))


@torch.inference_mode()
def run_wandering(
    network: str, config: dict[str, object], options: argparse.Namespace
) -> dict[str, object]:
    """One network on the first video under a wandering window, with that video's thresholds."""
    first, rest = split_frames(options.names[0], options)
    module = build(network, first, settled=options.settled)
    names = network, WANDERING
    return asdict(measure(module, wander(rest), RRMConfig(**config), options.chunk, names))


def verdicts(measured: list[Measured], first: str) -> list[dict]:
    """What was asked, beside what came out."""
    found = []
    for row in measured:
        where = f"{row.network}, {row.video}"
        if row.video == first:
            found.append(
                verdict(f"{where}: times faster", row.speed_ratio, MIN_SPEED_RATIO, at_most=False)
            )
            found.append(verdict(f"{where}: relative error", row.error, MAX_ERROR))
        elif row.video == WANDERING:
            ratio = row.rrm_ms / row.plain_ms
            found.append(verdict(f"{where}: times the plain time", ratio, MAX_MOVING_RATIO))
    return found


def report(parts: dict[str, dict], settings: dict[str, object]) -> tuple[dict, list[str]]:
    """The numbers and the page of the parts that were measured."""
    measured = sorted(
        (Measured(**part) for part in parts.values()),
        key=lambda row: list(NETWORKS).index(row.network),
    )
    rows = [
        (
            row.network,
            row.video,
            row.plain_ms,
            row.rrm_ms,
            row.speed_ratio,
            100 * row.error,
            100 * row.error_p95,
            100 * row.first_repeated,
        )
        for row in measured
    ]
    norms = "settled on the video" if settings["settled"] else "fresh"
    title = f"RRM, {settings['size']} pixels, one thread, batch norms {norms}"
    asked = verdicts(measured, str(settings["first"]))
    result = {
        "bench": "rrm",
        "results": [vars(row) | {"speed_ratio": row.speed_ratio} for row in measured],
        "verdicts": asked,
    }
    return result, [table(title, COLUMNS, rows), verdict_list(asked)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos")
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="videos in it")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--frames", type=int, default=240, help="measured frames of each video")
    parser.add_argument("--calibration-frames", type=int, default=64)
    parser.add_argument("--start", type=float, default=2.0, help="second of the first frame")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures, pixels")
    parser.add_argument("--chunk", type=int, default=8, help="frames a call")
    parser.add_argument("--target-error", type=float, default=0.008, help="for the thresholds")
    parser.add_argument("--refresh-every", type=int, default=60, help="frames")
    parser.add_argument("--out", type=Path, help="keep the JSON and the tables there, part by part")
    parser.add_argument("--settled", action="store_true", help="settle batch norms on the video")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    names = ("frames", "calibration_frames", "start", "size", "chunk", "target_error")
    settings = {name: getattr(options, name) for name in (*names, "refresh_every", "settled")}
    settings |= {"torch": torch.__version__, "first": options.names[0]}
    parts = Parts(settings, partial(report, settings=settings), options.out)
    for network in options.networks:
        for video in options.names:
            parts.measure(f"{network}, {video}", partial(run_video, network, video, options))
        config = parts.done[f"{network}, {options.names[0]}"]["config"]
        parts.measure(f"{network}, {WANDERING}", partial(run_wandering, network, config, options))
    parts.finish()


if __name__ == "__main__":
    main()
