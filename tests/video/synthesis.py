"""Video files made on the spot, with the frame number painted into every picture.

The number is a 4 x 4 grid of black and white blocks (16 bits, the highest first), which survives
compression and resizing, so that reading a picture back tells which frame it is whatever its
timestamp says.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

WIDTH, HEIGHT = 128, 96
_GRID = 4


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to encode a file; `ticks` are the PTS of the frames in units of `time_base` seconds."""

    ticks: tuple[int, ...]
    time_base: Fraction = Fraction(1, 25)
    codec: str = "libx264"
    suffix: str = "mp4"
    options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)
    turn: int = 0  # clockwise quarter turns before encoding, undone by the file's metadata
    mirrored: bool = False  # mirrored left to right after the turns, undone by the metadata too

    @property
    def seconds(self) -> np.ndarray:
        return np.asarray(self.ticks, dtype=np.float64) * float(self.time_base)


def x264(gop: int = 30, b_frames: int = 3, extra: str = "") -> dict[str, str]:
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:threads=1{extra}"
    return {"preset": "veryfast", "crf": "20", "bf": str(b_frames), "x264-params": params}


def x265(gop: int = 30, extra: str = "") -> dict[str, str]:
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=3:pools=none:frame-threads=1"
    return {"preset": "ultrafast", "crf": "20", "x265-params": f"{params}:log-level=error{extra}"}


def constant_rate(count: int, step: int = 1, start: int = 0) -> tuple[int, ...]:
    return tuple(start + step * k for k in range(count))


def variable_rate(count: int) -> tuple[int, ...]:
    """Milliseconds with steps of 33, 100 and 17, as screen recorders and phones write them."""
    steps = np.resize([33, 100, 17], count - 1)
    return (0, *np.cumsum(steps).tolist())


def paint(number: int) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3)."""
    bits = [(number >> (15 - k)) & 1 for k in range(16)]
    grid = np.asarray(bits, dtype=np.uint8).reshape(_GRID, _GRID) * 200 + 28
    picture = np.kron(grid, np.ones((HEIGHT // _GRID, WIDTH // _GRID), dtype=np.uint8))
    return np.repeat(picture[:, :, None], 3, axis=2)


def read_numbers(pixels: torch.Tensor) -> list[int]:
    """The painted numbers of uint8 (N, 3, H, W)."""
    height, width = pixels.shape[-2] // _GRID, pixels.shape[-1] // _GRID
    gray = pixels.float().mean(dim=1)[:, : height * _GRID, : width * _GRID]
    blocks = gray.reshape(-1, _GRID, height, _GRID, width)
    centre = blocks[:, :, height // 4 : height - height // 4, :, width // 4 : width - width // 4]
    bits = (centre.mean(dim=(2, 4)) > 128).reshape(-1, 16).long()
    return (bits * (2 ** torch.arange(15, -1, -1))).sum(dim=1).tolist()


def write(path: Path, recipe: Recipe) -> Path:
    """Encode the recipe's frames, numbered 0, 1, 2, ..."""
    rate = max(1, round(1 / float(np.median(np.diff(recipe.seconds)))))
    with av.open(str(path), "w", container_options=recipe.muxer_options) as container:
        stream = container.add_stream(recipe.codec, rate=rate, options=dict(recipe.options))
        turned = recipe.turn % 2 == 1
        stream.width, stream.height = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        stream.pix_fmt = "yuvj420p" if recipe.codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = recipe.time_base
        stream.codec_context.thread_count = 1
        if recipe.mirrored:  # PyAV mirrors after rotating, which is rotating the other way after
            stream.set_display_rotation(-90 * recipe.turn, hflip=True)
        elif recipe.turn:
            stream.set_display_rotation(90 * recipe.turn)
        for number, tick in enumerate(recipe.ticks):
            picture = np.rot90(paint(number), -recipe.turn)
            picture = picture[:, ::-1] if recipe.mirrored else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = tick, recipe.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, change: "callable", **muxer_options: str) -> Path:
    """Copy packets without decoding; `change(number, packet)` may alter one, or return False to
    drop it."""
    with (
        av.open(str(source)) as reading,
        av.open(str(target), "w", container_options=muxer_options) as writing,
    ):
        stream = writing.add_stream_from_template(reading.streams.video[0])
        number = 0
        for packet in reading.demux(reading.streams.video[0]):
            if packet.size == 0:
                continue
            if change(number, packet) is not False:
                packet.stream = stream
                writing.mux(packet)
            number += 1
    return target


def write_audio(path: Path, codec: str = "aac", pictures: Path | None = None) -> Path:
    """A file with one second of silence, and the video of `pictures`, if given."""
    packets = []
    with av.open(str(path), "w") as container:
        if pictures is not None:
            with av.open(str(pictures)) as source:
                video = container.add_stream_from_template(source.streams.video[0])
                packets = [p for p in source.demux(source.streams.video[0]) if p.size]
        stream = container.add_stream(codec, rate=16000)
        stream.layout = "mono"
        for packet in packets:
            packet.stream = video
            container.mux(packet)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
