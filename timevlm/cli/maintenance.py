"""The commands that look after the program itself: cache, doctor."""

import json
import sys
from datetime import datetime

import click

from timevlm.cache import CacheEntry, MemoryCache, cache_dir
from timevlm.cli.session import print_warning, silence_libraries


@click.group()
def cache() -> None:
    """List, clear or locate the cached memories of watched videos."""


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def list_entries(as_json: bool) -> None:
    """Show every cached memory, the most recently used first."""
    store = MemoryCache(warn=print_warning)
    entries = store.entries()
    if as_json:
        records = [entry.to_dict() for entry in entries]
        facts = {"dir": str(store.folder), "max_bytes": store.max_bytes, "entries": records}
        click.echo(json.dumps(facts, indent=2))
        return
    if entries:
        _print_entries(entries)
    used = sum(entry.num_bytes for entry in entries)
    click.echo(
        f"{len(entries)} memories, {used / 1e6:.1f} of {store.max_bytes / 1e6:.0f} MB, "
        f"in {store.folder}"
    )


@cache.command()
def clear() -> None:
    """Delete every cached memory."""
    click.echo(f"{MemoryCache(warn=print_warning).clear()} memories deleted")


@cache.command("dir")
def show_dir() -> None:
    """Print the folder of the cached memories."""
    click.echo(str(cache_dir()))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def doctor(as_json: bool) -> None:
    """Show what is installed, which backends are used and why, and what would add the rest."""
    silence_libraries()
    from timevlm.doctor import examine

    report = examine()
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        report.print_table()
    if not report.healthy:
        sys.exit(1)


def _print_entries(entries: list[CacheEntry]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("video", "seconds", "frames", "MB", "last used", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(
            Text(entry.video),
            "?" if entry.seconds is None else f"{entry.seconds:.1f}",
            "?" if entry.num_frames is None else str(entry.num_frames),
            f"{entry.num_bytes / 1e6:.2f}",
            f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}",
        )
    Console().print(table)
