"""Videos of the world as H.264 files, for demos and for tests of the real decoding path."""

import math
from fractions import Fraction
from pathlib import Path

import av
import torch

from timevlm.errors import InputError
from timevlm.synth.files import whole_file
from timevlm.synth.render import render_frames
from timevlm.synth.spec import VideoSpec

_BLOCK_FRAMES = 25


def write_video(
    spec: VideoSpec,
    path: str | Path,
    *,
    fps: int = 25,
    size: tuple[int, int] = (384, 384),
    crf: int = 20,
) -> None:
    """Write the video as H.264 (yuv420p, at most 50 frames between keyframes) in an mp4.

    Frames are rendered and encoded in blocks, so memory does not grow with the length. The file
    is written beside its place and moved there when complete.

    Raises:
        InputError: the rate is not positive, or a side of `size` (height, width) is odd, which
            yuv420p cannot hold.
    """
    height, width = size
    if fps < 1 or height % 2 or width % 2 or min(size) < 2:
        raise InputError(
            f"{width}x{height} at {fps} fps cannot be written; use even sides and a rate from 1"
        )
    with whole_file(Path(path)) as partial:
        _encode(spec, partial, fps, size, crf)


def _encode(spec: VideoSpec, path: str, fps: int, size: tuple[int, int], crf: int) -> None:
    num_frames = math.ceil(spec.duration_seconds * fps - 1e-6)
    with av.open(path, "w", format="mp4") as container:
        options = {"crf": str(crf), "g": "50", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for start in range(0, num_frames, _BLOCK_FRAMES):
            numbers = torch.arange(start, min(start + _BLOCK_FRAMES, num_frames))
            pictures = render_frames([(spec, numbers.double() / fps)], size)
            for number, picture in zip(numbers.tolist(), pictures, strict=True):
                array = picture.permute(1, 2, 0).contiguous().numpy()
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
