"""`timevlm doctor`: what is installed, what is used and why, and what would add the rest.

Required libraries are imported here; optional ones in a child process, since a native library that
does not fit the machine may end the process that loads it.
"""

import importlib
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from timevlm.errors import TimeVLMError

Status = Literal["ok", "absent", "broken"]

REQUIRED = ("torch", "transformers", "tokenizers", "safetensors", "av")
PROBE_SECONDS = 120.0
CHECKOUT_FIX = "reinstall timevlm: pip install --force-reinstall --no-deps timevlm"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    part: str
    status: Status
    detail: str  # version, choice and reason, or what is wrong
    fix: str = ""  # the one command that brings a missing part
    required: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was checked."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether every required part works."""
        return all(check.status == "ok" for check in self.checks if check.required)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"healthy": self.healthy, "checks": [check.to_dict() for check in self.checks]}

    def print_table(self) -> None:
        """Print for people, one line a part, fixes below."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        styles = {"ok": "green", "absent": "yellow", "broken": "red"}
        table = Table("part", "status", "detail", box=None, pad_edge=False)
        for check in self.checks:
            status = Text(check.status, style=styles[check.status])
            table.add_row(Text(check.part), status, Text(check.detail, overflow="fold"))
        console.print(table)
        parts_of: dict[str, list[str]] = {}
        for check in self.checks:
            if check.fix:
                parts_of.setdefault(check.fix, []).append(check.part)
        for fix, parts in parts_of.items():
            console.print(Text(f"to add {' and '.join(parts)}: {fix}"), soft_wrap=True)


def examine() -> Report:
    """Look at this installation. Takes some seconds where optional parts are installed."""
    libraries = [check_required(name) for name in REQUIRED]
    broken = {check.part for check in libraries if check.status != "ok"}
    checks = [
        Check(part="python", status="ok", detail=_python(), required=True),
        Check(part="timevlm", status="ok", detail=_version_of("timevlm"), required=True),
        *libraries,
    ]
    if "torch" not in broken:
        checks += [_device(), _ssd_backend(), _attention()]
    if "av" not in broken:
        checks.append(_pyav())
    checks += [
        check_optional("decord", "video backend decord", 'pip install "timevlm[decord]"'),
        check_optional(
            "torchcodec", "video backend torchcodec", 'pip install "timevlm[torchcodec]"'
        ),
        check_optional("mamba_ssm", "mamba-ssm kernels", 'pip install "timevlm[cuda]"'),
        check_optional("causal_conv1d", "causal-conv1d kernels", 'pip install "timevlm[cuda]"'),
        _cache(),
        *_embedded_models(),
    ]
    return Report(checks=tuple(checks))


def check_required(name: str) -> Check:
    """Import a library that timevlm cannot do without."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        installed = find_spec(name) is not None
        return Check(
            part=name,
            status="broken" if installed else "absent",
            detail=_first_line(str(error)),
            fix=f"pip install --force-reinstall {name}" if installed else f"pip install {name}",
            required=True,
        )
    return Check(part=name, status="ok", detail=_version_of(name), required=True)


def check_optional(
    module: str,
    part: str,
    command: str,
    probe: Callable[[str], str | None] | None = None,
) -> Check:
    """Try an optional library; `probe` returns why a module does not import, or None."""
    if find_spec(module) is None:
        return Check(part=part, status="absent", detail="not installed", fix=command)
    problem = (probe or import_problem)(module)
    found = _version_of(module)
    if problem is None:
        return Check(part=part, status="ok", detail=found)
    detail = f"{found} is installed but does not import: {problem}"
    return Check(part=part, status="broken", detail=detail, fix=command)


def import_problem(module: str) -> str | None:
    """Why a module does not import, in one line, or None; tried in a child process."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {PROBE_SECONDS:.0f} s"
    if run.returncode == 0:
        return None
    if run.returncode < 0:
        return f"it crashed with signal {-run.returncode}"
    return exception_line(run.stderr) or f"exit status {run.returncode}"


def exception_line(stderr: str) -> str:
    """The first line of the last exception in a traceback: `ImportError: why`."""
    lines = stderr.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (")]
    for line in lines[starts[-1] + 1 :] if starts else lines:
        if line.strip() and not line.startswith(" "):
            return _first_line(line)
    return ""


def _first_line(text: str) -> str:
    stripped = [line.strip() for line in text.splitlines() if line.strip()]
    return stripped[0][:200] if stripped else ""


def _version_of(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:
        return "unknown version"


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _device() -> Check:
    device, reason = explain_device()
    return Check(part="device", status="ok", detail=f"{device}: {reason}", required=True)


def explain_device() -> tuple[str, str]:
    """The device that "auto" stands for, and why."""
    import torch

    from timevlm.loading import resolve_device

    device = resolve_device("auto").type
    threads = f"{torch.get_num_threads()} threads"
    if device == "cuda":
        return device, torch.cuda.get_device_name()
    if device == "mps":
        return device, "Apple GPU"
    if torch.version.cuda is None and torch.version.hip is None:
        return "cpu", f"this torch is built without CUDA; {threads}"
    return "cpu", f"torch finds no CUDA device; {threads}"


def _ssd_backend() -> Check:
    from timevlm.llm.ssd import choose_backend

    device, _ = explain_device()
    try:
        chosen = choose_backend("auto", device)
    except TimeVLMError as error:
        return Check(part="SSD backend", status="broken", detail=str(error), required=True)
    reasons = {
        "triton": "mamba-ssm's kernels import and tensors are on CUDA",
        "torch": "chunked matrix products; mamba-ssm's kernels need CUDA and the extra",
        "reference": "the plain loop",
    }
    detail = f"{chosen}: {reasons.get(chosen, 'chosen for this device')}"
    return Check(part="SSD backend", status="ok", detail=detail, required=True)


def _attention() -> Check:
    import torch

    if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        fix = "pip install --upgrade torch"
        return Check(part="attention", status="broken", detail="no SDPA", fix=fix, required=True)
    detail = "sdpa: torch.nn.functional.scaled_dot_product_attention"
    return Check(part="attention", status="ok", detail=detail, required=True)


def _pyav() -> Check:
    import av

    names = ("libavformat", "libavcodec", "libavutil")
    found = {name: av.library_versions.get(name) for name in names}
    shown = ", ".join(f"{name} {'.'.join(map(str, v))}" for name, v in found.items() if v)
    detail = f"default; FFmpeg {getattr(av, 'ffmpeg_version_info', '?')} ({shown})"
    return Check(part="video backend pyav", status="ok", detail=detail, required=True)


def _cache() -> Check:
    from timevlm.cache import MemoryCache

    try:
        cache = MemoryCache()
    except TimeVLMError as error:
        return Check(part="cache", status="broken", detail=str(error))
    entries = cache.entries()
    used = sum(entry.num_bytes for entry in entries)
    size = f"{len(entries)} memories, {used / 1e6:.1f} of {cache.max_bytes / 1e6:.0f} MB"
    return Check(part="cache", status="ok", detail=f"{cache.folder}: {size}")


def _embedded_models() -> list[Check]:
    # `loading` knows them too, but needs torch, which may be what is broken.
    weights = Path(__file__).resolve().parent / "weights"
    others = {path.parent.name for path in weights.glob("*/config.json")} - {"nano"}
    return [
        _embedded_model(weights / "nano", required=True),
        *(_embedded_model(weights / name, required=False) for name in sorted(others)),
    ]


def _embedded_model(folder: Path, required: bool) -> Check:
    part = f"embedded model {folder.name}"
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        return Check(
            part=part,
            status="absent",
            detail=f"no weights in {folder}",
            fix=CHECKOUT_FIX,
            required=required,
        )
    size = sum(path.stat().st_size for path in weights) / 1e6
    return Check(part=part, status="ok", detail=f"{size:.1f} MB in {folder}", required=required)
