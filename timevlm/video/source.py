"""Open a local video file safely, or say in one line why it cannot be used.

Video files are untrusted input to native code, so only local files are opened (FFmpeg's `file`
protocol alone: a playlist that points at the network is refused), only common containers and codecs
are tried, and FFmpeg's own error text never reaches the user.
"""

import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from timevlm.errors import VideoError
from timevlm.video.limits import DecodeLimits

# FFmpeg demuxer names; no playlists (hls, dash, concat), no devices, no raw streams without
# timestamps.
FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "gif")
# FFmpeg decoder names. Audio is listed because probing a file opens its audio decoders too.
VIDEO_CODECS = (
    *("h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4"),
    *("mpeg1video", "mpeg2video", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h263", "flv", "vp6f"),
    *("wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "gif", "prores", "dnxhd", "ffv1"),
    *("dvvideo", "rawvideo", "cinepak", "png", "svq1", "svq3", "vp6", "vp6a", "h261"),
)
AUDIO_CODECS = (
    *("aac", "aac_latm", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis"),
    *("flac", "ac3", "eac3", "dca", "alac", "pcm_s16le", "pcm_s16be", "pcm_u8", "wmav2"),
)

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video stream holds, measured on its packets (container headers are often wrong)."""

    path: str
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    rotation_degrees: int
    """Counter-clockwise rotation from the file's metadata, 0, 90, 180 or 270; frames are handed
    out with it applied."""
    mirrored: bool
    """Whether the metadata also mirrors the picture, left to right and before the rotation; frames
    are handed out with it applied."""
    codec: str
    container: str
    start_seconds: float
    """PTS of the first frame."""
    end_seconds: float
    """When the last frame leaves the screen."""
    duration_seconds: float
    num_frames: int
    average_fps: float
    has_audio: bool
    num_bytes: int

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, object]) -> "VideoInfo":
        """The value that `to_dict` wrote."""
        return cls(**fields)


def check_file(path: str | os.PathLike[str], limits: DecodeLimits) -> tuple[str, int]:
    """Absolute path and size in bytes of a readable, non-empty local file within the size limit.

    Raises VideoError that names the reason.
    """
    text = os.fspath(path)
    if _URL.match(text):
        raise VideoError(f"{text} is a URL: only local files are read, download it first")
    # An absolute path cannot be mistaken for an FFmpeg protocol such as `concat:`.
    full = os.path.abspath(text)
    try:
        status = os.stat(full)
        if stat.S_ISDIR(status.st_mode):
            raise VideoError(f"{text} is a folder: give one video file")
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{text} is not a regular file: give a video file on disk")
        with open(full, "rb"):
            pass
    except FileNotFoundError:
        raise VideoError(f"{text} does not exist: check the path") from None
    except PermissionError:
        raise VideoError(f"{text} is not readable: check its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "bad path"
        raise VideoError(f"{text} cannot be opened: {reason}") from None
    if status.st_size == 0:
        raise VideoError(f"{text} is empty (0 bytes): check the download or recording")
    if status.st_size > limits.max_bytes:
        raise VideoError(
            f"{text} has {status.st_size} bytes, at most {limits.max_bytes} are allowed: "
            "cut the file or raise the limit max_bytes"
        )
    return full, status.st_size


def open_container(path: str) -> InputContainer:
    """Open a checked file with the protocol, container and codec lists above. Raises VideoError."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join((*VIDEO_CODECS, *AUDIO_CODECS)),
    }
    try:
        return av.open(path, options=options, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError):
        raise VideoError(_why_unreadable(path)) from None


def pick_stream(container: InputContainer, path: str, limits: DecodeLimits) -> VideoStream:
    """FFmpeg's best video stream that is not cover art, with all other streams switched off.

    The decoder is set to one thread and to refuse pictures above the pixel limit. Raises
    VideoError.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        moving = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        stream = moving[0] if moving else None
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no"
        raise VideoError(f"{path} has no video stream ({kinds} streams only): give a video file")
    context = stream.codec_context
    if context is None or context.name not in VIDEO_CODECS:
        name = context.name if context is not None else "unknown"
        raise VideoError(
            f"{path} uses the video codec {name}, which timevlm does not read: convert it to H.264"
        )
    check_size(context.width, context.height, path, limits)
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    context.thread_count = 1
    context.options = {**context.options, "max_pixels": str(limits.max_pixels_per_frame)}
    return stream


def check_size(width: int, height: int, path: str, limits: DecodeLimits) -> None:
    """Raise VideoError if a picture of this size breaks the pixel limit."""
    if width * height > limits.max_pixels_per_frame:
        raise VideoError(
            f"{path} has pictures of {width}x{height}, at most {limits.max_pixels_per_frame} "
            "pixels are allowed: scale it down or raise the limit max_pixels_per_frame"
        )


def probe(path: str | os.PathLike[str], *, limits: DecodeLimits | None = None) -> VideoInfo:
    """Facts about a file's best video stream, from one pass over its packets.

    Raises VideoError if it cannot be used.
    """
    from timevlm.video.index import build_index

    return build_index(path, limits or DecodeLimits()).info


def _why_unreadable(path: str) -> str:
    """One line on why FFmpeg refused a file, from the file's own first bytes."""
    boxes = _top_level_boxes(Path(path))
    if "ftyp" in boxes and "moov" not in boxes:
        return (
            f"{path} is an MP4 without its index (no moov box): the recording or download was cut "
            "off, fetch it again"
        )
    return (
        f"{path} is not a video that timevlm can read (containers: {', '.join(FORMATS)}): "
        "check the file or convert it to MP4"
    )


def _top_level_boxes(path: Path) -> list[str]:
    """Names of the top-level MP4 boxes up to the first one that makes no sense (at most 64)."""
    names: list[str] = []
    with path.open("rb") as file:
        while len(names) < 64:
            header = file.read(16)
            if len(header) < 8 or not header[4:8].isalnum():
                break
            size = int.from_bytes(header[:4], "big")
            names.append(header[4:8].decode("ascii"))
            if size == 1 and len(header) == 16:
                size = int.from_bytes(header[8:], "big")
            if size < 8:
                break
            file.seek(size - len(header), os.SEEK_CUR)
    return names
