"""Training steps of MinConv networks against ConvLSTM, ConvGRU and the published log-domain scan.

    python scripts/bench_minconv.py                             # T = 16, 64, 256 on the CPU
    python scripts/bench_minconv.py --published minconvrnns     # and a checkout of their code
    python scripts/bench_minconv.py --device cuda

A step is forward, mean squared error and backward of a forecaster under teacher forcing: batch 8,
32 x 32 pixels, two layers of 16 channels, the same encoder, residual, norm and decoder around every
cell. Rows:

    minconv*          our cells with the fast scan
    minconv* log      the same networks with the published formula (logcumsumexp), run as it is
                      published: the whole sequence at once, channels first
    conv*             our baselines: one convolution after the other, as published
    published ...     modules of the checkout at --published (github.com/AdaptiveAILab/minconvrnns,
                      MIT; its hydra is not needed), with its LayerNorm over the pixels

First the fast and the log scan are checked to give the same loss and gradients. Every measurement
runs in a fresh process: seconds are the best of several steps after one at T = 2 (CUDA: after one
more at full length); extra memory is the peak of resident memory over what was resident before the
first step at full length. CPU seconds are those of all threads, and on a busy machine steadier
than wall seconds. Over `--max-seconds` a row is skipped with the reason.

Expectation on a CPU at T = 64 and 256, for the slowest MinConv cell: at least 2x the speed of
ConvLSTM and 10x that of the log form of the same cell (with --published: of the published cell).
On a GPU: at least 5x ConvLSTM at T = 64, and faster than the log form. Prints a table per T and,
last, one JSON line. With `--out` every row is kept when it is measured, and the same command goes
on after the last one; `--steps` and `--rows` choose parts for one file.
"""

import argparse
import importlib
import json
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _bench import (
    GIBIBYTE,
    MEBIBYTE,
    Parts,
    PeakRSS,
    cores,
    run_child,
    table,
    verdict,
    verdict_list,
)
from torch import Tensor, nn

from recognizers import convrnn, forecast
from recognizers.forecast import ForecastConfig, ForecastNetwork

LENGTHS = (16, 64, 256)
MINCONV = ("minconvlstm", "minconvgru", "minconvexplstm")
BASELINES = ("convlstm", "convgru")
PUBLISHED_CLASSES = {
    "minconvlstm": "MinConvLSTM",
    "minconvgru": "MinConvGRU",
    "minconvexplstm": "MinConvExpLSTM",
    "convlstm": "ConvLSTM",
    "convgru": "ConvGRU",
}
ASKED_LENGTHS = (64, 256)
MIN_RUNS, MAX_RUNS = 3, 5
ENOUGH_SECONDS = 6.0  # of timed runs of one measurement


def make_network(row: str, job: dict) -> nn.Module:
    """The forecaster of a row: "minconvgru", "minconvgru log" or "published minconvgru"."""
    torch.manual_seed(0)
    if row.startswith("published "):
        return published_network(row.removeprefix("published "), job)
    cell, _, scan = row.partition(" ")
    if scan == "log":  # as published: no blocks of time steps, channels first
        convrnn.BLOCK_ELEMENTS = sys.maxsize
        forecast.to_frames = lambda x: x.flatten(0, 1)
    config = ForecastConfig(
        cell=cell,
        scan=scan or "fast",
        hidden_channels=job["channels"],
        num_layers=job["layers"],
        padding="zeros",
    )
    return ForecastNetwork(config)


def published_network(cell: str, job: dict) -> nn.Module:
    """A network of the published code; what it wants of hydra is one call, given here."""
    folder = Path(job["published"]) / "src" / "mcrnn"
    if not (folder / "models" / cell).is_dir():
        raise SystemExit(f"error: no models/{cell} in {folder}: give a checkout of minconvrnns")
    hydra = types.ModuleType("hydra")
    hydra.utils = types.SimpleNamespace(instantiate=nn.LayerNorm)
    omegaconf = types.ModuleType("omegaconf")
    omegaconf.DictConfig = dict
    sys.modules.update({"hydra": hydra, "omegaconf": omegaconf})
    sys.path[:0] = [str(folder), str(folder / "utils")]
    module = importlib.import_module(f"models.{cell}.{cell}")
    return getattr(module, PUBLISHED_CLASSES[cell])(
        batch_size=job["batch"],
        input_size=1,
        hidden_sizes=[job["channels"]] * job["layers"],
        height=job["size"],
        width=job["size"],
        device=torch.device(job["device"]),
        norm=[job["size"], job["size"]],
    )


def make_step(network: nn.Module, row: str, fields: Tensor) -> Callable[[], Tensor]:
    """One training step without the optimizer; its loss."""

    def step() -> Tensor:
        network.zero_grad()
        if row.startswith("published "):
            predicted = network(fields, tf_steps=fields.shape[1])
        else:
            batch_size, _, _, height, width = fields.shape
            state = network.init_state(batch_size, height, width)
            predicted, _ = network(fields, state)
        loss = (predicted[:, :-1] - fields[:, 1:]).square().mean()
        loss.backward()
        if fields.is_cuda:
            torch.cuda.synchronize()
        return loss.detach()

    return step


def make_fields(job: dict, num_steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (job["batch"], num_steps, 1, job["size"], job["size"])
    return torch.randn(shape, generator=generator).to(job["device"])


def measure(job: dict) -> dict[str, float]:
    """Seconds and extra bytes of one row at one length; to be called once in a process."""
    torch.set_num_threads(job["threads"])
    row, device = job["row"], job["device"]
    network = make_network(row, job).to(device)
    make_step(network, row, make_fields(job, 2))()
    step = make_step(network, row, make_fields(job, job["steps"]))
    on_gpu = device != "cpu"
    if on_gpu:
        step()
        torch.cuda.reset_peak_memory_stats()
    resident = torch.cuda.memory_allocated() if on_gpu else 0
    with PeakRSS() as memory:
        seconds, processor = [], []
        loss = timed(step, seconds, processor)
    extra = torch.cuda.max_memory_allocated() - resident if on_gpu else memory.peak - memory.before
    # The first step pays for memory that the later ones find at hand.
    while len(seconds) < MIN_RUNS or (len(seconds) < MAX_RUNS and sum(seconds) < ENOUGH_SECONDS):
        timed(step, seconds, processor)
    return {
        "seconds": min(seconds),
        "cpu_seconds": min(processor),
        "extra_bytes": extra,
        "loss": float(loss),
    }


def timed(step: Callable[[], Tensor], seconds: list[float], processor: list[float]) -> Tensor:
    """Run one step; note its wall seconds and those of all of the process's threads together."""
    started, used = time.perf_counter(), time.process_time()
    loss = step()
    seconds.append(time.perf_counter() - started)
    processor.append(time.process_time() - used)
    return loss


def check(job: dict) -> dict[str, float]:
    """Largest difference of loss and gradients between the fast and the log scan, over cells."""
    worst = 0.0
    fields = make_fields(job, 12)
    for cell in MINCONV:
        results = []
        for row in (cell, f"{cell} log"):
            network = make_network(row, job).to(job["device"])
            loss = make_step(network, row, fields)()
            results.append([loss, *(p.grad for p in network.parameters())])
        worst = max(
            worst,
            *(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*results, strict=True)),
        )
    return {"difference": worst}


def over_budget(last: dict | None, num_steps: int, max_seconds: float) -> str | None:
    """Why a row is not measured at this length, given its last measurement."""
    if last is None:
        return None
    if "skipped" in last:
        return last["skipped"]
    seconds = last["seconds"] * num_steps / last["steps"]
    return f"would take {seconds:.0f} s" if seconds > max_seconds else None


def job_of(arguments: argparse.Namespace, **more: object) -> dict:
    """The arguments as a child reads them."""
    return {k: v for k, v in vars(arguments).items() if k != "out"} | more


def measure_row(
    row: str, num_steps: int, last: dict | None, arguments: argparse.Namespace
) -> dict[str, object]:
    """One row at one length in a process of its own; `last`: the same row at the length before."""
    reason = over_budget(last, num_steps, arguments.max_seconds)
    if reason:
        return {"row": row, "steps": num_steps, "skipped": reason}
    result = run_child(
        __file__,
        job_of(arguments, row=row, steps=num_steps),
        max_bytes=int(arguments.max_gib * GIBIBYTE),
        max_seconds=10 * arguments.max_seconds,
    )
    return {"row": row, "steps": num_steps, **result}


def length_table(num_steps: int, results: dict[str, dict], arguments: argparse.Namespace) -> str:
    """The rows that were measured at one length, in Markdown."""
    lines = []
    for row, result in results.items():
        if "skipped" in result:
            lines.append((row, f"skipped: {result['skipped']}", *[None] * 4))
            continue
        slower = [
            results.get(other, {}).get("seconds")
            for other in ("convlstm", rival_of(row, arguments))
        ]
        slower = [None if other is None else other / result["seconds"] for other in slower]
        mib = result["extra_bytes"] / MEBIBYTE
        lines.append((row, result["seconds"], result["cpu_seconds"], mib, *slower))
    columns = (
        "network",
        "seconds a step",
        "CPU seconds",
        "extra MiB",
        "times ConvLSTM's speed",
        "times the log scan's" if not arguments.published else "times the published",
    )
    title = (
        f"T = {num_steps}, batch {arguments.batch}, {arguments.size}x{arguments.size}, "
        f"{arguments.layers} layers of {arguments.channels}, {arguments.threads} threads"
    )
    return table(title, columns, lines)


def rival_of(row: str, arguments: argparse.Namespace) -> str:
    """The row that stands for the published scan of a row's cell."""
    cell = row.split()[-1] if row.startswith("published ") else row.split()[0]
    return f"published {cell}" if arguments.published else f"{cell} log"


def slowest_ratio(results: dict, rival: Callable[[str], str]) -> float | None:
    """Times the rival's speed, of the MinConv cell for which that is least."""
    ratios = [
        results[rival(cell)]["seconds"] / results[cell]["seconds"]
        for cell in MINCONV
        if "seconds" in results.get(cell, {}) and "seconds" in results.get(rival(cell), {})
    ]
    return min(ratios) if ratios else None


def expectations(by_length: dict[int, dict], arguments: argparse.Namespace) -> list[dict]:
    """What was asked of these numbers, and whether they meet it."""
    on_cpu = arguments.device == "cpu"
    asked = []
    for num_steps in ASKED_LENGTHS if on_cpu else (64,):
        results = by_length.get(num_steps, {})
        for name, limit, rival in (
            ("ConvLSTM's", 2.0 if on_cpu else 5.0, lambda cell: "convlstm"),
            ("the log scan's", 10.0 if on_cpu else 1.0, lambda cell: rival_of(cell, arguments)),
        ):
            label = f"T = {num_steps}, slowest MinConv cell, times {name} speed"
            asked.append(verdict(label, slowest_ratio(results, rival), limit, at_most=False))
    return asked


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=list(LENGTHS), help="T")
    parser.add_argument("--rows", nargs="+", help="default: all; see above")
    parser.add_argument("--published", help="checkout of AdaptiveAILab/minconvrnns")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=32, help="height and width, pixels")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--max-seconds", type=float, default=60.0, help="of one step")
    parser.add_argument("--max-gib", type=float, default=16.0, help="memory budget of a run")
    parser.add_argument("--out", type=Path, help="keep the JSON and the tables there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = all_rows(arguments)
    arguments.rows = arguments.rows or known
    for row in arguments.rows:
        if row not in known and arguments.child is None:
            parser.error(f"no row {row!r}: give some of {', '.join(map(repr, known))}")
    return arguments


def all_rows(arguments: argparse.Namespace) -> list[str]:
    """Every row there is, in the order of the tables."""
    cells = (*MINCONV, *BASELINES)
    rows = [*cells, *(f"{cell} log" for cell in MINCONV)]
    return rows + [f"published {cell}" for cell in cells if arguments.published]


def report(parts: dict[str, dict], arguments: argparse.Namespace) -> tuple[dict, list[str]]:
    """The numbers and the page of the parts that were measured."""
    by_length: dict[int, dict[str, dict]] = {}
    measured = [part for part in parts.values() if "row" in part]
    rows = all_rows(arguments)
    for part in sorted(measured, key=lambda part: (part["steps"], rows.index(part["row"]))):
        by_length.setdefault(part["steps"], {})[part["row"]] = part
    page = [length_table(steps, found, arguments) for steps, found in by_length.items()]
    asked = expectations(by_length, arguments)
    result = {"bench": "minconv", "cores": cores(), "equal": parts.get("check")}
    return {**result, "lengths": by_length, "asked": asked}, [*page, verdict_list(asked)]


def main() -> None:
    arguments = parse()
    if arguments.child:
        job = json.loads(arguments.child)
        print(json.dumps(check(job) if job["row"] == "check" else measure(job)))
        return
    names = ("batch", "size", "channels", "layers", "device", "threads", "max_seconds", "max_gib")
    settings = {name: getattr(arguments, name) for name in names}
    settings |= {"torch": torch.__version__, "published": arguments.published is not None}
    parts = Parts(settings, partial(report, arguments=arguments), arguments.out)
    same = parts.measure("check", lambda: run_child(__file__, job_of(arguments, row="check")))
    if same["difference"] > 1e-3:
        raise SystemExit(f"error: the fast and the log scan differ by {same['difference']:.1e}")
    for num_steps in sorted(arguments.steps):
        for row in arguments.rows:
            before = [p for p in parts.done.values() if p.get("row") == row]
            before = [p for p in before if p["steps"] < num_steps]
            last = max(before, key=lambda p: p["steps"], default=None)
            parts.measure(
                f"{row}, T = {num_steps}",
                partial(measure_row, row, num_steps, last, arguments),
            )
    parts.finish()


if __name__ == "__main__":
    main()
