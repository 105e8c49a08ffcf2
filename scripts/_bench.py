"""What the benches share: a fresh process per measurement, its peak memory, and the printing.

A process that has allocated once keeps memory for itself, and the next measurement in it would
look leaner than it is. So every measurement runs in a child process of its own (`run_child`),
which prints its numbers as one JSON line.

Tables are printed as Markdown. A bench prints one JSON line last; with `--out FILE` the same JSON
is kept, and with it, as "page", the tables: scripts/paste_benches.py puts those in a document. That
file is written after each part of a bench (`Parts`): one that was cut off goes on with the same
command.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of one unit of ru_maxrss


def max_rss() -> int:
    """Highest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


class PeakRSS:
    """Resident memory of this process inside a `with` block: `before` and `peak`, bytes.

    A thread samples it. If the process's own high-water mark rose in the block, that is the peak
    and it is exact; if it did not, the samples are the best there is (the mark may be older, or be
    that of the program which started this one).
    """

    def __init__(self, interval_seconds: float = 0.002) -> None:
        self.interval_seconds = interval_seconds
        self.before = 0
        self.peak = 0
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._mark = 0

    def _sample(self) -> None:
        while not self._stop.wait(self.interval_seconds):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        trim_heap()
        self.before = self.peak = self._process.memory_info().rss
        self._mark = max_rss()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self._process.memory_info().rss)
        mark = max_rss()
        if mark > self._mark:
            self.peak = max(self.peak, mark)


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def run_child(
    script: str | Path,
    job: dict,
    *,
    max_bytes: int | None = None,
    max_seconds: float | None = None,
) -> dict:
    """Run `script --child JOB` in a fresh process and return the JSON of its last line.

    Over `max_bytes` of resident memory or `max_seconds` the child is killed, and the result is
    `{"skipped": reason}`. Raises `RuntimeError` with the child's last words if it fails.
    """
    command = [sys.executable, str(script), "--child", json.dumps(job)]
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(p for p in (str(root), os.environ.get("PYTHONPATH")) if p)
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    reason: list[str] = []
    watchdog = threading.Thread(
        target=_kill_over, args=(child, max_bytes, max_seconds, reason), daemon=True
    )
    watchdog.start()
    out, err = child.communicate()
    watchdog.join()
    if reason:
        return {"skipped": reason[0]}
    if child.returncode:
        last = (err.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{Path(script).name} {job}: exit {child.returncode}: {last}")
    return json.loads(out.strip().splitlines()[-1])


def _kill_over(
    child: subprocess.Popen[str],
    max_bytes: int | None,
    max_seconds: float | None,
    reason: list[str],
) -> None:
    started = time.monotonic()
    process = psutil.Process(child.pid)
    while child.poll() is None:
        time.sleep(0.02)
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if max_bytes is not None and process.memory_info().rss > max_bytes:
                reason.append(f"over {max_bytes / GIBIBYTE:g} GiB")
        if max_seconds is not None and time.monotonic() - started > max_seconds:
            reason.append(f"over {max_seconds:g} s")
        if reason:
            child.kill()
            return


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Print a table (`table`), and return its text."""
    text = table(title, columns, rows)
    print(f"\n{text}\n", flush=True)
    return text


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown under its title, the first column aligned left, the others right."""
    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(columns))]
    aligned = [
        [
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rule = ["-" * (width - 1) + ":" if index else "-" * width for index, width in enumerate(widths)]
    body = [f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:])]
    return "\n".join([f"{title}:", "", *body])


def cell(value: object) -> str:
    """A value as it stands in a table: three digits for numbers below 100."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def verdict(name: str, value: float | None, limit: float, *, at_most: bool = True) -> dict:
    """One expectation with what was measured (None: nothing was), for the JSON line."""
    met = None
    if value is not None:
        met = value <= limit if at_most else value >= limit
    asked = f"{'at most' if at_most else 'at least'} {limit:.3g}"
    return {"name": name, "asked": asked, "value": value, "met": met}


def show_verdicts(verdicts: Sequence[dict]) -> None:
    """Print expectations, one line each."""
    print("\n".join(_verdict_line(entry) for entry in verdicts))


def verdict_list(verdicts: Sequence[dict]) -> str:
    """Expectations as a Markdown list, one line each."""
    return "\n".join(f"- {_verdict_line(entry)}" for entry in verdicts)


def _verdict_line(entry: dict) -> str:
    words = {None: "not measured", True: "met", False: "NOT MET"}
    measured = "" if entry["value"] is None else f"{cell(entry['value'])}: "
    return f"{entry['name']}: asked {entry['asked']}; {measured}{words[entry['met']]}"


class Parts:
    """What a bench has measured, part by part; kept in `out` after every part.

    A run that was cut off goes on with the same command, and a command that asks for other parts
    adds them to the file. `report` makes the result and its page of the parts so far, so the file
    can be pasted at any time. Parts measured with other settings are never mixed: SystemExit.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        report: Callable[[dict[str, Any]], tuple[dict[str, Any], list[str]]],
        out: Path | None,
    ) -> None:
        self.settings = json.loads(json.dumps(settings))  # as they come back from the file
        self.report = report
        self.out = out
        self.done: dict[str, Any] = {}
        if out is not None and out.exists():
            self.done = self._kept(out)

    def _kept(self, out: Path) -> dict[str, Any]:
        try:
            kept = json.loads(out.read_text("utf-8"))
            settings, parts = kept["settings"], kept["parts"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SystemExit(
                f"error: {out} holds no parts of a bench: use another --out"
            ) from error
        if settings != self.settings:
            names = sorted(settings.keys() | self.settings.keys())
            differing = ", ".join(
                f"{name} {settings.get(name)!r}, now {self.settings.get(name)!r}"
                for name in names
                if settings.get(name) != self.settings.get(name)
            )
            raise SystemExit(f"error: {out} was measured with {differing}: use another --out")
        return parts

    def measure(self, name: str, function: Callable[[], Any]) -> Any:
        """The part called `name`: as it was kept, or what `function` returns (JSON values)."""
        if name not in self.done:
            started = time.perf_counter()
            self.done[name] = json.loads(json.dumps(function()))
            self._keep()
            seconds = time.perf_counter() - started
            print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        return self.done[name]

    def _keep(self) -> None:
        if self.out is not None:
            result, page = self.report(self.done)
            kept = {"settings": self.settings, **result, "parts": self.done}
            kept["page"] = "\n\n".join(page)
            write_atomically(self.out, json.dumps(kept, indent=2) + "\n")

    def finish(self) -> None:
        """Print the page of all parts and, last, one JSON line; both are in `out` too."""
        self._keep()
        result, page = self.report(self.done)
        print("\n" + "\n\n".join(page) + "\n")
        print(json.dumps({"settings": self.settings, **result}))


def write_atomically(path: Path, text: str) -> None:
    """Write the file whole or not at all; its folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
