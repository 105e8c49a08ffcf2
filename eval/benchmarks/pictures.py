"""A folder of numbered JPEG files as one video file, for readers that take files alone."""

import os
import re
import tempfile
from fractions import Fraction
from pathlib import Path

import av

from timevlm.errors import InputError

_NUMBER = re.compile(r"(\d+)")


def wrap_pictures(folder: Path, target: Path, *, pictures_per_second: int) -> None:
    """Put the pictures of a folder, in the order of their numbers, into a Matroska file.

    The JPEG data is stored as it is (Motion JPEG). The first picture is shown at 0 s. The file
    appears when it is complete. Raises InputError if the folder holds no JPEG file.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    if not paths:
        raise InputError(f"{folder} holds no .jpg files; unpack the archive again")
    paths.sort(key=lambda path: (int((_NUMBER.findall(path.stem) or ["0"])[-1]), path.name))
    with av.open(str(paths[0])) as first:
        picture = first.streams.video[0]
        width, height = picture.width, picture.height
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=target.suffix, dir=target.parent)
    os.close(handle)
    try:
        with av.open(partial, "w", format="matroska") as container:
            stream = container.add_stream("mjpeg", rate=pictures_per_second)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p"
            stream.time_base = Fraction(1, pictures_per_second)
            for number, path in enumerate(paths):
                packet = av.Packet(path.read_bytes())
                packet.stream = stream
                packet.pts = packet.dts = number
                packet.duration = 1
                packet.time_base = Fraction(1, pictures_per_second)
                packet.is_keyframe = True
                container.mux(packet)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)
