"""Miniature copies of every official benchmark layout: invented rows, videos of a few seconds.

`build(name, folder)` writes the layout that the benchmark's own site hands out; `variant` another
one that users have. Rows follow the official keys, their content is made up.
"""

from collections.abc import Callable
from pathlib import Path

from tests.eval import miniature_choice as choice
from tests.eval import miniature_other as other

_BUILDERS: dict[tuple[str, str], Callable[[Path], None]] = {
    ("videomme", "official"): choice.videomme,
    ("videomme", "json"): choice.videomme_json,
    ("lvbench", "official"): choice.lvbench,
    ("lvbench", "numbered"): choice.lvbench_numbered,
    ("lvbench", "flat"): choice.lvbench_flat,
    ("lvbench", "candidates"): choice.lvbench_candidates,
    ("longvideobench", "official"): choice.longvideobench,
    ("longvideobench", "parquet"): choice.longvideobench_parquet,
    ("mlvu", "official"): choice.mlvu,
    ("mlvu", "repack"): choice.mlvu_repack,
    ("mlvugeneration", "official"): choice.mlvu_generation,
    ("mvbench", "official"): choice.mvbench,
    ("mvbench", "wrapped"): choice.mvbench_wrapped,
    ("cgbench", "official"): choice.cgbench,
    ("egoschema", "official"): choice.egoschema,
    ("egoschema", "repository"): choice.egoschema_repository,
    ("tempcompass", "official"): choice.tempcompass,
    ("tempcompass", "hub"): choice.tempcompass_hub,
    ("charades", "official"): other.charades,
    ("charades", "hub"): other.charades_hub,
    ("activitynet", "official"): other.activitynet,
    ("activitynet", "videox"): other.activitynet_videox,
    ("vdc", "official"): other.vdc,
    ("vdc", "repack"): other.vdc_repack,
    ("youcook2", "official"): other.youcook2,
    ("toyworld", "official"): other.toyworld,
}


def build(name: str, folder: Path, *, variant: str = "official") -> Path:
    """Write a benchmark's miniature; the data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _BUILDERS[name, variant](folder)
    return folder


def variants() -> list[tuple[str, str]]:
    """Every (benchmark, variant) that `build` knows."""
    return list(_BUILDERS)
