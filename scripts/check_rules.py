"""Project rules that ruff cannot express: sizes, ASCII, no leftovers.

Run as part of `make lint`: `python scripts/check_rules.py`. Prints one line per breach and exits
with status 1 if there is any.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("timevlm", "recognizers", "eval", "scripts", "tests")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
# Signatures that are given from outside: transformers' interface, the operands of one equation.
# `watch` is the front door: the plan's four common fields are spelled out for its callers.
MANY_PARAMETERS = {"forward", "ssd_reference", "ssd_torch", "ssd_triton", "watch"}
LEFTOVERS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def breaches(path: Path) -> Iterator[str]:
    """One line for each rule that the file breaks."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > MAX_FILE_LINES:
        yield f"1: {len(lines)} lines, at most {MAX_FILE_LINES}: split the file"
    in_library = path.relative_to(ROOT).parts[0] != "tests"
    for number, line in enumerate(lines, start=1):
        if in_library and not line.isascii():
            yield f"{number}: not ASCII: write an escape"
        if LEFTOVERS.search(line):
            yield f"{number}: a leftover marker: do it or drop it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function_breaches(node)


def _function_breaches(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if num_lines > MAX_FUNCTION_LINES:
        yield f"{node.lineno}: {node.name} has {num_lines} lines, at most {MAX_FUNCTION_LINES}"
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    if len(named) > MAX_PARAMETERS and node.name not in MANY_PARAMETERS:
        yield f"{node.lineno}: {node.name} has {len(named)} parameters, at most {MAX_PARAMETERS}"


def main() -> int:
    """Check every Python file of the project; the exit status."""
    found = [
        f"{path.relative_to(ROOT)}:{breach}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for breach in breaches(path)
    ]
    print("\n".join(found) or "project rules: all files pass")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
