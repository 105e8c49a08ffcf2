"""MoViNet: sizes and operations beside the paper's, speed of the stream, memory over its length.

    python scripts/bench_movinet.py                         # tables, A0 to A2 streams, memory
    python scripts/bench_movinet.py --table                 # sizes and operations alone
    python scripts/bench_movinet.py --port ../MoViNet-pytorch    # beside a checkout of the port
    python scripts/bench_movinet.py --models a0 --size 64 --rounds 3 --frames 8 32   # a short try
    python scripts/bench_movinet.py --models a1 --jobs speed --out F   # one part; more: same --out

Speed: the streaming networks at their own resolution, one frame a step and eight, plain and folded;
with `--port` the public PyTorch port (its packages einops and fvcore installed) runs the same
weights on the same frames, its logits are compared first, and all take turns, so that a busy
machine slows each alike. Medians of the rounds. Asked: folded at least 1.5 times the port.

Memory: a stream of some frames and of many, and training through stream buffers on a clip of 16 and
of 64 frames against the whole clip at once, each in a process of its own. Asked: flat.

Prints tables and, last, one JSON line. With `--out` every part is kept when it is measured, and the
same command goes on after the last one.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _bench import (
    MEBIBYTE,
    Parts,
    PeakRSS,
    cores,
    run_child,
    table,
    verdict,
    verdict_list,
)

from recognizers.base import create, num_bytes
from recognizers.movinet import (
    ARCHITECTURES,
    PUBLISHED,
    MoViNet,
    MoViNetRecognizer,
    architecture,
    backward_through_stream,
    count,
    fused,
    published_state,
)

SIZE_COLUMNS = (
    *("model", "clip", "base M", "paper M", "ckpt MiB", "released", "base G", "paper G"),
    *("stream M", "stream G", "state MiB"),
)
SPEED_COLUMNS = {
    "model": "model",
    "size": "size",
    "frames_a_step": "a step",
    "port_ms_a_frame": "port",
    "plain_ms_a_frame": "plain",
    "folded_ms_a_frame": "folded",
    "speed_ratio": "port/folded",
    "largest_difference": "differ",
    "state_mebibytes": "state MiB",
}
MEMORY_COLUMNS = {
    "kind": "job",
    "model": "model",
    "size": "size",
    "frames": "frames",
    "peak_mebibytes": "peak",
}
JOBS = ("speed", "memory")
CHUNKS = (1, 8)
STREAM_FRAMES = (50, 2000)
TRAIN_FRAMES = (16, 64)
SUBCLIP = 8
TRAIN_SIZE = 96
MIN_SPEED_RATIO = 1.5
MAX_GROWTH_BYTES = 24 * MEBIBYTE


def size_rows() -> list[dict]:
    """Parameters, operations and state of every architecture beside the published figures."""
    rows = []
    for name in ARCHITECTURES:
        published = PUBLISHED[name]
        shape = published.num_frames, published.resolution, published.resolution
        base, stream = (count(architecture(name, stream=s), *shape) for s in (False, True))
        rows.append(
            {
                "model": name,
                "clip": f"{published.num_frames}x{published.resolution}x{published.resolution}",
                "base_megaparameters": base.parameters / 1e6,
                "paper_megaparameters": published.megaparameters,
                "base_checkpoint_mebibytes": base.checkpoint_bytes / MEBIBYTE,
                "released_checkpoint_megabytes": published.checkpoint_megabytes,
                "base_gflops": base.multiply_adds / 1e9,
                "paper_gflops": published.gflops,
                "stream_megaparameters": stream.parameters / 1e6,
                "stream_gflops": stream.multiply_adds / 1e9,
                "state_mebibytes": stream.state_bytes / MEBIBYTE,
            }
        )
    return rows


def load_port(folder: Path, model: MoViNet, name: str) -> torch.nn.Module:
    """The port's streaming network with our model's weights, in eval mode."""
    sys.path.insert(0, str(folder))
    try:
        from movinets import MoViNet as PortMoViNet
        from movinets.config import _C
    except ImportError as error:
        raise SystemExit(
            f"error: {folder} does not import ({error}): give a checkout of MoViNet-pytorch and "
            "install einops and fvcore"
        ) from error
    port = PortMoViNet(
        _C.MODEL[f"MoViNet{name.upper()}"],
        causal=True,
        conv_type="2plus1d",
        tf_like=True,
        num_classes=model.config.num_classes,
    )
    state = port.state_dict() | published_state(model, "port")
    port.load_state_dict(state)
    return port.eval()


def randomized(name: str) -> MoViNet:
    """A streaming network whose branches are switched on, or its weights would not matter."""
    torch.manual_seed(0)
    model = create(f"movinet-{name}-stream").eval()
    for block in model.blocks:
        torch.nn.init.constant_(block.scale, 0.5)
    return model


def stepper(model: MoViNetRecognizer, frames: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that feeds the frames to an ongoing stream; returns the last logits."""
    state = model.init_state(1, *frames.shape[-2:])

    def step() -> torch.Tensor:
        nonlocal state
        logits, state = model.step(frames, state)
        return logits[:, -1]

    return step


def speed_row(name: str, chunk: int, arguments: argparse.Namespace) -> dict:
    """Milliseconds a frame of every implementation, `chunk` frames a step."""
    model = randomized(name)
    size = arguments.size or PUBLISHED[name].resolution
    frames = torch.rand(1, chunk, 3, size, size)
    steps = {"plain": stepper(model, frames), "folded": stepper(fused(model), frames)}
    if arguments.port is not None:
        port = load_port(arguments.port, model, name)
        port.clean_activation_buffers()
        theirs = frames.transpose(1, 2).contiguous()
        steps["port"] = lambda: port(theirs)
    row = {"model": name, "size": size, "frames_a_step": chunk}
    with torch.inference_mode():
        first = {kind: step() for kind, step in steps.items()}
        row["largest_difference"] = max(
            float((logits - first["plain"]).abs().max()) for logits in first.values()
        )
        for kind, seconds in take_turns(steps, arguments.rounds).items():
            row[f"{kind}_ms_a_frame"] = seconds / chunk * 1e3
    if arguments.port is not None:
        row["speed_ratio"] = row["port_ms_a_frame"] / row["folded_ms_a_frame"]
    row["state_mebibytes"] = num_bytes(model.init_state(1, size, size)) / MEBIBYTE
    return row


def take_turns(steps: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict[str, float]:
    """Median seconds of each function over the rounds, called one after the other."""
    seconds = {kind: [] for kind in steps}
    for turn in range(rounds + 2):
        for kind, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= 2:  # the first two warm caches up
                seconds[kind].append(time.perf_counter() - started)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def memory_child(job: dict) -> dict:
    """Peak memory of one job, measured in this process."""
    torch.set_num_threads(job["threads"])
    name, size, num_frames = job["model"], job["size"], job["frames"]
    model = randomized(name)
    if job["kind"] == "stream":
        folded = fused(model)
        step = stepper(folded, torch.rand(1, 8, 3, size, size))
        with torch.inference_mode():
            step()
            with PeakRSS() as memory:
                for _ in range(0, num_frames, 8):
                    step()
    else:
        clip = torch.zeros(1, num_frames, 3, size, size, dtype=torch.uint8)
        length = SUBCLIP if job["kind"] == "train" else num_frames
        model.train()
        with PeakRSS() as memory:
            backward_through_stream(model, clip, torch.tensor([1]), subclip_length=length)
    return {**job, "peak_mebibytes": memory.peak / MEBIBYTE}


def memory_jobs(arguments: argparse.Namespace) -> list[dict]:
    """Streams and training, short and long, each for a process of its own."""
    name = arguments.memory_model
    size = arguments.size or PUBLISHED[name].resolution
    common = {"model": name, "threads": arguments.threads}
    train_size = min(TRAIN_SIZE, size)
    jobs = [{"kind": "stream", "frames": n, "size": size, **common} for n in arguments.frames]
    for kind in ("train", "train whole clip"):
        jobs += [{"kind": kind, "frames": n, "size": train_size, **common} for n in TRAIN_FRAMES]
    return jobs


def judge(speed: list[dict], memory: list[dict]) -> list[dict]:
    """The asks with what was measured."""
    found = [
        verdict(
            f"{row['model']} folded over the port, {row['frames_a_step']} a step",
            row.get("speed_ratio"),
            MIN_SPEED_RATIO,
            at_most=False,
        )
        for row in speed
    ]
    for kind, title in (("stream", "a longer stream"), ("train", "a longer training clip")):
        peaks = [row["peak_mebibytes"] for row in memory if row["kind"] == kind]
        growth = max(peaks) - peaks[0] if len(peaks) > 1 else None
        found.append(verdict(f"MiB that {title} adds", growth, MAX_GROWTH_BYTES / MEBIBYTE))
    return found


def report(parts: dict[str, list[dict]], threads: int) -> tuple[dict, list[str]]:
    """The numbers and the page of the parts that were measured."""
    rows = {
        job: [row for name, part in parts.items() if name.startswith(job) for row in part]
        for job in ("sizes", *JOBS)
    }
    rows["speed"].sort(key=lambda row: (row["model"], row["frames_a_step"]))
    page = [
        table(
            "Ours beside the paper's (one multiply-add counted once)",
            SIZE_COLUMNS,
            [list(row.values()) for row in rows["sizes"]],
        )
    ]
    for job, title, columns in (
        ("speed", f"Streaming, {threads} threads, milliseconds a frame", SPEED_COLUMNS),
        ("memory", "Peak memory of the process, MiB", MEMORY_COLUMNS),
    ):
        if rows[job]:
            lines = [[row.get(name) for name in columns] for row in rows[job]]
            page.append(table(title, list(columns.values()), lines))
    asked = judge(rows["speed"], rows["memory"])
    if rows["speed"] or rows["memory"]:
        page.append(verdict_list(asked))
    return {"bench": "movinet", **rows, "asked": asked}, page


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="sizes and operations alone")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="default: both")
    parser.add_argument("--models", nargs="+", choices=ARCHITECTURES, default=["a0", "a1", "a2"])
    parser.add_argument("--memory-model", choices=ARCHITECTURES, default="a0")
    parser.add_argument("--chunks", type=int, nargs="+", default=CHUNKS, help="frames a step")
    parser.add_argument("--size", type=int, help="picture side (default: each model's own)")
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--frames", type=int, nargs="+", default=STREAM_FRAMES, help="of memory")
    parser.add_argument("--out", type=Path, help="keep the JSON and the tables there, part by part")
    parser.add_argument("--port", type=Path, help="a checkout of MoViNet-pytorch")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse()
    if arguments.child:
        print(json.dumps(memory_child(arguments.child)))
        return
    torch.set_num_threads(arguments.threads)
    settings = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "size": arguments.size,
        "rounds": arguments.rounds,
        "port": arguments.port is not None,
        "memory_model": arguments.memory_model,
    }
    parts = Parts(settings, partial(report, threads=arguments.threads), arguments.out)
    parts.measure("sizes", size_rows)
    jobs = () if arguments.table else arguments.jobs
    if "speed" in jobs:
        for name in arguments.models:
            for chunk in arguments.chunks:
                parts.measure(
                    f"speed {name}, {chunk} a step",
                    lambda name=name, chunk=chunk: [speed_row(name, chunk, arguments)],
                )
    if "memory" in jobs:
        for job in memory_jobs(arguments):
            parts.measure(
                f"memory of {job['kind']}, {job['frames']} frames",
                lambda job=job: [run_child(__file__, job)],
            )
    parts.finish()


if __name__ == "__main__":
    main()
