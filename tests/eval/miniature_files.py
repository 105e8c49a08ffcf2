"""Write the small files that miniature data folders are made of."""

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

FPS, SECONDS = 4, 4
SIDES = (48, 64)  # height, width


@cache
def video_bytes(seed: int = 0) -> bytes:
    """An H.264 file: `FPS * SECONDS` flat colours."""
    buffer = io.BytesIO()
    colours = np.random.default_rng(seed).integers(0, 256, (FPS * SECONDS, 3), dtype=np.uint8)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.height, stream.width = SIDES
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = 1
        for colour in colours:
            picture = np.broadcast_to(colour, (*SIDES, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def write_video(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(video_bytes(seed))


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_jsonl(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Sequence[dict]) -> None:
    """Skips the test where pyarrow (extra `eval`) is not installed."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def write_pictures(folder: Path, count: int) -> None:
    """Numbered JPEG files from 00001 on, each of its own brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        picture = np.full((*SIDES, 3), 20 * number, dtype=np.uint8)
        with av.open(str(folder / f"{number:05}.jpg"), "w", format="image2") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.height, stream.width = SIDES
            stream.pix_fmt = "yuvj420p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
