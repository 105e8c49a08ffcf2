"""Files that are complete or not there at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[str]:
    """The name of a temporary file beside `path`, which is moved there if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=path.suffix or ".tmp", dir=path.parent)
    os.close(handle)
    try:
        yield partial
        # mkstemp makes private files; a finished one gets the permissions any other new file would.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, complete or not at all."""
    with whole_file(path) as partial:
        Path(partial).write_text(text, encoding="utf-8")
