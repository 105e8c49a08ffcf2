"""Reports as tables for people; the numbers themselves are printed as JSON beside them."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

_FILE_COLUMNS = 140


def report_console() -> Console:
    """Standard output: as wide as the terminal, and wide enough for the tables in a file."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_COLUMNS)


def print_tables(tables: Iterable[Table], *, markdown: bool = False) -> None:
    """Tables on standard output, drawn with lines or, for a document, as Markdown."""
    console = report_console()
    for table in tables:
        if markdown:
            print(f"{as_markdown(table)}\n")
        else:
            console.print(table)


def as_markdown(table: Table) -> str:
    """A table of plain text as Markdown: its title, a line for its names, a line a row."""
    rules = ["---:" if column.justify == "right" else "---" for column in table.columns]
    names = [str(column.header) for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = ([str(cell).replace("|", r"\|") for cell in row] for row in rows)
    written = "\n".join(f"| {' | '.join(line)} |" for line in (names, rules, *body))
    return f"{table.title}:\n\n{written}" if table.title else written


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def score_table(title: str, scores: dict[str, dict[str, Any]], *, baseline: str) -> Table:
    """Summaries by family: mean, interval, a baseline under its name, chance, count.

    Columns that no family fills are left out.
    """
    has_blind = any(row["blind"] for row in scores.values())
    has_chance = any(row["chance"] is not None for row in scores.values())
    table = Table(title=title, title_justify="left")
    names = ["", "model %", "95 % interval"]
    names += [f"{baseline} %"] * has_blind + ["chance %"] * has_chance + ["count"]
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for family, row in scores.items():
        model, blind = row["model"], row["blind"]
        cells = [family, percent(model["mean"])]
        cells.append(f"{percent(model['low'])} - {percent(model['high'])}")
        cells += [percent(blind["mean"] if blind else None)] * has_blind
        cells += [percent(row["chance"])] * has_chance
        table.add_row(*cells, str(model["count"]))
    return table


def calibration_table(title: str, calibration: dict[str, Any]) -> Table:
    """Confidence and share right, bin by bin."""
    table = Table(title=title, title_justify="left")
    for name in ("confidence from", "mean confidence %", "right %", "answers"):
        table.add_column(name, justify="right")
    for row in calibration["bins"]:
        cells = (f"{row['from']:.1f}", percent(row["confidence"]), percent(row["accuracy"]))
        table.add_row(*cells, str(row["count"]))
    return table
