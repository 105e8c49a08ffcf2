"""Watching long videos with nano: seconds, peak memory, and the cost of a later question.

    python scripts/bench_watch.py                        # 1K, 2K, 5K, 10K frames
    python scripts/bench_watch.py --frames 200 400       # a short try

Frames come from memory, so that decoding is no part of it: a small pool of rendered frames of the
procedural world is handed out in turn, one per second of video, which costs the same memory at any
length. Each length is watched in a fresh process, saved, and asked about in another fresh process
that loads the memory from disk, as a second command would. The embedded weights are used where
they are present, else random ones (the cost is the same; a written answer then runs to its limit).

Peak memory is that of the whole process. Expected on 2 cores: 10K frames in at most 60 s, time
linear in the frames, peak at most 400 MB above that of 1K frames, and an answer from a saved
memory of 10K frames in at most 1 s. Prints a table and, last, one JSON line.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _bench import PeakRSS, cores, print_table, run_child, show_verdicts, verdict

FRAMES = (1000, 2000, 5000, 10000)
POOL_VIDEOS = 4
POOL_FRAMES = 16  # at most, of each video of the pool
BATCH_FRAMES = 64
QUESTION = "What color is the first shape?"
QUERY = "A circle is visible."
CHOICES = ("red", "blue", "green", "yellow")
MEGABYTE = 10**6


class CycledFrames:
    """A stream of `num_frames` frames at 1 frame/s that repeats `pool` (P, 3, H, W), uint8.

    Only the batch in hand is more than the pool: an iterable of `FrameBatch` for `TimeVLM.watch`.
    """

    def __init__(
        self, pool: torch.Tensor, num_frames: int, *, batch_size: int = BATCH_FRAMES
    ) -> None:
        self.pool = pool
        self.planned_seconds = torch.arange(num_frames, dtype=torch.float64)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[object]:
        from timevlm.video.frames import FrameBatch

        for start in range(0, len(self.planned_seconds), self.batch_size):
            seconds = self.planned_seconds[start : start + self.batch_size]
            index = torch.arange(start, start + len(seconds)) % len(self.pool)
            yield FrameBatch(self.pool[index], seconds)


def render_pool(size: tuple[int, int]) -> torch.Tensor:
    """Frames of held-out videos of the world, uint8 (P, 3, H, W)."""
    from timevlm.synth.render import render_frames
    from timevlm.synth.world import frame_seconds, sample_video

    specs = [sample_video(seed, split="test") for seed in range(POOL_VIDEOS)]
    requests = [(spec, frame_seconds(spec, 1.0)[:POOL_FRAMES]) for spec in specs]
    return render_frames(requests, size, "cpu")


def load_nano() -> tuple[object, str]:
    """(TimeVLM, "trained" or "random"): the embedded model, or one of its shape."""
    from timevlm.api import TimeVLM
    from timevlm.loading import embedded_models

    if "nano" in embedded_models():
        return TimeVLM.from_pretrained("nano", device="cpu"), "trained"
    from timevlm.training.nano import build_nano

    torch.manual_seed(0)  # the process that asks must have the weights of the one that watched
    return TimeVLM(*build_nano(), "nano"), "random"


def watch(num_frames: int, path: str) -> dict:
    """Watch, save and measure; to be called once in a process."""
    vlm, weights = load_nano()
    pool = render_pool(vlm.frame_size)
    vlm.watch(CycledFrames(pool, 2))  # loads libraries, starts threads
    with PeakRSS(0.01) as resident:
        started = time.perf_counter()
        memory = vlm.watch(CycledFrames(pool, num_frames))
        seconds = time.perf_counter() - started
    started = time.perf_counter()
    memory.save(path)
    save_seconds = time.perf_counter() - started
    return {
        "frames": num_frames,
        "weights": weights,
        "watch_seconds": seconds,
        "encode_seconds": memory.timings.encode,
        "prefill_seconds": memory.timings.prefill,
        "before_rss_mb": resident.before / MEGABYTE,
        "peak_rss_mb": resident.peak / MEGABYTE,
        "memory_mb": memory.nbytes / MEGABYTE,
        "save_seconds": save_seconds,
    }


def ask(path: str) -> dict:
    """Load a saved memory and ask it; to be called once in a process."""
    from timevlm.memory import VideoMemory

    vlm, _ = load_nano()
    started = time.perf_counter()
    memory = VideoMemory.load(path, vlm.fingerprint)
    load_seconds = time.perf_counter() - started
    with PeakRSS(0.01) as resident:
        started = time.perf_counter()
        vlm.ask(memory, QUESTION, choices=CHOICES)
        choice_seconds = time.perf_counter() - started
        started = time.perf_counter()
        vlm.ask(memory, QUESTION)
        open_seconds = time.perf_counter() - started
        started = time.perf_counter()
        vlm.ground(memory, QUERY, num_beams=1)
        greedy_seconds = time.perf_counter() - started
        started = time.perf_counter()
        vlm.ground(memory, QUERY)
        ground_seconds = time.perf_counter() - started
    return {
        "load_seconds": load_seconds,
        "ask_choices_seconds": choice_seconds,
        "ask_open_seconds": open_seconds,
        "ground_greedily_seconds": greedy_seconds,
        "ground_seconds": ground_seconds,
        "ask_peak_rss_mb": resident.peak / MEGABYTE,
    }


def child(job: dict) -> dict:
    """One job in a fresh process."""
    torch.set_num_threads(job["threads"])
    return watch(job["frames"], job["path"]) if job["do"] == "watch" else ask(job["path"])


def bench(frames: list[int], threads: int) -> list[dict]:
    """Every length, shortest first."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for num_frames in sorted(frames):
            path = str(Path(folder) / f"{num_frames}.tvm")
            job = {"threads": threads, "path": path}
            row = run_child(__file__, {**job, "do": "watch", "frames": num_frames})
            row["file_mb"] = Path(path).stat().st_size / MEGABYTE
            row.update(run_child(__file__, {**job, "do": "ask"}))
            rows.append(row)
            Path(path).unlink()
    return rows


def show(rows: list[dict]) -> None:
    """Print the tables."""
    columns = ("frames", "watch s", "encode s", "prefill s", "ms a frame", "peak RSS MB")
    print_table(
        f"watching (nano, {rows[0]['weights']} weights)",
        columns,
        [
            (
                row["frames"],
                row["watch_seconds"],
                row["encode_seconds"],
                row["prefill_seconds"],
                1000 * row["watch_seconds"] / row["frames"],
                row["peak_rss_mb"],
            )
            for row in rows
        ],
    )
    names = ("memory_mb", "file_mb", "save_seconds", "load_seconds")
    asked = {
        "ask_choices_seconds": f"ask, {len(CHOICES)} choices s",
        "ask_open_seconds": "ask, open s",
        "ground_greedily_seconds": "ground, 1 beam s",
        "ground_seconds": "ground s",
        "ask_peak_rss_mb": "ask peak RSS MB",
    }
    titles = ("frames", "memory MB", "file MB", "save s", "load s")
    print_table(
        "the saved memory",
        (*titles, *asked.values()),
        [[row["frames"], *[row[name] for name in (*names, *asked)]] for row in rows],
    )


def judge(rows: list[dict]) -> list[dict]:
    """What was asked for against what was measured, for the longest run over the shortest."""
    first, last = rows[0], rows[-1]
    growth = (last["watch_seconds"] / last["frames"]) / (first["watch_seconds"] / first["frames"])
    per_10k = last["watch_seconds"] / last["frames"] * 10_000
    slowest = max(last[key] for key in ("ask_choices_seconds", "ask_open_seconds"))
    label = f"at {last['frames']} frames"
    return [
        verdict(f"seconds for 10K frames, {label}", per_10k, 60.0),
        verdict(f"seconds per frame over those at {first['frames']} frames", growth, 1.25),
        verdict(
            f"peak RSS above {first['frames']} frames, MB, {label}",
            last["peak_rss_mb"] - first["peak_rss_mb"],
            400.0,
        ),
        verdict(
            f"load and answer the slower question, s, {label}", last["load_seconds"] + slowest, 1.0
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=list(FRAMES))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(json.loads(arguments.child))))
        return
    rows = bench(arguments.frames, arguments.threads)
    if not arguments.json:
        print(f"torch {torch.__version__}, {arguments.threads} threads on {cores()} cores")
        show(rows)
    asked = judge(rows)
    if not arguments.json:
        show_verdicts(asked)
    result = {
        "bench": "watch",
        "torch": torch.__version__,
        "cores": cores(),
        "threads": arguments.threads,
        "rows": rows,
        "asked": asked,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
