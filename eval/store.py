"""Rows on disk that survive anything: appended line by line, read back whatever happened.

A result folder has `rows/*.jsonl`. Every writer has a file of its own, held by a lock for as long
as its process lives, so lines of two processes never mix. Each line is one write, which a killed
process cannot take back; an fsync follows at once in a thread, so that a power failure costs no
more than the last rows and the model does not wait for the disk. Whatever a killed process leaves
behind, at most the last line of its file is torn: readers skip such a line, and the next writer
starts on a fresh one. Who reads all files sees every finished sample, whatever the number of
shards was then.

`Claim` is a lock on one video. The kernel drops it with the process, so there is no stale claim to
clean up after a SIGKILL. On file systems without locks both a claim and a writer's lock are always
granted: work may then be done twice, and `merge` still counts each sample once.
"""

import errno
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eval.records import ROW_KEYS, check_row
from timevlm.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no flock; one process at a time is safe there
    fcntl = None

ROWS_FOLDER = "rows"
CLAIMS_FOLDER = "claims"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class RowWriter:
    """Appends rows to a file that no other process writes. A context manager.

    path: the file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Open `folder/rows/{name}.jsonl`, or `{name}.1.jsonl`, ... if that is being written."""
        rows = folder / ROWS_FOLDER
        rows.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            suffix = f".{number}" if number else ""
            self.path = rows / f"{name}{suffix}.jsonl"
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            if _try_lock(handle):
                break
            os.close(handle)
            number += 1
        self._handle = handle
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            os.write(handle, b"\n")  # the last writer was killed inside a line
        self._written = threading.Event()
        self._closing = False
        self._failure: OSError | None = None
        self._syncing = threading.Thread(target=self._sync, name="eval-fsync", daemon=True)
        self._syncing.start()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row. When this returns, no end of the process can lose it.

        Raises OSError if the disk refuses this row or an earlier one.
        """
        if self._failure is not None:
            raise self._failure
        check_row(row)
        row = {key: row[key] for key in ROW_KEYS}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        data = memoryview(line.encode("utf-8", errors="surrogatepass"))
        while data:
            data = data[os.write(self._handle, data) :]
        self._written.set()

    def _sync(self) -> None:
        while not self._closing:
            self._written.wait()
            self._written.clear()  # before the fsync: a row written during it asks for another
            try:
                os.fsync(self._handle)
            except OSError as error:
                self._failure = error

    def close(self) -> None:
        """Bring everything to disk and give the file up; safe to call twice."""
        if self._handle < 0:
            return
        self._closing = True
        self._written.set()
        self._syncing.join()
        os.close(self._handle)
        self._handle = -1
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RowReader:
    """Everything that all writers of a folder have finished, read as it grows.

    rows: for each sample id the row that counts (see `better`). num_torn: lines that are no row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ROWS_FOLDER
        self._offsets: dict[str, int] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.num_torn = 0
        self.num_read = 0

    def refresh(self) -> None:
        """Read what was appended since the last call."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in self._new_lines(path):
                self._take(line)

    def done_ids(self) -> set[str]:
        """Ids of the samples that were answered; a sample with an error is not done."""
        return {key for key, row in self.rows.items() if row["error"] is None}

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        start = self._offsets.get(path.name, 0)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= start:
                return
            file.seek(start)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offsets[path.name] = start + len(whole) + len(newline)
        yield from whole.split(b"\n") if newline else ()

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line.decode("utf-8", errors="surrogatepass"))
            check_row(row)
        except (ValueError, TypeError, InputError):
            self.num_torn += 1
            return
        self.num_read += 1
        known = self.rows.get(row["id"])
        self.rows[row["id"]] = row if known is None else better(known, row)


def better(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Which of two rows of one sample counts: an answer over an error, the earlier answer, the
    later error."""
    if (first["error"] is None) != (second["error"] is None):
        return first if first["error"] is None else second
    older, newer = sorted((first, second), key=lambda row: row["ts"])
    return older if first["error"] is None else newer


def merge(folder: Path, ids: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """(rows of `ids` in that order, each once; lines that are no row). Absent ids are left out."""
    reader = RowReader(folder)
    reader.refresh()
    return [reader.rows[key] for key in ids if key in reader.rows], reader.num_torn


class Claim:
    """The right to work on one video, held until `release` or until the process ends."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / CLAIMS_FOLDER / (hashlib.sha256(key.encode()).hexdigest()[:24])
        self._handle = -1

    def acquire(self) -> bool:
        """Whether the video is ours now; False while another process holds it."""
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # who finished the run has just cleared the folder away
            break
        if not _try_lock(handle):
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let others have the video; safe to call twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSONL file atomically."""
    write_text(
        path, "".join(json.dumps(v, ensure_ascii=False, allow_nan=False) + "\n" for v in values)
    )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def read_json(path: Path, advice: str) -> Any:
    """The value of a JSON file of a result folder. Raises InputError that ends with `advice`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {advice}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8", errors="surrogatepass")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a JSONL file that was written whole. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogatepass")
        # Not splitlines: JSON strings may hold other line separators as they are.
        return [json.loads(line) for line in text.split("\n") if line]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; run the evaluation again") from error


def _try_lock(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
