"""On what a result was made: versions, source commit, hardware, seeds. Nothing that is secret."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("timevlm", "torch", "transformers", "tokenizers", "safetensors", "numpy", "av"),
    *("torchcodec", "decord", "mamba-ssm", "causal-conv1d", "accelerate", "datasets"),
)
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of one unit of ru_maxrss
# What changes speed or results from outside the program.
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE", "RANK", "LOCAL_RANK")


def provenance(arguments: Sequence[str], seed: int) -> dict[str, Any]:
    """What is known before a run starts, as JSON values."""
    return {
        "started": time.time(),
        "arguments": list(arguments),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": package_versions(),
        "source": source_commit(),
        "hardware": hardware(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that a result may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def source_commit() -> dict[str, Any] | None:
    """Commit of the working copy that this program runs from, and whether files differ from it.

    None for an installed package.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "modified": bool(_git(root, "status", "--porcelain", "-uno"))}


def hardware() -> dict[str, Any]:
    """CPU, memory, and the GPUs that torch sees, if torch is in use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"cpu": _cpu_name(), "cores": cores, "memory_bytes": _memory_bytes()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            found["gpus"] = [torch.cuda.get_device_name(i) for i in range(count)]
            found["cuda"] = torch.version.cuda
    return found


def peak_memory() -> dict[str, int]:
    """Bytes: most resident memory of this process so far, and most on the GPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    found = {"peak_rss_bytes": usage}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    return found


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
