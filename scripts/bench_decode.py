"""How fast sparse frames come out of a long video, against an ffmpeg pipe and a plain PyAV loop.

    python scripts/bench_decode.py                # one hour, both key-frame intervals
    python scripts/bench_decode.py --minutes 3    # a short try

Makes a 640x360, 25 fps H.264 file (B-frames, a moving texture, the frame number painted as a strip
of black and white blocks), once per key-frame interval, and asks every reader for frames of 224x224
at 1 frame/s and at 1 frame in 4 s. A reader's numbers count only if every frame is the one asked
for, which is read from the picture. A sampled video needs only part of its frames decoded, so the
expectation on 2 cores is at most 0.5x the pipe's wall time at 1 frame/s and 0.45x at 1 in 4 s.
Prints a table and, last, one JSON line.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from timevlm.video import SamplingPlan, open_video

WIDTH, HEIGHT, FPS = 640, 360, 25
SIZE = 224
BLOCK = 32  # 20 blocks fill the width: 17 bits of number, 3 of check
BITS = WIDTH // BLOCK
CYCLE = 250  # frames after which the background repeats
WORKERS = 2


@dataclass(frozen=True)
class Row:
    """One measurement."""

    reader: str
    keyframe_interval: int
    seconds_per_frame: int
    wall_seconds: float
    cpu_seconds: float
    num_frames: int
    exact: bool


def strip_bits(numbers: np.ndarray) -> np.ndarray:
    """bool (N, BITS): the painted code of each frame number."""
    code = numbers.astype(np.int64) * 8 + numbers % 7
    return (code[:, None] >> np.arange(BITS - 1, -1, -1)) & 1 == 1


def backgrounds() -> list[np.ndarray]:
    """CYCLE pictures, yuv420p as uint8 (HEIGHT * 3 / 2, WIDTH): texture panning under moving
    patches."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (HEIGHT // 20, 2 * WIDTH // 20), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((20, 20), np.uint8)).astype(np.int16)
    texture += rng.integers(-12, 13, texture.shape, dtype=np.int16)
    texture = np.concatenate([texture, texture], axis=1).clip(16, 235).astype(np.uint8)
    color = np.kron(coarse[:9, :32], np.ones((20, 10), np.uint8))
    pictures = []
    for number in range(CYCLE):
        pan = 2 * number
        luma = texture[:, pan : pan + WIDTH].copy()
        for patch in range(6):
            top = int(150 + 130 * np.sin(0.05 * number + patch))
            left = (37 * patch + (3 + patch) * number) % (WIDTH - 60)
            luma[top : top + 60, left : left + 60] = 30 + 35 * patch
        planes = [color, np.roll(color, number // 2, axis=1)]
        chroma = np.stack([p[: HEIGHT // 2, : WIDTH // 2] // 4 + 96 for p in planes])
        pictures.append(np.concatenate([luma, chroma.reshape(-1, WIDTH)]))
    return pictures


def make_file(folder: Path, minutes: float, interval: int) -> Path:
    """The test file, encoded unless it is there already."""
    path = folder / f"timevlm-bench-{minutes:g}min-g{interval}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    pictures = backgrounds()
    options = {
        "preset": "veryfast",
        "crf": "27",
        "bf": "3",
        "x264-params": f"keyint={interval}:min-keyint={interval}:scenecut=0",
    }
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(round(minutes * 60 * FPS)):
            picture = pictures[number % CYCLE].copy()
            bits = np.where(strip_bits(np.asarray([number]))[0], 220, 30).astype(np.uint8)
            picture[:BLOCK] = np.repeat(bits, BLOCK)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.rename(path)
    return path


def is_exact(strips: list[np.ndarray], minutes: float, seconds_per_frame: int) -> bool:
    """Whether the strips, uint8 (rows, SIZE, 3) each, show exactly the frames asked for."""
    numbers = np.arange(0, round(minutes * 60 * FPS), seconds_per_frame * FPS)
    # A pipe may add the frame at its very end; what was asked for comes before it.
    if not numbers.size <= len(strips) <= numbers.size + 1:
        return False
    gray = np.stack(strips[: numbers.size]).astype(np.float32).mean(axis=(1, 3))
    centres = ((np.arange(BITS) + 0.5) * SIZE / BITS).astype(int)
    return bool(np.array_equal(gray[:, centres] > 125, strip_bits(numbers)))


def strip_of(picture: np.ndarray) -> np.ndarray:
    """The middle of the painted strip of an (SIZE, SIZE, 3) picture."""
    strip_height = BLOCK * SIZE // HEIGHT
    return picture[strip_height // 4 : strip_height * 3 // 4].copy()


def with_timevlm(path: Path, seconds_per_frame: int) -> list[np.ndarray]:
    """This project's reader."""
    plan = SamplingPlan(fps=1 / seconds_per_frame, resolution=(SIZE, SIZE))
    strips = []
    with open_video(path, plan, workers=WORKERS) as reader:
        for batch in reader:
            strips += [strip_of(p) for p in batch.pixels.permute(0, 2, 3, 1).numpy()]
    return strips


def with_pipe(path: Path, seconds_per_frame: int) -> list[np.ndarray]:
    """The ffmpeg program: decode all, thin and scale, raw RGB over a pipe."""
    # Rounding up makes output n the last frame at or before its time, as the other readers are
    # asked.
    filters = f"fps=1/{seconds_per_frame}:round=up,scale={SIZE}:{SIZE}"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-an", "-vf", filters]
    command += ["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    strips = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while len(data := process.stdout.read(SIZE * SIZE * 3)) == SIZE * SIZE * 3:
            strips.append(strip_of(np.frombuffer(data, np.uint8).reshape(SIZE, SIZE, 3)))
    return strips


def with_pyav_loop(path: Path, seconds_per_frame: int) -> list[np.ndarray]:
    """The loop most programs hold: decode every frame with FFmpeg's own threads, keep some."""
    strips = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = Fraction(seconds_per_frame)
        wanted = Fraction(0)
        for frame in container.decode(stream):
            if frame.pts * stream.time_base >= wanted:
                rgb = frame.to_ndarray(width=SIZE, height=SIZE, format="rgb24")
                strips.append(strip_of(rgb))
                wanted += step
    return strips


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(
    name: str,
    read: Callable[[Path, int], list[np.ndarray]],
    path: Path,
    case: tuple[float, int, int],
) -> Row:
    """Run one reader once."""
    minutes, interval, seconds_per_frame = case
    wall, cpu = time.perf_counter(), cpu_seconds()
    strips = read(path, seconds_per_frame)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    exact = is_exact(strips, minutes, seconds_per_frame)
    return Row(name, interval, seconds_per_frame, wall, cpu, len(strips), exact)


def ratios(rows: list[Row]) -> dict[str, float]:
    """This project's wall time over each other reader's, by case."""
    found = {}
    walls = {(r.reader, r.keyframe_interval, r.seconds_per_frame): r.wall_seconds for r in rows}
    for (name, interval, step), wall in walls.items():
        if name != "timevlm":
            ours = walls["timevlm", interval, step]
            found[f"g{interval}, 1 per {step} s, over {name}"] = round(ours / wall, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the video")
    parser.add_argument(
        "--keyframe-interval", type=int, nargs="+", default=[250, 50], help="in frames"
    )
    parser.add_argument(
        "--work-dir", type=Path, default=Path(tempfile.gettempdir()), help="keeps the test files"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    readers = {"timevlm": with_timevlm, "ffmpeg pipe": with_pipe, "pyav loop": with_pyav_loop}
    if shutil.which("ffmpeg") is None:
        print("no ffmpeg program on the path: its pipe is left out")
        del readers["ffmpeg pipe"]
    rows = []
    print(f"{'reader':<12} {'key every':>9} {'1 frame per':>11} {'wall s':>8} {'CPU s':>8}  exact")
    for interval in arguments.keyframe_interval:
        path = make_file(arguments.work_dir, arguments.minutes, interval)
        path.read_bytes()  # every reader finds the file in memory
        for seconds_per_frame in (1, 4):
            for name, read in readers.items():
                case = (arguments.minutes, interval, seconds_per_frame)
                row = measure(name, read, path, case)
                rows.append(row)
                print(
                    f"{name:<12} {interval:>9} {seconds_per_frame:>9} s {row.wall_seconds:>8.2f} "
                    f"{row.cpu_seconds:>8.2f}  {'yes' if row.exact else 'NO'}",
                    flush=True,
                )
    result = {
        "bench": "decode",
        "minutes": arguments.minutes,
        "cores": len(os.sched_getaffinity(0)),
        "workers": WORKERS,
        "rows": [asdict(row) for row in rows],
        "wall_ratio": ratios(rows),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
