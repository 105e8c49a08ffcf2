"""Put what benches printed into a document, each between its marks.

    python scripts/bench_lcr.py --out runs/lcr.json
    python scripts/paste_benches.py docs/recognizers.md runs/lcr.json runs/movinet.json

A document marks a place with two comments, and all between them is replaced:

    <!-- bench lcr -->
    <!-- end -->

The name is the file's "bench", the text its "page" (see `_bench.Parts`). A file whose bench has no
place, and a place whose comment is not closed, are errors; nothing is written then.
"""

import argparse
import json
import re
from pathlib import Path

from _bench import write_atomically

END = "<!-- end -->"


def paste(document: str, name: str, page: str) -> str:
    """The document with the page of bench `name` in its place. ValueError without such a place."""
    mark = f"<!-- bench {name} -->"
    pattern = re.compile(re.escape(mark) + r"\n(?:(?!<!-- bench ).)*?" + re.escape(END), re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise ValueError(f"the document needs one '{mark}' with '{END}' after it")
    return pattern.sub(lambda _: f"{mark}\n\n{page}\n\n{END}", document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("document", type=Path)
    parser.add_argument("results", type=Path, nargs="+", help="files that benches wrote with --out")
    arguments = parser.parse_args()
    text = arguments.document.read_text("utf-8")
    for path in arguments.results:
        result = json.loads(path.read_text("utf-8"))
        if "bench" not in result or "page" not in result:
            raise SystemExit(f"error: {path} has no bench and page: write it with a bench's --out")
        try:
            text = paste(text, result["bench"], result["page"])
        except ValueError as error:
            raise SystemExit(f"error: {path}: {error}") from error
    write_atomically(arguments.document, text)


if __name__ == "__main__":
    main()
