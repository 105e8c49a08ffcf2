"""The cache of watched videos, so that a second question about a file does not decode it again.

One file per memory in the user's cache folder, named by a SHA-256 over everything that shapes a
memory: the video's bytes, the sampling plan, the model's fingerprint and the program's version.
Neither a path nor a modification time is part of it, so two videos never share a memory and a
copied video does. Files appear whole (written aside, then renamed), so any number of processes may
use the cache at once; the least recently used go first when the size limit is passed.

Environment: TIMEVLM_CACHE_DIR (folder), TIMEVLM_CACHE_BYTES (size limit, default 2 GiB).
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from timevlm.errors import InputError, MemoryFileError

DEFAULT_MAX_BYTES = 2 * 2**30
KEY_VERSION = 2  # raised when the meaning of a key changes

_ENTRY = re.compile(r"[0-9a-f]{64}\.(?:tvm|json)")
_PARTIAL_PREFIX = "partial-"
_ABANDONED_SECONDS = 24 * 3600.0  # a partial write older than this has lost its process


class Cacheable(Protocol):
    """What the cache asks of a video memory."""

    @property
    def video_path(self) -> str:
        """Where the video was when it was watched."""

    @property
    def num_frames(self) -> int:
        """Frames watched."""

    @property
    def start_seconds(self) -> float:
        """First second watched."""

    @property
    def end_seconds(self) -> float:
        """Where the watched part ends, in seconds."""

    def save(self, path: Path) -> None:
        """Write to a file."""


M = TypeVar("M", bound=Cacheable)


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One cached memory, for people: what it is of, how large, when last used."""

    key: str
    video: str  # file name
    seconds: float | None  # of video watched; None when the note beside the entry is lost
    num_frames: int | None
    num_bytes: int
    last_used: float  # seconds since 1970

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


def cache_dir() -> Path:
    """The folder of cached memories; it may not exist yet."""
    override = os.environ.get("TIMEVLM_CACHE_DIR")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("timevlm", appauthor=False) / "memories"


def max_cache_bytes() -> int:
    """The size limit in bytes. Raises InputError if the environment holds something else."""
    text = os.environ.get("TIMEVLM_CACHE_BYTES", "")
    if not text:
        return DEFAULT_MAX_BYTES
    if not text.isdecimal():
        raise InputError(f"TIMEVLM_CACHE_BYTES={text!r} is not a number of bytes; give digits only")
    return int(text)


def cache_key(*, video_sha256: str, plan: Mapping[str, Any], model_fingerprint: str) -> str:
    """The name of a memory, 64 hexadecimal digits; equal only if everything that shapes it is."""
    from timevlm import __version__

    parts = {
        "key_version": KEY_VERSION,
        "timevlm": __version__,
        "video": video_sha256,
        "plan": dict(plan),
        "model": model_fingerprint,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryCache:
    """Cached memories in one folder. `warn` receives one line when the cache cannot do its work.

    A cache never fails a question: a folder that cannot be written only costs time.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        max_bytes: int | None = None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = cache_dir() if folder is None else folder
        self.max_bytes = max_cache_bytes() if max_bytes is None else max_bytes
        self._warn = warn

    def get(self, key: str, load: Callable[[Path], M]) -> M | None:
        """The memory under `key`, marked as used now; None if there is none.

        An entry that `load` refuses with MemoryFileError is deleted with a warning.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            memory = load(path)
        except (MemoryFileError, OSError) as error:
            # Another process may have evicted the entry between the check and the read.
            if path.exists():
                self._warn(f"a cached memory could not be used and was deleted ({error})")
                self._delete(key)
            return None
        # Evicted, or a read-only cache: the memory itself is good.
        with contextlib.suppress(OSError):
            os.utime(path)
        return memory

    def put(self, key: str, memory: Cacheable) -> bool:
        """Store a memory and evict the least recently used above the limit; whether it was stored.

        Trouble with the disk is a warning, not an error.
        """
        from safetensors import SafetensorError

        note = {
            "video": Path(memory.video_path).name,
            "seconds": memory.end_seconds - memory.start_seconds,
            "num_frames": memory.num_frames,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(prefix=_PARTIAL_PREFIX, dir=self.folder) as partial:
                aside = Path(partial)
                (aside / "note").write_text(json.dumps(note), encoding="utf-8")
                memory.save(aside / "memory.tvm")
                if (aside / "memory.tvm").stat().st_size > self.max_bytes:
                    return False
                os.replace(aside / "note", self._path(key).with_suffix(".json"))
                os.replace(aside / "memory.tvm", self._path(key))
        except (OSError, SafetensorError) as error:
            self._warn(f"the memory was not cached in {self.folder}: {error}")
            return False
        self._evict()
        return True

    def entries(self) -> list[CacheEntry]:
        """Every cached memory, the most recently used first."""
        found = [self._entry(path) for path in self._files(".tvm")]
        return sorted((e for e in found if e is not None), key=lambda e: e.last_used, reverse=True)

    def num_bytes(self) -> int:
        """Size of all cached memories."""
        return sum(entry.num_bytes for entry in self.entries())

    def clear(self) -> int:
        """Delete every memory; how many there were. Other files in the folder stay."""
        keys = [path.stem for path in self._files(".tvm")]
        for key in keys:
            self._delete(key)
        self._tidy()
        return len(keys)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.tvm"

    def _files(self, suffix: str) -> list[Path]:
        try:
            return [
                path
                for path in self.folder.iterdir()
                if path.suffix == suffix and _ENTRY.fullmatch(path.name)
            ]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []

    def _entry(self, path: Path) -> CacheEntry | None:
        try:
            status = path.stat()
        except OSError:
            return None  # evicted meanwhile
        try:
            note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            video, seconds, num_frames = note["video"], note["seconds"], note["num_frames"]
            if not (
                isinstance(video, str)
                and isinstance(seconds, int | float)
                and isinstance(num_frames, int)
            ):
                raise TypeError("the note is not one that `put` wrote")
        except (OSError, ValueError, KeyError, TypeError):
            video, seconds, num_frames = "?", None, None
        return CacheEntry(
            key=path.stem,
            video=video,
            seconds=seconds,
            num_frames=num_frames,
            num_bytes=status.st_size,
            last_used=status.st_mtime,
        )

    def _delete(self, key: str) -> None:
        for path in (self._path(key), self._path(key).with_suffix(".json")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._warn(f"{path} could not be deleted: {error.strerror}")

    def _evict(self) -> None:
        entries = self.entries()
        total = sum(entry.num_bytes for entry in entries)
        while entries and total > self.max_bytes:
            oldest = entries.pop()
            self._delete(oldest.key)
            total -= oldest.num_bytes
        self._tidy()

    def _tidy(self) -> None:
        """Remove what killed processes left behind."""
        long_ago = time.time() - _ABANDONED_SECONDS
        left = [path for path in self._files(".json") if not path.with_suffix(".tvm").exists()]
        try:
            left += self.folder.glob(f"{_PARTIAL_PREFIX}*")
        except OSError:
            return
        for path in left:
            try:
                if path.stat().st_mtime > long_ago:
                    continue
            except OSError:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
