"""Every command in the pages about evaluation is one that the program takes."""

import shlex
from pathlib import Path

import click
import pytest

from eval.cli import evaluation

PAGES = Path(__file__).resolve().parents[2] / "docs" / "eval"
PROGRAMS = ("timevlm eval ", "-m eval ")


def commands() -> list[tuple[str, str]]:
    """(page, arguments) of the commands that stand alone on a line, without their comments."""
    found = []
    for page in sorted(PAGES.glob("*.md")):
        lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        for line in map(str.strip, lines):
            program = next((name for name in PROGRAMS if name in line), None)
            if program and line.startswith(("timevlm", "torchrun", "accelerate", "python")):
                arguments = line.split(program, 1)[1].split("  ")[0]
                found.append((page.name, arguments))
    return found


def test_the_pages_have_commands() -> None:
    assert {"running.md", "report.md"} <= {page for page, _ in commands()}


@pytest.mark.parametrize(("page", "arguments"), commands())
def test_the_program_takes_the_command(page: str, arguments: str) -> None:
    words = shlex.split(arguments)
    name = words.pop(0) if words[0] in evaluation.commands else "run"
    parent = click.Context(evaluation, info_name="eval")
    # Parses and validates; a word that is no option or argument is a usage error.
    context = evaluation.commands[name].make_context(name, words, parent=parent)
    assert not context.args
