"""Find and read what lies in a benchmark's data folder: annotation rows, videos, subtitles.

Official layouts move: re-hosts rename folders, archives unpack one level deeper, extensions come in
capitals or as another container. So a video is looked up by its name among all files of the folder,
and the official place only decides between several of that name.
"""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from timevlm.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv", ".m4v")
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
_WRAPPER_FOLDERS = frozenset({"data0613"})  # MVBench's archives add it around the official path
FETCHED = "annotations"  # folder into which rows from the hub are written

JsonRow = dict[str, Any]


def read_rows(path: Path) -> list[JsonRow]:
    """The rows of a .json list, .jsonl, .csv, .tsv or .parquet file.

    Raises InputError if the file is damaged or of another kind, or if pyarrow is absent.
    """
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        if path.suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
        if path.suffix == ".jsonl":
            # Not splitlines: texts may hold other line separators, which JSON leaves unescaped.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        else:
            rows = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} does not hold a list of records; see docs/eval/benchmarks.md")
    return rows


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises InputError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again") from None


def find_annotation(data: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of the candidate paths that exists; each may hold `*`.

    Raises InputError that lists where it was looked for.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder of {what} with --data")
    for candidate in candidates:
        found = sorted(data.glob(candidate))
        if found:
            return found[0]
    raise InputError(
        f"no annotations of {what} in {data}: looked for {', '.join(candidates)}; "
        "see docs/eval/benchmarks.md for the layout"
    )


def require(row: Mapping[str, Any], keys: Sequence[str], path: Path) -> None:
    """Raises InputError that names the keys which a row of the file lacks."""
    missing = [key for key in keys if key not in row]
    if missing:
        raise InputError(
            f"a row of {path} lacks {', '.join(missing)} (it has {', '.join(sorted(row))}); "
            "the layout is not one of those in docs/eval/benchmarks.md"
        )


class VideoIndex:
    """Every video of a data folder by name, listed once.

    `find` takes an official path without caring for the extension. A folder of numbered pictures
    counts as a video too.
    """

    def __init__(self, data: Path) -> None:
        self._by_name: dict[str, list[str]] = {}
        for relative in _walk(data):
            self._by_name.setdefault(_stem(PurePosixPath(relative).name), []).append(relative)

    def find(self, official: str, *, strict: bool = False) -> str | None:
        """Where the video of an official path is, relative to the data folder; None if absent.

        Preferred: the path itself, then the place that shares most of the official folders, then
        the usual extension. `strict`: the official folder must be among its folders, because
        others hold different videos of the same name.
        """
        wanted = PurePosixPath(official)
        found = self._by_name.get(_stem(wanted.name), [])
        if strict:
            found = [path for path in found if _shared_folders(path, wanted) == _depth(wanted)]
        if official in found:
            return official
        return min(found, key=lambda path: _preference(path, wanted), default=None)

    def locate(self, official: str, *, strict: bool = False) -> str:
        """Like `find`, but an absent video keeps its official path, so that its samples exist."""
        return self.find(official, strict=strict) or official


def fetch_rows(hub_id: str, *, config: str | None, split: str, file: str | None) -> list[JsonRow]:
    """Rows of a hub data set through `datasets`, without columns of bytes.

    `file`: a data file within the repository, for those without a loading configuration. Raises
    InputError without the extra `eval`, without network, or if the hub refuses.
    """
    try:
        # Imported here because the library takes seconds to load and is needed for this alone.
        import datasets
    except ModuleNotFoundError:
        raise InputError(
            f"{hub_id} is read through `datasets`, which is not installed; "
            "run pip install 'timevlm[eval]', or put the official files into --data"
        ) from None
    try:
        loaded = datasets.load_dataset(hub_id, config, split=split, data_files=file)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{hub_id} cannot be read from the hub ({reason}); check the network and the data "
            "set's terms, or put the official files into --data"
        ) from None
    return [
        {key: value for key, value in row.items() if not isinstance(value, bytes)}
        for row in loaded.to_list()
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as .jsonl or .json (a list), complete or not at all."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(list(rows), ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def _read_parquet(path: Path) -> list[JsonRow]:
    try:
        # Imported here because most layouts are JSON and need no pyarrow.
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(
            f"{path} is a Parquet file, which needs pyarrow; run pip install 'timevlm[eval]'"
        ) from None
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read ({error}); download it again") from None


def _walk(data: Path) -> Iterator[str]:
    """Relative POSIX paths of videos and of folders of pictures; links to folders are followed."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(data, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = PurePosixPath(Path(folder).relative_to(data).as_posix())
        if folder != str(data) and any(name.lower().endswith(_PICTURE_SUFFIXES) for name in names):
            yield str(here)
        for name in sorted(names):
            if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."):
                yield str(here / name)


def _stem(name: str) -> str:
    """The name without a video extension; other dots belong to it."""
    lower = name.lower()
    for suffix in VIDEO_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _folders(path: PurePosixPath) -> list[str]:
    return [part for part in path.parent.parts if part not in _WRAPPER_FOLDERS]


def _depth(wanted: PurePosixPath) -> int:
    return len(_folders(wanted))


def _shared_folders(path: str, wanted: PurePosixPath) -> int:
    """How many folders above the file equal the official ones, counted from the file."""
    count = 0
    actual, official = _folders(PurePosixPath(path)), _folders(wanted)
    for one, other in zip(reversed(actual), reversed(official), strict=False):
        if one != other:
            break
        count += 1
    return count


def _preference(path: str, wanted: PurePosixPath) -> tuple[int, bool, int, str]:
    suffix = PurePosixPath(path).suffix.lower()
    order = VIDEO_SUFFIXES.index(suffix) if suffix in VIDEO_SUFFIXES else len(VIDEO_SUFFIXES)
    return -_shared_folders(path, wanted), suffix != wanted.suffix.lower(), order, path
