"""Work spread over processes, and a file that remembers what is done.

Two cores run two single-threaded processes almost twice as fast as one process with two threads
runs the small matrices of a small model. Items go to whoever is free; every worker loads the
model once.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from timevlm.errors import InputError

# A worker takes an item (JSON-able) and gives its result (JSON-able).
Work = Callable[[Any], Any]
MAX_PROCESSES = 8


def default_processes() -> int:
    """One process a core up to MAX_PROCESSES; one where a GPU does the work."""
    if torch.cuda.is_available():
        return 1
    if hasattr(os, "sched_getaffinity"):  # Linux knows which cores this process may use
        return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    return min(MAX_PROCESSES, os.cpu_count() or 1)


def map_items(
    open_work: Callable[[], Work], items: Sequence[Any], processes: int
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result) in the order of completion.

    `open_work` can be pickled (a partial of a module's function); each process calls it once. With
    one process everything runs in this one. Raises InputError for fewer than one process, and
    RuntimeError when a process dies.
    """
    if processes < 1:
        raise InputError(f"{processes} processes cannot work; use 1 or more")
    processes = min(processes, len(items))
    if processes <= 1:
        work = open_work() if items else None
        for item in items:
            yield item, work(item)
        return
    yield from _spread(open_work, items, processes)


def _spread(
    open_work: Callable[[], Work], items: Sequence[Any], processes: int
) -> Iterator[tuple[Any, Any]]:
    context = multiprocessing.get_context("spawn")  # a fork of a process that ran torch may hang
    waiting = list(reversed(items))
    workers = {}
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=serve, args=(open_work, theirs), daemon=True)
            worker.start()
            theirs.close()
            workers[ours] = worker
        busy = list(workers)
        while busy:
            for connection in wait(busy):
                try:
                    done = connection.recv()
                except EOFError:
                    workers[connection].join()
                    raise RuntimeError(
                        f"a worker ended with exit code {workers[connection].exitcode}; its "
                        "message stands above"
                    ) from None
                # The first message only says that the worker is ready.
                if waiting:
                    connection.send((waiting.pop(),))
                else:
                    connection.send(None)
                    busy.remove(connection)
                if done is not None:
                    yield done
    finally:
        for connection, worker in workers.items():
            connection.close()
            worker.join(timeout=5)
            if worker.is_alive():
                worker.terminate()


def serve(open_work: Callable[[], Work], connection: Connection) -> None:
    """A worker's life: load, say so, then take items until there are none.

    A message is a tuple with an item, or None at the end; the replies are None once, when it has
    loaded, then (item, result).
    """
    torch.set_num_threads(1)
    work = open_work()
    connection.send(None)
    try:
        while (message := connection.recv()) is not None:
            (item,) = message
            connection.send((item, work(item)))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return


class Ledger:
    """Results on disk, a JSON line each, under the settings that made them.

    With no path it only remembers. A torn last line, which an interrupted run leaves, is dropped.
    Raises InputError when the file holds results of other settings.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        if path is None:
            return
        lines = _json_lines(path) if path.is_file() else []
        if lines and lines[0] != settings:
            changed = [k for k in settings if lines[0].get(k) != settings[k]] or list(lines[0])
            raise InputError(
                f"{path} holds results made with another {changed[0]}; give a new file, or remove "
                "this one"
            )
        self.done = {line["item"]: line["result"] for line in lines[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [{"item": k, "result": v} for k, v in self.done.items()]
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in [settings, *records]))
        os.replace(partial, path)

    def add(self, item: str, result: Any) -> None:
        """Remember a result, on disk before this returns."""
        self.done[item] = result
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"item": item, "result": result}) + "\n")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
