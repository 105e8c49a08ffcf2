"""Optional readers, decord and torchcodec, behind the same contract as PyAV.

The frames to read and their times always come from our own index; a backend only turns them into
pictures, and what it returns is checked against the index time by time. Files for which a backend
is known to return wrong pictures are refused instead: decord on HEVC, AV1 and transport streams,
torchcodec on VP9, AV1 and transport streams, both on mirrored pictures, which they only turn
(checked with painted frame numbers, decord 0.6.0 and torchcodec 0.12.0).
"""

import importlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from timevlm.errors import VideoError
from timevlm.video.index import VideoIndex

BACKENDS = ("auto", "pyav", "decord", "torchcodec")

_INEXACT = {
    "decord": {"codecs": ("hevc", "av1"), "containers": ("mpegts",)},
    "torchcodec": {"codecs": ("vp9", "av1"), "containers": ("mpegts",)},
}


def load_backend(name: str) -> ModuleType:
    """Import an optional backend. Raises VideoError with the install command if it does not
    load."""
    try:
        return importlib.import_module("torchcodec.decoders" if name == "torchcodec" else name)
    except (ImportError, OSError, RuntimeError):
        raise VideoError(
            f"the video backend {name} is not installed or does not load: "
            f"pip install 'timevlm[{name}]', or use backend pyav"
        ) from None


def decode_with(
    name: str,
    index: VideoIndex,
    planned_seconds: np.ndarray,
    size: tuple[int, int],
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """(position in planned_seconds, uint8 (3, H, W)) of every planned frame.

    size is (height, width) upright. Raises VideoError if the backend is absent, known to be wrong
    on this kind of file, fails, or returns frames with other times.
    """
    module = load_backend(name)
    known = _INEXACT[name]
    info = index.info
    if info.codec in known["codecs"] or info.container in known["containers"]:
        raise VideoError(
            f"{name} returns wrong frames for {info.codec} in {info.container}: use backend pyav"
        )
    if info.mirrored:
        raise VideoError(f"{name} cannot mirror the pictures of {info.path}: use backend pyav")
    start = _decord if name == "decord" else _torchcodec
    try:
        read = start(module, index, size)
        next(read)
        for first in range(0, planned_seconds.size, batch_size):
            wanted = planned_seconds[first : first + batch_size]
            seconds, pixels = read.send(wanted)
            _check_times(name, seconds, wanted, float(index.time_base))
            for offset, picture in enumerate(pixels):
                yield first + offset, picture
    except (RuntimeError, ValueError, IndexError, OSError, *_native_errors(name)):
        raise VideoError(f"{name} cannot decode {info.path}: use backend pyav") from None


def _check_times(name: str, seconds: np.ndarray, wanted: np.ndarray, tick: float) -> None:
    late = np.abs(seconds - wanted) > max(tick / 2, 1e-6)
    if late.any():
        where = int(np.argmax(late))
        raise VideoError(
            f"{name} returned the frame at {seconds[where]:.3f} s for {wanted[where]:.3f} s: "
            "use backend pyav"
        )


def _native_errors(name: str) -> tuple[type[Exception], ...]:
    if name != "decord":
        return ()
    return (importlib.import_module("decord._ffi.base").DECORDError,)


def _torchcodec(
    module: ModuleType, index: VideoIndex, size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Receives float64 (N,) seconds, answers (seconds (N,), pixels (N, 3, H, W)). Applies rotation
    itself."""
    import torch

    decoder = module.VideoDecoder(
        index.info.path, dimension_order="NCHW", num_ffmpeg_threads=1, seek_mode="exact"
    )
    half_tick = float(index.time_base) / 2
    wanted = yield np.empty(0), np.empty(0)
    while True:
        frames = decoder.get_frames_played_at(seconds=(wanted + half_tick).tolist())
        pixels = frames.data
        if tuple(pixels.shape[-2:]) != size:
            pixels = torch.nn.functional.interpolate(
                pixels.float(), size=size, mode="bilinear", antialias=True
            )
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        wanted = yield frames.pts_seconds.double().numpy(), pixels.numpy()


def _decord(
    module: ModuleType, index: VideoIndex, size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `_torchcodec`; decord 0.6.0 applies rotation too."""
    height, width = size
    reader = module.VideoReader(
        index.info.path, ctx=module.cpu(0), num_threads=1, width=width, height=height
    )
    starts = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0].astype(np.float64)
    wanted = yield np.empty(0), np.empty(0)
    while True:
        after = np.searchsorted(starts, wanted).clip(1, starts.size - 1)
        nearest = np.where(wanted - starts[after - 1] < starts[after] - wanted, after - 1, after)
        pixels = reader.get_batch(nearest.tolist()).asnumpy()
        upright = pixels.transpose(0, 3, 1, 2)
        # decord reports times as float32.
        seconds = np.where(np.abs(starts[nearest] - wanted) < 1e-3, wanted, starts[nearest])
        wanted = yield seconds, np.ascontiguousarray(upright)
