"""Frames sent through a real JPEG encoder, for the artefacts of stored and streamed video."""

from fractions import Fraction

import av
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor


def through_jpeg(frames: Tensor, scale: int) -> Tensor:
    """Frames uint8 `(n, 3, H, W)` as they come back from JPEG, on the same device.

    `scale` is the encoder's quantiser scale, from 2 (hardly visible) to 31 (blocky). Every frame
    is compressed on its own, so a frame does not depend on its neighbours.
    """
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = frames.shape[-2:]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    # The scale becomes the smallest and the largest that rate control may choose.
    encoder.options = {"qmin": str(scale), "qmax": str(scale)}
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    # One converter each way keeps its tables between frames.
    to_yuv, to_rgb = VideoReformatter(), VideoReformatter()
    done: list[Tensor] = []
    for number, array in enumerate(frames.permute(0, 2, 3, 1).cpu().contiguous().numpy()):
        picture = av.VideoFrame.from_ndarray(array, format="rgb24")
        picture = to_yuv.reformat(picture, format="yuvj420p")
        picture.pts, picture.time_base = number, Fraction(1, 25)
        for packet in encoder.encode(picture):
            done += [_pixels(decoded, to_rgb) for decoded in decoder.decode(packet)]
    for packet in encoder.encode():
        done += [_pixels(decoded, to_rgb) for decoded in decoder.decode(packet)]
    done += [_pixels(decoded, to_rgb) for decoded in decoder.decode()]
    return torch.stack(done).to(frames.device)


def _pixels(frame: av.VideoFrame, to_rgb: VideoReformatter) -> Tensor:
    array = to_rgb.reformat(frame, format="rgb24").to_ndarray()
    return torch.from_numpy(array).permute(2, 0, 1)
