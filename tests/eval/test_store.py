import json
import multiprocessing
import os
from pathlib import Path

import pytest

from eval.records import ROW_KEYS, SCHEMA_VERSION
from eval.store import Claim, RowReader, RowWriter, better, merge, read_lines, write_lines
from timevlm.errors import InputError


def row(key: str, *, ts: float = 1.0, error: str | None = None, raw: str = "A") -> dict:
    values = dict.fromkeys(ROW_KEYS)
    values |= {"id": key, "raw": raw, "ts": ts, "error": error, "details": {}}
    return {**values, "schema_version": SCHEMA_VERSION}


def rows_file(folder: Path) -> Path:
    return next((folder / "rows").glob("*.jsonl"))


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    strange = row("s:\u2028:1", raw="zwei\nZeilen \U0001f3a5 \ud800")
    with RowWriter(tmp_path, "a") as writer:
        writer.append(row("s:0"))
        writer.append(strange)
    rows, torn = merge(tmp_path, ["s:0", "s:\u2028:1", "s:absent"])
    assert rows == [row("s:0"), strange]
    assert torn == 0


@pytest.mark.parametrize("cut", [1, 7, 60, 200])
def test_a_torn_last_line_costs_one_row_and_the_next_writer_starts_fresh(
    tmp_path: Path, cut: int
) -> None:
    with RowWriter(tmp_path, "a") as writer:
        writer.append(row("s:0"))
        writer.append(row("s:1"))
    data = rows_file(tmp_path).read_bytes()
    rows_file(tmp_path).write_bytes(data[:-cut])
    reader = RowReader(tmp_path)
    reader.refresh()
    assert set(reader.rows) == {"s:0"}
    assert reader.num_torn == 0  # a line without its end may still be on its way
    with RowWriter(tmp_path, "a") as writer:
        assert writer.path == rows_file(tmp_path)
        writer.append(row("s:2"))
    reader.refresh()
    whole = {"s:0", "s:1", "s:2"} if cut == 1 else {"s:0", "s:2"}
    assert set(reader.rows) == whole
    assert reader.num_torn == (cut != 1)


def test_broken_lines_anywhere_are_passed_over(tmp_path: Path) -> None:
    with RowWriter(tmp_path, "a") as writer:
        writer.append(row("s:0"))
    with rows_file(tmp_path).open("ab") as file:
        file.write(b'{"id": 3}\n[1]\n\xff\xfe\nnull\n\n{"id": "s:9", "ra')
    rows, torn = merge(tmp_path, ["s:0", "s:9"])
    assert [r["id"] for r in rows] == ["s:0"]
    assert torn == 4


def test_each_sample_counts_once_and_an_answer_counts_over_an_error(tmp_path: Path) -> None:
    with RowWriter(tmp_path, "a") as first, RowWriter(tmp_path, "a") as second:
        assert first.path != second.path
        first.append(row("s:0", ts=1.0, error="broken"))
        second.append(row("s:0", ts=3.0, raw="late"))
        first.append(row("s:0", ts=2.0, raw="early"))
        first.append(row("s:1", ts=1.0, error="first"))
        second.append(row("s:1", ts=2.0, error="second"))
    rows, _ = merge(tmp_path, ["s:1", "s:0"])
    assert [(r["id"], r["raw"], r["error"]) for r in rows] == [
        ("s:1", "A", "second"),
        ("s:0", "early", None),
    ]


def test_which_row_counts_does_not_depend_on_the_order_of_reading() -> None:
    rows = [row("s", ts=t, error=e) for t in (1.0, 2.0) for e in (None, "bad")]
    for first in rows:
        for second in rows:
            assert better(first, second) == better(second, first)


def test_a_reader_reads_only_what_is_new(tmp_path: Path) -> None:
    reader = RowReader(tmp_path)
    reader.refresh()
    with RowWriter(tmp_path, "a") as writer:
        for number in range(5):
            writer.append(row(f"s:{number}"))
            reader.refresh()
            assert reader.num_read == number + 1
    assert reader.done_ids() == {f"s:{n}" for n in range(5)}


def test_rows_with_other_keys_are_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path, "a") as writer:
        with pytest.raises(InputError, match="unknown \\['extra'\\]"):
            writer.append({**row("s:0"), "extra": 1})
        with pytest.raises(InputError, match="schema version 7"):
            writer.append({**row("s:0"), "schema_version": 7})


def test_a_row_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with RowWriter(tmp_path, "a") as writer:
        writer.append(row("s:0"))
        assert json.loads(rows_file(tmp_path).read_text())["id"] == "s:0"


def hold_claim(folder: Path, ready, release) -> None:
    claim = Claim(folder, "video")
    assert claim.acquire()
    ready.set()
    release.wait(30)
    os._exit(1)  # as a killed process ends: nothing is cleaned up


def test_a_claim_is_exclusive_and_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold_claim, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(30)
    mine = Claim(tmp_path, "video")
    assert not mine.acquire()
    other = Claim(tmp_path, "another video")
    assert other.acquire()
    release.set()
    process.join(30)
    assert mine.acquire()
    mine.release()
    mine.release()
    assert Claim(tmp_path, "video").acquire()


def test_whole_files_are_written_atomically_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lines.jsonl"
    write_lines(path, [{"a": "x\u2028y"}, {"b": [1, None]}])
    assert read_lines(path) == [{"a": "x\u2028y"}, {"b": [1, None]}]
    assert [p.name for p in path.parent.iterdir()] == ["lines.jsonl"]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="run the evaluation again"):
        read_lines(path)
