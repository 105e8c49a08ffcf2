"""Train all five cells to forecast Navier-Stokes flows, and compare them.

    python scripts/train_forecast.py --steps 1000               # resumable: the same command again
    python scripts/train_forecast.py --minutes 30               # stop after that; go on later
    python scripts/train_forecast.py --report-only              # table and plot of what is there

The task of Horuz et al. 2025 (section 4.1) at a small scale: vorticity on 16 x 16 points, cut from
flows simulated on 32 x 32 (`recognizers/navier_stokes.py`), one frame a second. Training reads 20
true frames, then 5 of its own predictions; the test reads 20 of unseen flows and predicts 30 more.
All cells get the same parameter budget (as the paper's do), batches, steps and learning rates, for
each of `--seeds`. Cells take turns, `--save-every` steps at a time, so that a run that is stopped
early still compares like with like: the table then says at which step each cell is.

In `--out`: flows.safetensors (made once), log.jsonl (one line per saved point), CELL-seedN/
checkpoint.safetensors, table.json, forecast.png (prediction beside truth) and errors.png. Prints
the table and, last, one JSON line. "mse 30" is the mean squared error of the thirty predicted
frames, the horizon of the published test settings, by which the table is sorted; "repeat last
frame" is what no forecast costs.
"""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from _bench import print_table, write_atomically
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from recognizers.forecast import (
    ForecastConfig,
    ForecastNetwork,
    TrainConfig,
    Trainer,
    closed_loop_error,
    count_parameters,
    persistence_error,
    with_parameters,
)
from recognizers.navier_stokes import FlowConfig, make_sequences

CELLS = ("minconvexplstm", "minconvlstm", "minconvgru", "convlstm", "convgru")
TEST_SEED = 1_000_000  # flows of the test; training flows have the seeds from 0 on
HORIZONS = (1, 10, 30)


def flows(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Training and test sequences, made once and kept in `--out`."""
    path = arguments.out / "flows.safetensors"
    header = {
        "train": str(arguments.train_flows),
        "test": str(arguments.test_flows),
        "frames": str(arguments.given + arguments.future),
        "size": str(arguments.size),
    }
    if path.exists():
        with safe_open(path, "pt") as file:
            if file.metadata() != header:
                raise SystemExit(
                    f"error: {path} was made with {file.metadata()}, asked is {header}: "
                    "use another --out"
                )
        tensors = load_file(path)
        return tensors["train"], tensors["test"]
    print(f"simulating {arguments.train_flows + arguments.test_flows} flows", flush=True)
    shape = {"size": arguments.size, "simulated_size": 2 * arguments.size, "config": FlowConfig()}
    num_records = arguments.given + arguments.future - 1
    train = make_sequences(arguments.train_flows, num_records, seed=0, **shape)
    test = make_sequences(arguments.test_flows, num_records, seed=TEST_SEED, **shape)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({"train": train, "test": test}, partial, header)
    os.replace(partial, path)
    return train, test


def make_trainer(cell: str, seed: int, train: Tensor, arguments: argparse.Namespace) -> Trainer:
    """A trainer of one cell, carried on from its checkpoint where there is one."""
    config = ForecastConfig(cell=cell, num_layers=arguments.layers)
    config = with_parameters(config, arguments.parameters)
    torch.manual_seed(seed)
    network = ForecastNetwork(config)
    settings = TrainConfig(
        num_steps=arguments.steps,
        batch_size=arguments.batch,
        given_frames=arguments.given,
        closed_frames=arguments.closed,
        learning_rate=arguments.learning_rate,
        seed=seed,
    )
    trainer = Trainer(network, train, settings)
    folder = checkpoint_of(arguments.out, cell, seed).parent
    folder.mkdir(exist_ok=True)
    settings_path = folder / "settings.json"
    settings_text = json.dumps({"network": asdict(config), "training": asdict(settings)}, indent=2)
    if settings_path.exists() and settings_path.read_text("utf-8") != settings_text:
        raise SystemExit(f"error: {folder} was trained with other settings: use another --out")
    write_atomically(settings_path, settings_text)
    if checkpoint_of(arguments.out, cell, seed).exists():
        trainer.load(checkpoint_of(arguments.out, cell, seed))
    return trainer


def checkpoint_of(out: Path, cell: str, seed: int) -> Path:
    return out / f"{cell}-seed{seed}" / "checkpoint.safetensors"


def train_all(trainers: dict[tuple[str, int], Trainer], arguments: argparse.Namespace) -> None:
    """Train in turns until every cell has had its steps or the minutes are over."""
    started = time.monotonic()
    seconds = float("inf") if arguments.minutes is None else 60.0 * arguments.minutes

    def over() -> bool:
        return time.monotonic() - started > seconds

    goal = min(trainer.step for trainer in trainers.values())
    while not over() and goal < arguments.steps:
        goal = min(arguments.steps, goal + arguments.save_every)
        for (cell, seed), trainer in trainers.items():
            if trainer.step >= goal or over():
                continue
            losses: list[float] = []
            trainer.run(
                until=lambda trainer=trainer, goal=goal: over() or trainer.step >= goal,
                report=lambda step, loss, losses=losses: losses.append(loss),
            )
            if not losses:
                continue
            trainer.save(checkpoint_of(arguments.out, cell, seed))
            entry = {
                "cell": cell,
                "seed": seed,
                "step": trainer.step,
                "loss": sum(losses) / len(losses),
                "seconds": trainer.seconds,
            }
            with (arguments.out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
            print(
                f"{cell} seed {seed}: step {trainer.step}/{arguments.steps}, "
                f"loss {entry['loss']:.5f}, {trainer.seconds / trainer.step:.3f} s a step",
                flush=True,
            )


def measure(
    trainers: dict[tuple[str, int], Trainer], test: Tensor, given: int
) -> dict[str, list[dict]]:
    """For each cell and seed: errors by predicted frame, parameters, seconds a step."""
    results: dict[str, list[dict]] = {}
    for (cell, seed), trainer in trainers.items():
        errors = closed_loop_error(trainer.network, test, given)
        results.setdefault(cell, []).append(
            {
                "seed": seed,
                "steps": trainer.step,
                "parameters": count_parameters(trainer.network),
                "hidden": trainer.network.config.hidden_channels,
                "seconds": trainer.seconds / max(1, trainer.step),
                "errors": errors.tolist(),
            }
        )
    return results


def mean_error(errors: list[float], horizon: int) -> float:
    """Over the first `horizon` predicted frames."""
    part = errors[:horizon]
    return sum(part) / len(part)


def show_table(results: dict[str, list[dict]], still: list[float]) -> tuple[dict[str, dict], str]:
    """Print the table, best cell first, seeds averaged; its numbers and its text."""
    numbers = {}
    for cell, runs in results.items():
        row = {
            "hidden": runs[0]["hidden"],
            "parameters": runs[0]["parameters"],
            "steps": min(run["steps"] for run in runs),
            "seconds": min(run["seconds"] for run in runs),
        }
        for horizon in HORIZONS:
            values = [mean_error(run["errors"], horizon) for run in runs]
            row[f"mse {horizon}"] = sum(values) / len(values)
            row[f"spread {horizon}"] = max(values) - min(values)
        numbers[cell] = row
    numbers = dict(sorted(numbers.items(), key=lambda item: item[1][f"mse {HORIZONS[-1]}"]))
    rows = [
        (
            cell,
            row["hidden"],
            row["parameters"],
            row["steps"],
            row["seconds"],
            *(f"{row[f'mse {horizon}']:.5f}" for horizon in HORIZONS),
            f"{row[f'spread {HORIZONS[-1]}']:.5f}",
        )
        for cell, row in numbers.items()
    ]
    unmoved = [f"{mean_error(still, horizon):.5f}" for horizon in HORIZONS]
    rows.append(("repeat last frame", None, None, None, None, *unmoved, None))
    columns = ("cell", "hidden", "parameters", "steps", "s a step")
    text = print_table(
        f"Closed loop on {len(still)} frames of unseen flows",
        (*columns, *(f"mse {horizon}" for horizon in HORIZONS), "seeds differ by"),
        rows,
    )
    return numbers, text


@torch.no_grad()
def plot_forecast(trainers: dict, test: Tensor, given: int, path: Path) -> None:
    """Truth in the first row, each cell's forecast below, at a few times after the last true."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    future = test.shape[1] - given
    shown = sorted({0, *(round(future * share) - 1 for share in (1 / 6, 1 / 3, 2 / 3, 1))})
    shown = [index for index in shown if index >= 0]
    truth = test[:1]
    rows = {"truth": truth[0, given:, 0]}
    for (cell, seed), trainer in trainers.items():
        if seed == min(s for _, s in trainers):
            trainer.network.eval()
            predicted = trainer.network.forecast(truth[:, :given], future - 1)
            rows[cell] = predicted[0, given - 1 :, 0]
    largest = float(rows["truth"].abs().max())
    figure, axes = pyplot.subplots(
        len(rows), len(shown), figsize=(1.6 * len(shown) + 1.2, 1.6 * len(rows)), squeeze=False
    )
    for axis_row, (name, fields) in zip(axes, rows.items(), strict=True):
        for axis, index in zip(axis_row, shown, strict=True):
            axis.imshow(fields[index], cmap="RdBu_r", vmin=-largest, vmax=largest)
            axis.set_xticks([])
            axis.set_yticks([])
        axis_row[0].set_ylabel(name, fontsize=8)
    for axis, index in zip(axes[0], shown, strict=True):
        axis.set_title(f"+{index + 1} s", fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)


def plot_errors(results: dict[str, list[dict]], still: list[float], path: Path) -> None:
    """Error against the predicted frame's distance, one line per cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4))
    seconds = range(1, len(still) + 1)
    for cell, runs in results.items():
        mean = torch.tensor([run["errors"] for run in runs]).mean(dim=0)
        axis.semilogy(seconds, mean, label=cell)
    axis.semilogy(seconds, still, color="grey", linestyle=":", label="repeat last frame")
    axis.set_xlabel("seconds after the last true frame")
    axis.set_ylabel("mean squared error of vorticity")
    axis.legend(fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)


def save_figure(figure: object, path: Path) -> None:
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(partial, dpi=120)
    os.replace(partial, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/forecast"))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1000, help="of each cell")
    parser.add_argument("--minutes", type=float, help="of training in this call, all cells")
    parser.add_argument("--save-every", type=int, default=50, help="steps")
    parser.add_argument("--report-only", action="store_true", help="do not train")
    parser.add_argument("--parameters", type=int, default=20_000, help="of each network, about")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--given", type=int, default=20, help="true frames")
    parser.add_argument("--closed", type=int, default=5, help="own predictions, in training")
    parser.add_argument("--future", type=int, default=30, help="frames to predict in the test")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--size", type=int, default=16, help="points along a side")
    parser.add_argument("--train-flows", type=int, default=128)
    parser.add_argument("--test-flows", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    train, test = flows(arguments)
    trainers = {
        (cell, seed): make_trainer(cell, seed, train, arguments)
        for seed in arguments.seeds
        for cell in arguments.cells
    }
    if not arguments.report_only:
        train_all(trainers, arguments)
    results = measure(trainers, test, arguments.given)
    still = persistence_error(test, arguments.given).tolist()
    numbers, table = show_table(results, still)
    plot_forecast(trainers, test, arguments.given, arguments.out / "forecast.png")
    plot_errors(results, still, arguments.out / "errors.png")
    summary = {"forecast": numbers, "runs": results, "repeat_last_frame": still}
    summary |= {"bench": "forecast", "page": table}
    write_atomically(arguments.out / "table.json", json.dumps(summary, indent=2) + "\n")
    print(json.dumps({"train": "forecast", "cells": numbers}))


if __name__ == "__main__":
    main()
