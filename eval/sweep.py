"""Ablation sweeps: one benchmark run for every cell of a grid, then a table and a plot.

A sweep is a TOML file. `[grid]` is crossed; `[[cells]]` are taken as they are, each with every
combination of the grid. Keys are settings of the run (`sampling`, `prompt_style`, `subtitles`), of
the model (`model`, `model.device`, `model.dtype`) or options of it (`model.tokens_per_frame`,
`model.transv.1.keep`, `model.prefilter`):

    name = "frames"
    bench = "toyworld"
    split = "choice"
    model = "nano"
    [grid]
    sampling = ["uniform_mid:8", "uniform_mid:16", "uniform_mid:32"]

Every cell runs in a process of its own, so that peak memory is its own and a cell that fails costs
nothing but itself. Cells are result folders: an interrupted sweep goes on where it was.
"""

import itertools
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.models.base import ModelSettings
from eval.provenance import peak_memory, provenance
from eval.sampling import Sampling
from eval.settings import RunSettings
from eval.store import write_json, write_text
from timevlm import InputError, TimeVLMError

SWEEPS_FOLDER = Path(__file__).resolve().parent / "sweeps"
DEFAULT_FOLDER = Path("results") / "sweeps"
_TOP = ("name", "title", "bench", "data", "split", "model", "limit", "seed", "metric", "grid")
_RUN_KEYS = (
    *("sampling", "prompt_style", "prompt_index", "subtitles", "split", "limit", "seed"),
    *("extract", "span_unit"),
)
_MODEL_KEYS = ("device", "dtype", "max_new_tokens", "native")
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep file, read. `cells` are complete: setting name -> value, the same names in each."""

    name: str
    title: str
    base: RunSettings
    metric: str | None
    """Line of the table "overall" that is plotted; None: the first."""
    axes: tuple[str, ...]
    cells: tuple[dict[str, Any], ...]


def shipped() -> list[str]:
    """Names of the sweeps that ship with the package."""
    return sorted(path.stem for path in SWEEPS_FOLDER.glob("*.toml"))


def read_sweep(
    path: Path, *, data: str | None = None, model: str | None = None, limit: float | None = None
) -> Sweep:
    """A sweep from a file, or a shipped one by its name.

    `data`, `model` and `limit` (videos to draw) replace those of the file. Raises InputError for a
    file that cannot be read, or settings that do not exist.
    """
    found = path if path.exists() else SWEEPS_FOLDER / f"{path.name}.toml"
    if not found.is_file():
        raise InputError(f"{path} is no sweep file; shipped are {', '.join(shipped())}")
    try:
        content = tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{found} is not valid TOML: {error}") from error
    unknown = sorted(set(content) - {*_TOP, "cells"})
    if unknown or "bench" not in content:
        raise InputError(f"{found} needs bench and has unknown {unknown}; known are {list(_TOP)}")
    folder = data or content.get("data")
    if folder is None:
        raise InputError(f"{found} names no data folder; give --data DIR")
    name = content.get("name", found.stem)
    base = RunSettings(
        bench=content["bench"],
        data=folder,
        split=content.get("split"),
        limit=content.get("limit") if limit is None else limit,
        seed=content.get("seed", 0),
        model=ModelSettings(name=model or content.get("model", "nano")),
    )
    cells = _cells(content, found)
    for cell in cells:
        cell_settings(base, cell)
    axes = tuple(dict.fromkeys(key for cell in cells for key in cell))
    complete = tuple({axis: cell.get(axis) for axis in axes} for cell in cells)
    title = content.get("title", name)
    return Sweep(
        name=name,
        title=title,
        base=base,
        metric=content.get("metric"),
        axes=axes,
        cells=complete,
    )


def cell_settings(base: RunSettings, cell: Mapping[str, Any]) -> RunSettings:
    """The settings of one cell; None leaves a setting as it is. Raises InputError or PlanError."""
    values = base.to_dict()
    for key, value in cell.items():
        head, _, rest = key.partition(".")
        if value is None or key == "label":
            continue
        if key == "sampling":
            values["sampling"] = Sampling.parse(value).to_dict()
        elif key == "model":
            values["model"]["name"] = value
        elif head == "model" and rest in _MODEL_KEYS:
            values["model"][rest] = value
        elif head == "model" and rest:
            values["model"]["options"][rest] = value
        elif key in _RUN_KEYS:
            values[key] = value
        else:
            known = ", ".join([*_RUN_KEYS, "model", "model.NAME", "label"])
            raise InputError(f"a sweep has no setting {key!r}; known are {known}")
    return RunSettings.from_dict(values)


def run_sweep(sweep: Sweep, *, out: Path | None = None, quiet: bool = False) -> dict[str, Any]:
    """Run every cell and write `sweep.json`, `sweep.md` and `sweep.png`; what the first holds.

    A cell that fails has its `error`. Raises InputError without matplotlib, before the first cell.
    """
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise InputError("sweeps are plotted with matplotlib; pip install matplotlib") from error
    folder = out or DEFAULT_FOLDER / sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for number, cell in enumerate(sweep.cells):
        if not quiet:
            label = ", ".join(f"{k}={v}" for k, v in cell.items() if v is not None)
            print(f"{sweep.name} {number + 1}/{len(sweep.cells)}: {label}", file=sys.stderr)
        cells.append(_run_cell(sweep, cell, folder))
        names = [c["metric"] for c in cells if c["metric"]]
        found = {
            "name": sweep.name,
            "title": sweep.title,
            "folder": str(folder),
            "base": sweep.base.to_dict(),
            "metric": names[0] if names else sweep.metric,
            "axes": list(sweep.axes),
            "cells": cells,
            "provenance": provenance(sys.argv, sweep.base.seed),
        }
        write_json(folder / "sweep.json", found)
    write_text(folder / "sweep.md", _markdown(found))
    from eval.plot import plot_sweep

    plot_sweep(found, folder / "sweep.png")
    return found


def cell_label(cell: Mapping[str, Any]) -> str:
    """A cell in a few words, for tables and plots."""
    given = {key: value for key, value in cell.items() if value is not None}
    if "label" in given:
        rest = [str(value) for key, value in given.items() if key in ("sampling", "model")]
        return " ".join([str(given["label"]), *rest])
    parts = []
    for key, value in given.items():
        plain = key in ("sampling", "model")
        parts.append(str(value) if plain else f"{key.removeprefix('model.')}={value}")
    return " ".join(parts) or "default"


def _cells(content: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    grid = content.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise InputError(f"{path}: [grid] holds a list of values for every setting")
    grid = _flat(grid)
    crossed = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    singles = [_flat(cell) for cell in content.get("cells", [{}])]
    return [{**single, **combination} for single in singles for combination in crossed]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """TOML's nested tables as dotted names, as they were written."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _run_cell(sweep: Sweep, cell: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"settings": dict(cell), "label": cell_label(cell), "error": None}
    names = ("metric", "score", "low", "high", "n", "frames", "tokens", "seconds_per_sample")
    found |= dict.fromkeys((*names, "memory_bytes", "peak_rss_bytes", "folder"))
    job = {
        "settings": cell_settings(sweep.base, cell).to_dict(),
        "cells": str(folder / "cells"),
    }
    path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH")) if p)
    child = subprocess.run(
        [sys.executable, "-m", "eval.sweep"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if child.returncode:
        last = (child.stderr.strip() or f"exit status {child.returncode}").splitlines()[-1]
        return {**found, "error": last.removeprefix("error: ")}
    result = json.loads(child.stdout.strip().splitlines()[-1])
    lines = result["overall"]
    chosen = [line for line in lines if line["name"] == sweep.metric] if sweep.metric else lines
    if not chosen:
        known = ", ".join(line["name"] for line in lines)
        return {**found, "error": f"no metric {sweep.metric!r}; the table has {known}"}
    line, cost = chosen[0], result["cost"]
    return {
        **found,
        "metric": line["name"],
        "score": line["value"],
        "low": line.get("low"),
        "high": line.get("high"),
        "n": line["n"],
        "frames": cost["mean_frames"],
        "tokens": cost["mean_tokens_kept"],
        "seconds_per_sample": cost["seconds_per_sample"],
        "memory_bytes": cost["mean_memory_bytes"],
        "peak_rss_bytes": result["peak_rss_bytes"],
        "folder": os.path.relpath(result["folder"], folder),
    }


def _markdown(found: Mapping[str, Any]) -> str:
    from eval.show import SWEEP_COLUMNS, sweep_numbers

    columns = ["cell", found["metric"] or "score", *SWEEP_COLUMNS]
    lines = [f"# {found['title']}", "", " | ".join(columns), " | ".join(["---"] * len(columns))]
    for cell in found["cells"]:
        numbers = [f"error: {cell['error']}"] if cell["error"] else sweep_numbers(cell)
        lines.append(" | ".join([cell["label"].replace("|", "/"), *numbers]))
    return "\n".join(lines) + "\n"


def child_main() -> None:
    """One cell: a job as JSON on standard input, its scores and costs as JSON on the last line."""
    from eval.runner import evaluate
    from eval.settings import read_result
    from timevlm.cli.session import silence_libraries

    silence_libraries()
    job = json.loads(sys.stdin.read())
    settings = RunSettings.from_dict(job["settings"])
    try:
        outcome = evaluate(settings, root=Path(job["cells"]))
    except TimeVLMError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if outcome.metrics is None:
        print(f"error: {outcome.missing} questions are still being answered", file=sys.stderr)
        sys.exit(2)
    peaks = [p.get("peak_rss_bytes", 0) for p in read_result(outcome.folder).processes()]
    result = {
        "folder": str(outcome.folder),
        "overall": outcome.metrics["tables"]["overall"],
        "cost": outcome.metrics["cost"],
        "peak_rss_bytes": max(peaks, default=peak_memory()["peak_rss_bytes"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    child_main()
