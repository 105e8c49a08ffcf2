"""How far a run is: samples, errors, samples a second, time left, and where the time goes."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

STAGES = ("decode", "encode", "prefill", "generate")
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(kw_only=True)
class Tally:
    """What this process has done so far; `stages` are summed seconds over rows."""

    done: int = 0
    errors: int = 0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started: float = field(default_factory=time.perf_counter)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row."""
        self.done += 1
        self.errors += row["error"] is not None
        seconds = row["details"].get("seconds", {})
        for stage in STAGES:
            self.stages[stage] += seconds.get(stage, 0.0)

    @property
    def samples_per_second(self) -> float:
        """Rows over wall time since the start."""
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def split(self) -> str:
        """`decode 12% encode 40% prefill 30% generate 18%`, of the time in all four."""
        total = sum(self.stages.values())
        if not total:
            return ""
        return " ".join(f"{name} {s / total:.0%}" for name, s in self.stages.items())


class Progress:
    """Tells nobody; the base of the two that do. A context manager."""

    def __init__(self) -> None:
        self.tally = Tally()

    def start(self, total: int, finished: int) -> None:
        """`finished` of `total` samples were there before."""

    def row(self, row: Mapping[str, Any]) -> None:
        """One more row is on disk."""
        self.tally.add(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return


class LineProgress(Progress):
    """A line on stderr every half minute, for logs."""

    def start(self, total: int, finished: int) -> None:
        """Say what lies ahead."""
        self._total, self._finished = total, finished
        self._last = time.perf_counter()
        if finished:
            print(f"resuming: {finished} of {total} samples are there", file=sys.stderr)

    def row(self, row: Mapping[str, Any]) -> None:
        """Count, and print if it is time."""
        super().row(row)
        now = time.perf_counter()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        tally = self.tally
        done = self._finished + tally.done
        left = (self._total - done) / tally.samples_per_second
        print(
            f"{done}/{self._total} samples, {tally.errors} errors, "
            f"{tally.samples_per_second:.2f}/s, about {left:.0f} s left; {tally.split()}",
            file=sys.stderr,
            flush=True,
        )


class BarProgress(Progress):
    """A bar on the terminal."""

    def __init__(self, title: str) -> None:
        super().__init__()
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn(escape(title)),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("samples", total=None, rate="")

    def start(self, total: int, finished: int) -> None:
        """Show what is there already."""
        self._bar.update(self._task, total=total, completed=finished)

    def row(self, row: Mapping[str, Any]) -> None:
        """Count and show."""
        super().row(row)
        tally = self.tally
        errors = f"{tally.errors} errors  " if tally.errors else ""
        rate = f"{tally.samples_per_second:.2f}/s  {errors}{tally.split()}"
        self._bar.update(self._task, advance=1, rate=rate)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def count_progress(title: str, things: str, *, quiet: bool) -> Callable[[int, int], None] | None:
    """What to call with (done, total): a line on stderr now and then; None if quiet.

    On a terminal the line is written over; thread-safe as far as lines may be a call late.
    """
    if quiet:
        return None
    on_terminal = sys.stderr.isatty()
    pause = 0.2 if on_terminal else _SECONDS_BETWEEN_LINES
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < pause and done < total:
            return
        last = now
        end = "\r" if on_terminal and done < total else "\n"
        print(f"{title}: {done}/{total} {things}", end=end, file=sys.stderr, flush=True)

    return tell


def make_progress(title: str, *, quiet: bool) -> Progress:
    """A bar on a terminal, lines in a log, nothing if quiet."""
    if quiet:
        return Progress()
    return BarProgress(title) if sys.stderr.isatty() else LineProgress()
