"""Shared fixtures: where golden numbers and real clips lie, and a reproducible torch."""

import os
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def golden_dir() -> Path:
    """Folder of numbers computed by published implementations (env TIMEVLM_GOLDEN_DIR)."""
    return Path(os.environ.get("TIMEVLM_GOLDEN_DIR", PROJECT_ROOT / ".." / "shared" / "golden"))


def clips_dir() -> Path:
    """Folder of real clips with checked answers (env TIMEVLM_CLIPS_DIR)."""
    return Path(os.environ.get("TIMEVLM_CLIPS_DIR", PROJECT_ROOT / ".." / "shared" / "clips"))


def golden_files(prefix: str) -> list:
    """Parametrize values: every golden file of a family, or one skip that names the folder."""
    folder = golden_dir()
    files = sorted(folder.glob(f"{prefix}*.safetensors")) if folder.is_dir() else []
    if not files:
        reason = f"no {prefix}*.safetensors in {folder}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in files]


def clip_files() -> list:
    """Parametrize values: every real clip, or one skip that names the folder."""
    folder = clips_dir()
    suffixes = {".mp4", ".mkv", ".webm", ".avi"}
    files = sorted(p for p in folder.glob("*") if p.suffix in suffixes) if folder.is_dir() else []
    if not files:
        reason = f"no clips in {folder}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in files]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    # The tests' operations are tiny: a second thread only waits, and on a busy machine for long.
    torch.set_num_threads(1)
    torch.manual_seed(0)
