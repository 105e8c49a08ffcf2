"""The memory cache: never the wrong video, never half a file, never more than its limit."""

import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from timevlm.cache import MemoryCache, cache_dir, cache_key, max_cache_bytes
from timevlm.errors import InputError, MemoryFileError
from timevlm.video.identity import file_sha256


@dataclass(frozen=True)
class FakeMemory:
    payload: str
    video_path: str = "/videos/a.mp4"
    num_frames: int = 8
    start_seconds: float = 0.5
    end_seconds: float = 8.5

    def save(self, path: Path) -> None:
        Path(path).write_text("memory:" + self.payload)


def load(path: Path) -> FakeMemory:
    text = path.read_text()
    if not text.startswith("memory:"):
        raise MemoryFileError(f"{path} is damaged")
    return FakeMemory(text.removeprefix("memory:"))


def key_of(name: str) -> str:
    return cache_key(video_sha256=name, plan={"fps": 1.0}, model_fingerprint="m")


def test_get_returns_what_put_stored(tmp_path):
    cache = MemoryCache(tmp_path / "new" / "folder")
    assert cache.get(key_of("a"), load) is None
    assert cache.put(key_of("a"), FakeMemory("one"))
    assert cache.get(key_of("a"), load) == FakeMemory("one")
    assert cache.get(key_of("b"), load) is None


def test_key_depends_on_everything_that_shapes_a_memory(monkeypatch):
    base = {"video_sha256": "v", "plan": {"fps": 1.0, "end": None}, "model_fingerprint": "m"}
    keys = {
        cache_key(**base),
        cache_key(**base | {"video_sha256": "w"}),
        cache_key(**base | {"plan": {"fps": 2.0, "end": None}}),
        cache_key(**base | {"plan": {"fps": 1.0, "end": 3.0}}),
        cache_key(**base | {"model_fingerprint": "n"}),
    }
    monkeypatch.setattr("timevlm.__version__", "99.0", raising=False)
    keys.add(cache_key(**base))
    assert len(keys) == 6
    reordered = base | {"plan": {"end": None, "fps": 1.0}}
    assert cache_key(**base) == cache_key(**reordered)


def test_file_hash_is_of_the_content(tmp_path):
    first, second, other = (tmp_path / name for name in ("a", "b", "c"))
    first.write_bytes(b"x" * 300_000)
    second.write_bytes(b"x" * 300_000)
    other.write_bytes(b"x" * 299_999 + b"y")
    assert file_sha256(first) == file_sha256(second) != file_sha256(other)
    assert len(file_sha256(first)) == 64


def test_damaged_entry_is_dropped_with_a_warning_and_made_again(tmp_path):
    lines: list[str] = []
    cache = MemoryCache(tmp_path, warn=lines.append)
    cache.put(key_of("a"), FakeMemory("one"))
    (tmp_path / f"{key_of('a')}.tvm").write_text("garbage")
    assert cache.get(key_of("a"), load) is None
    assert len(lines) == 1
    assert "was deleted" in lines[0]
    assert cache.entries() == []
    cache.put(key_of("a"), FakeMemory("two"))
    assert cache.get(key_of("a"), load) == FakeMemory("two")


def test_entry_evicted_while_it_is_read_is_only_a_miss(tmp_path):
    lines: list[str] = []
    cache = MemoryCache(tmp_path, warn=lines.append)
    cache.put(key_of("a"), FakeMemory("one"))

    def load_too_late(path: Path) -> FakeMemory:
        path.unlink()
        return load(path)

    assert cache.get(key_of("a"), load_too_late) is None
    assert lines == []


def test_least_recently_used_goes_first(tmp_path):
    size = len("memory:") + 100
    cache = MemoryCache(tmp_path, max_bytes=2 * size)
    for age, name in ((300, "a"), (200, "b")):
        cache.put(key_of(name), FakeMemory(name * 100))
        stamp = time.time() - age
        os.utime(tmp_path / f"{key_of(name)}.tvm", (stamp, stamp))
    assert cache.get(key_of("a"), load) is not None  # now b is the oldest
    cache.put(key_of("c"), FakeMemory("c" * 100))
    assert {entry.key for entry in cache.entries()} == {key_of("a"), key_of("c")}
    assert cache.num_bytes() <= cache.max_bytes
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".json", ".tvm", ".tvm"]


def test_memory_above_the_limit_is_not_stored_and_evicts_nothing(tmp_path):
    cache = MemoryCache(tmp_path, max_bytes=50)
    assert cache.put(key_of("a"), FakeMemory("small"))
    assert not cache.put(key_of("b"), FakeMemory("x" * 100))
    assert [entry.key for entry in cache.entries()] == [key_of("a")]


def test_list_shows_name_seconds_and_frames(tmp_path):
    cache = MemoryCache(tmp_path)
    cache.put(key_of("a"), FakeMemory("one"))
    (entry,) = cache.entries()
    assert (entry.video, entry.seconds, entry.num_frames) == ("a.mp4", 8.0, 8)
    assert entry.num_bytes == len("memory:one")
    assert abs(entry.last_used - time.time()) < 60
    assert json.loads(json.dumps(entry.to_dict()))["key"] == key_of("a")
    (tmp_path / f"{key_of('a')}.json").unlink()
    assert cache.entries()[0].video == "?"


@pytest.mark.parametrize(
    "note", ["", "[]", '{"video": 5, "seconds": 1, "num_frames": 1}', '{"video": "a.mp4"}']
)
def test_a_broken_note_is_an_entry_without_facts(tmp_path, note):
    cache = MemoryCache(tmp_path)
    cache.put(key_of("a"), FakeMemory("one"))
    (tmp_path / f"{key_of('a')}.json").write_text(note)
    (entry,) = cache.entries()
    assert (entry.video, entry.seconds, entry.num_frames) == ("?", None, None)


def test_clear_deletes_memories_and_nothing_else(tmp_path):
    cache = MemoryCache(tmp_path)
    cache.put(key_of("a"), FakeMemory("one"))
    cache.put(key_of("b"), FakeMemory("two"))
    mine = tmp_path / "holiday.tvm"
    mine.write_text("not an entry")
    assert cache.clear() == 2
    assert list(tmp_path.iterdir()) == [mine]
    assert MemoryCache(tmp_path / "absent").clear() == 0


def test_leftovers_of_killed_processes_go_but_running_ones_stay(tmp_path):
    old, young = tmp_path / "partial-old", tmp_path / "partial-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "memory.tvm").write_text("half")
    os.utime(old, (0, 0))
    MemoryCache(tmp_path).put(key_of("a"), FakeMemory("one"))
    assert not old.exists()
    assert young.exists()


def test_failed_save_leaves_no_entry_and_only_warns(tmp_path):
    class FullDisk(FakeMemory):
        def save(self, path: Path) -> None:
            Path(path).write_text("half")
            raise OSError(28, "No space left on device")

    lines: list[str] = []
    cache = MemoryCache(tmp_path, warn=lines.append)
    assert not cache.put(key_of("a"), FullDisk("one"))
    assert "No space left" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_exist_is_only_a_warning(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    lines: list[str] = []
    cache = MemoryCache(blocker, warn=lines.append)
    assert cache.get(key_of("a"), load) is None
    assert not cache.put(key_of("a"), FakeMemory("one"))
    assert len(lines) == 1
    assert cache.entries() == []
    assert cache.clear() == 0


def test_environment_sets_folder_and_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMEVLM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TIMEVLM_CACHE_BYTES", "1234")
    assert cache_dir() == tmp_path
    assert MemoryCache().max_bytes == 1234
    monkeypatch.setenv("TIMEVLM_CACHE_BYTES", "2G")
    with pytest.raises(InputError, match="TIMEVLM_CACHE_BYTES='2G'"):
        max_cache_bytes()
    monkeypatch.delenv("TIMEVLM_CACHE_BYTES")
    monkeypatch.delenv("TIMEVLM_CACHE_DIR")
    assert max_cache_bytes() == 2 * 2**30
    assert cache_dir().parts[-2:] == ("timevlm", "memories")


def _churn(folder: str, worker: int) -> None:
    cache = MemoryCache(Path(folder), max_bytes=5 * 1007)
    for step in range(60):
        name = f"video{(step * 7 + worker) % 9}"
        found = cache.get(key_of(name), load)
        if found is None:
            cache.put(key_of(name), FakeMemory(name[-1] * 1000))
        elif found.payload != name[-1] * 1000:
            raise SystemExit(3)


def test_processes_share_the_cache_without_mixing_or_tearing(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_churn, args=(str(tmp_path), n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    cache = MemoryCache(tmp_path)
    assert 0 < cache.num_bytes() <= 5 * 1007
    assert not list(tmp_path.glob("partial-*"))
