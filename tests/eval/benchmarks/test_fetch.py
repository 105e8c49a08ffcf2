"""Annotations from the hub: what is downloaded is read like the official files."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from eval.benchmarks import available, get
from eval.benchmarks.files import read_rows
from tests.eval.miniatures import build
from timevlm import InputError

# Benchmark -> (miniature that holds the hub's rows, file of a configuration and split).
HUB_FILES = {
    "videomme": ("json", "videomme.jsonl"),
    "lvbench": ("official", "{file}"),
    "longvideobench": ("parquet", "{split}-00000-of-00001.parquet"),
    "mlvu": ("repack", "annotations/mlvu-dev.jsonl"),
    "mvbench": ("official", "json/{config}.json"),
    "egoschema": ("official", "{config}/test-00000-of-00001.parquet"),
    "tempcompass": ("hub", "{config}/test-00000-of-00001.parquet"),
    "charades": ("hub", "data/test-00000-of-00001.parquet"),
    "vdc": ("repack", "annotations/vdc.jsonl"),
}


def install_hub(monkeypatch, folder: Path, pattern: str) -> list[tuple]:
    """A stand-in for `datasets` that hands out a miniature's rows; the calls it gets."""
    calls = []

    class DatasetsError(Exception):
        pass

    def load_dataset(hub_id, config, *, split, data_files):
        calls.append((hub_id, config, split, data_files))
        path = folder / pattern.format(config=config, split=split, file=data_files)
        if not path.is_file():
            raise DatasetsError("no such split\nand more")
        rows = [row | {"thumbnail": b"png"} for row in read_rows(path)]
        return SimpleNamespace(to_list=lambda: rows)

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    module.exceptions = SimpleNamespace(DatasetsError=DatasetsError)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


@pytest.mark.parametrize("name", HUB_FILES)
def test_fetched_annotations_are_read_like_the_official_ones(tmp_path, monkeypatch, name):
    variant, pattern = HUB_FILES[name]
    benchmark = get(name)
    source = build(name, tmp_path / "source", variant=variant)
    calls = install_hub(monkeypatch, source, pattern)
    data = tmp_path / "data"
    split = benchmark.splits[0]
    written = benchmark.fetch(data, split)
    assert all(path.is_relative_to(data) and path.is_file() for path in written)
    assert all(call[0].count("/") == 1 for call in calls)
    assert len(calls) == len(written)
    fetched = list(benchmark.samples(data, split))
    assert [(s.question, s.options, s.gold) for s in fetched] == [
        (s.question, s.options, s.gold) for s in benchmark.samples(source, split)
    ]
    assert not any("thumbnail" in path.read_text() for path in written)
    # The videos are the user's to download: every one is listed as missing.
    assert any(problem.level == "missing" for problem in benchmark.check(data))


def test_a_refusal_of_the_hub_is_one_line(tmp_path, monkeypatch):
    install_hub(monkeypatch, tmp_path, "nothing")
    with pytest.raises(InputError, match=r"lmms-lab/Video-MME .*no such split\); check") as caught:
        get("videomme").fetch(tmp_path, "test")
    assert "\n" not in str(caught.value)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'timevlm\[eval\]'"):
        get("videomme").fetch(tmp_path, "test")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    data = build("videomme", tmp_path / "videomme")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (problem,) = get("videomme").check(data)
    assert problem.level == "fatal"
    assert "pip install 'timevlm[eval]'" in problem.what


@pytest.mark.parametrize("name", sorted(set(available()) - set(HUB_FILES)))
def test_benchmarks_without_a_hub_copy_say_so(tmp_path, name):
    assert get(name).hub is None
    with pytest.raises(InputError, match="put the official files"):
        get(name).fetch(tmp_path, get(name).splits[0])
