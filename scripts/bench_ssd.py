"""The `torch` SSD scan against the no-kernel scan of the installed transformers.

    python scripts/bench_ssd.py                          # nano's mixer, 1K .. 160K tokens
    python scripts/bench_ssd.py --shape nemotron-9b --tokens 1024 4096
    python scripts/bench_ssd.py --shape all

Both get the same x, dt (after softplus), A, B, C, D and a zero state. First they are checked to
give the same result; then every (path, length) runs in a fresh process of its own. Seconds are the
best of several runs after the first. Extra memory is that of the first run: the peak of resident
memory over what was resident before it (libraries warmed up on a toy shape, inputs in place),
less the bytes of the output; see `_bench.PeakRSS` for how the peak is found. A path that would
go, or goes, over `--max-gib` or `--max-seconds` is skipped with the reason.

transformers up to 5.15 multiplied whole broadcast tensors and summed; from 5.19 on (perhaps
earlier) the same scan is written with einsum, which is many times faster and leaner. To compare
with an older one, put it first: PYTHONPATH=/folder/with/transformers python scripts/bench_ssd.py

Expectation at 16K tokens: at least 25x the speed, at most 1/20 of the extra memory. Prints a table
per shape and, last, one JSON line.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from _bench import (
    GIBIBYTE,
    MEBIBYTE,
    PeakRSS,
    cores,
    print_table,
    run_child,
    show_verdicts,
    verdict,
)
from torch import Tensor

TOKENS = (1024, 4096, 16384, 65536, 163840)
CHECKED_TOKENS = 1000  # with a last chunk that is not full
SPEED_ASKED, MEMORY_ASKED, TOKENS_ASKED = 25.0, 1 / 20, 16384
MAX_RUNS = 5
ENOUGH_SECONDS = 4.0  # of timed runs of one measurement


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Mamba-2 mixer's scan."""

    heads: int
    head_dim: int
    state_size: int
    groups: int
    chunk_size: int


SHAPES = {
    "nano": Shape(heads=8, head_dim=32, state_size=64, groups=1, chunk_size=64),
    "peer": Shape(heads=8, head_dim=64, state_size=128, groups=8, chunk_size=256),  # 5M hybrid
    "nemotron-9b": Shape(heads=128, head_dim=80, state_size=128, groups=8, chunk_size=128),
}


def make_inputs(shape: Shape, num_tokens: int) -> dict[str, Tensor]:
    """Operands of the scan as a mixer makes them: A in -[1, 16], steps around 0.05."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    return {
        "x": normal(1, num_tokens, shape.heads, shape.head_dim),
        "dt": F.softplus(normal(1, num_tokens, shape.heads).sub_(3.0)),
        "A": -1.0 - 15.0 * torch.rand(shape.heads, generator=generator),
        "B": normal(1, num_tokens, shape.groups, shape.state_size),
        "C": normal(1, num_tokens, shape.groups, shape.state_size),
        "D": torch.ones(shape.heads),
        "state": torch.zeros(1, shape.heads, shape.head_dim, shape.state_size),
    }


def make_path(name: str, chunk_size: int) -> Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]:
    """The scan called `name`: inputs -> (y, state)."""
    if name == "timevlm":
        from timevlm.llm.ssd import ssd_torch

        return lambda inputs: ssd_torch(**inputs, chunk_size=chunk_size)
    from transformers.models.nemotron_h import modeling_nemotron_h

    def scan(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return modeling_nemotron_h.mamba2_chunk_scan(
            *(inputs[letter] for letter in ("x", "dt", "A", "B", "C")),
            chunk_size,
            D=inputs["D"],
            initial_states=inputs["state"],
            return_final_states=True,
        )

    return scan


@torch.inference_mode()
def check_equal(shape: Shape) -> dict[str, float]:
    """Largest difference of output and state between the two paths, and the largest output."""
    inputs = make_inputs(shape, CHECKED_TOKENS)
    ours, theirs = (make_path(n, shape.chunk_size)(inputs) for n in ("timevlm", "transformers"))
    return {
        "output_difference": float((ours[0] - theirs[0]).abs().max()),
        "state_difference": float((ours[1] - theirs[1]).abs().max()),
        "largest_output": float(theirs[0].abs().max()),
    }


@torch.inference_mode()
def measure(name: str, shape: Shape, num_tokens: int) -> dict[str, float]:
    """Seconds and extra bytes of one path; to be called once in a process."""
    toy = Shape(heads=2, head_dim=4, state_size=4, groups=1, chunk_size=4)
    make_path(name, toy.chunk_size)(make_inputs(toy, 10))  # loads libraries, starts threads
    inputs = make_inputs(shape, num_tokens)
    scan = make_path(name, shape.chunk_size)
    with PeakRSS() as memory:
        started = time.perf_counter()
        output, _ = scan(inputs)
        first = time.perf_counter() - started
    extra = memory.peak - memory.before - output.numel() * output.element_size()
    del output
    times = [first]
    while len(times) <= MAX_RUNS and sum(times) < ENOUGH_SECONDS:
        started = time.perf_counter()
        scan(inputs)
        times.append(time.perf_counter() - started)
    return {"seconds": min(times[1:] or times), "extra_bytes": max(extra, 0)}


def child(job: dict) -> dict[str, float]:
    """One job in a fresh process."""
    torch.set_num_threads(job["threads"])
    shape = Shape(**job["shape"])
    if job["path"] == "check":
        return check_equal(shape)
    return measure(job["path"], shape, job["tokens"])


def over_budget(last: dict | None, num_tokens: int, arguments: argparse.Namespace) -> str | None:
    """Why a longer run should not be tried, judged by the last one at (at least) linear growth."""
    if last is None:
        return None
    if "skipped" in last:
        return last["skipped"]
    growth = num_tokens / last["tokens"]
    gib = growth * last["extra_bytes"] / GIBIBYTE
    if gib > arguments.max_gib:
        return f"would need {gib:.0f} GiB"
    seconds = growth * last["seconds"]
    if seconds > arguments.max_seconds:
        return f"would take {seconds:.0f} s"
    return None


def bench_shape(name: str, arguments: argparse.Namespace) -> dict:
    """Check and measure one shape; print its table; return its part of the JSON line."""
    shape = SHAPES[name]
    base = {"threads": arguments.threads, "shape": asdict(shape)}
    same = run_child(__file__, {**base, "path": "check"})
    tolerance = 1e-4 * max(1.0, same["largest_output"])
    if max(same["output_difference"], same["state_difference"]) > tolerance:
        raise SystemExit(f"error: the two paths differ on shape {name}: {same}")
    rows = []
    last: dict[str, dict] = {}
    for num_tokens in sorted(arguments.tokens):
        row: dict = {"tokens": num_tokens}
        for path in ("timevlm", "transformers"):
            reason = over_budget(last.get(path), num_tokens, arguments)
            job = {**base, "path": path, "tokens": num_tokens}
            result = (
                {"skipped": reason}
                if reason
                else run_child(
                    __file__,
                    job,
                    max_bytes=int(arguments.max_gib * GIBIBYTE),
                    max_seconds=arguments.max_seconds + 30.0,  # to start and make the inputs
                )
            )
            last[path] = row[path] = {"tokens": num_tokens, **result}
        ours, theirs = row["timevlm"], row["transformers"]
        if "seconds" in ours and "seconds" in theirs:
            row["speed_ratio"] = theirs["seconds"] / ours["seconds"]
            row["memory_ratio"] = ours["extra_bytes"] / max(theirs["extra_bytes"], 1)
        rows.append(row)
    show(name, shape, rows, same)
    return {"shape": name, "sizes": asdict(shape), "equal": same, "rows": rows}


def show(name: str, shape: Shape, rows: list[dict], same: dict[str, float]) -> None:
    """Print one shape's table."""
    lines = []
    for row in rows:
        for path in ("timevlm", "transformers"):
            result = row[path]
            if "skipped" in result:
                lines.append((row["tokens"], path, f"skipped: {result['skipped']}", *[None] * 4))
                continue
            speed = row.get("speed_ratio") if path == "timevlm" else None
            memory = row.get("memory_ratio") if path == "timevlm" else None
            rate = row["tokens"] / result["seconds"]
            mib = result["extra_bytes"] / MEBIBYTE
            lines.append((row["tokens"], path, result["seconds"], rate, mib, speed, memory))
    sizes = ", ".join(f"{key} {value}" for key, value in asdict(shape).items())
    columns = (
        "tokens",
        "path",
        "seconds",
        "tokens/s",
        "extra MiB",
        "times the speed",
        "of the memory",
    )
    print_table(f"{name}: {sizes}", columns, lines)
    print(
        f"largest difference over {CHECKED_TOKENS} tokens: output {same['output_difference']:.1e} "
        f"(of {same['largest_output']:.0f}), state {same['state_difference']:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="nano")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--max-gib", type=float, default=12.0, help="memory budget of a run")
    parser.add_argument("--max-seconds", type=float, default=120.0, help="time budget of a run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(json.loads(arguments.child))))
        return
    import transformers

    names = list(SHAPES) if arguments.shape == "all" else [arguments.shape]
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{arguments.threads} threads on {cores()} cores"
    )
    shapes = [bench_shape(name, arguments) for name in names]
    asked = []
    for part in shapes:
        at = next((r for r in part["rows"] if r["tokens"] == TOKENS_ASKED), {})
        label = f"{part['shape']} at 16K tokens"
        speed, memory = at.get("speed_ratio"), at.get("memory_ratio")
        asked += [
            verdict(f"{label}, times the speed", speed, SPEED_ASKED, at_most=False),
            verdict(f"{label}, of the extra memory", memory, MEMORY_ASKED),
        ]
    show_verdicts(asked)
    result = {
        "bench": "ssd",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cores": cores(),
        "threads": arguments.threads,
        "shapes": shapes,
        "asked": asked,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
