"""The index of a video: when every frame is shown and where decoding can start, from its packets
alone.

Reading packets without decoding them costs about 1 % of decoding. What the packets claim is checked
by decoding the first few frames; if it does not hold (timestamps missing, repeated, or other than
the decoder's), the frame times are taken from a whole decode instead, and planned decoding is not
used for that file.
"""

import os
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from timevlm.errors import VideoError
from timevlm.video.limits import DecodeLimits
from timevlm.video.picture import Orientation, orientation_of
from timevlm.video.sequential import frame_pts, iterate_frames
from timevlm.video.source import VideoInfo, check_file, open_container, pick_stream

# Containers whose seek goes by an exact key-frame table; the others are read through.
_SEEKABLE = ("mov", "matroska")
_CHECKED_FRAMES = 8


@dataclass(frozen=True)
class VideoIndex:
    """Packets in decode order (P of them) and frames in the order shown (F of them)."""

    info: VideoInfo
    time_base: Fraction
    """Seconds per tick."""
    frame_pts: np.ndarray
    """int64 (F,) ticks, ascending: every frame that should come out of the decoder."""
    packet_pts: np.ndarray
    """int64 (P,) ticks, decode order; unique if trusted."""
    packet_dts: np.ndarray
    """int64 (P,) ticks; equal to the PTS where the file has none."""
    gop_starts: np.ndarray
    """int64 (G,): positions of the key-frame packets, ascending, the first at 0."""
    stored_size: tuple[int, int]
    """(height, width) as decoded, before it is turned upright."""
    distrust: str | None
    """Why packets cannot be matched to frames; None if they can."""
    seekable: bool
    nonref_skippable: bool
    """Whether frames that the bitstream marks as never referenced can be left undecoded."""
    warnings: tuple[str, ...]

    @property
    def frame_seconds(self) -> np.ndarray:
        """float64 (F,): PTS of every frame in seconds."""
        return to_seconds(self.frame_pts, self.time_base)


@dataclass(frozen=True)
class _Packets:
    pts: list[int | None]
    dts: list[int | None]
    key: list[bool]
    usable: list[bool]  # neither dropped by an edit list nor cut off
    last_duration: int
    cut_short: str | None


@dataclass(frozen=True)
class _FirstFrames:
    pts: list[int]
    errors: int
    size: tuple[int, int]  # (height, width) as stored
    orientation: Orientation


def to_seconds(ticks: np.ndarray, time_base: Fraction) -> np.ndarray:
    """Ticks as float64 seconds, rounded once."""
    return ticks.astype(np.float64) * time_base.numerator / time_base.denominator


def build_index(path: str | os.PathLike[str], limits: DecodeLimits) -> VideoIndex:
    """Index the best video stream of a file. Raises VideoError if the file has no usable video."""
    full, num_bytes = check_file(path, limits)
    container = open_container(full)
    try:
        stream = pick_stream(container, full, limits)
        packets = _read_packets(container, stream)
        index = _describe(container, stream, full, packets)
        info = replace(index.info, num_bytes=num_bytes)
    finally:
        container.close()
    first = _decode_first_frames(full, limits)
    height, width = first.orientation.turned(first.size)
    info = replace(
        info,
        width=width,
        height=height,
        rotation_degrees=90 * first.orientation.quarter_turns,
        mirrored=first.orientation.mirrored,
    )
    index = replace(index, info=info, stored_size=first.size)
    index = _checked(index, first, full, limits)
    return _with_times(index, packets.last_duration, limits)


def _read_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    pts: list[int | None] = []
    dts: list[int | None] = []
    key: list[bool] = []
    usable: list[bool] = []
    last_pts, last_duration = None, 0
    broke = False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError):
            broke = True
            break
        if packet.size == 0:
            continue
        pts.append(packet.pts)
        dts.append(packet.dts)
        key.append(packet.is_keyframe)
        usable.append(not packet.is_discard and not packet.is_corrupt)
        if packet.pts is not None and (last_pts is None or packet.pts > last_pts):
            last_pts, last_duration = packet.pts, packet.duration or 0
    return _Packets(
        pts, dts, key, usable, last_duration, _cut_short(container, stream, pts, usable, broke)
    )


def _cut_short(
    container: InputContainer,
    stream: VideoStream,
    pts: list[int | None],
    usable: list[bool],
    broke: bool,
) -> str | None:
    """A warning if the header promises more than the file holds."""
    whole = sum(usable)
    name = container.format.name
    # Edit lists make a track's sample count and its list of packets differ, the latter is what is
    # read.
    promised = len(stream.index_entries) if name.startswith("mov") else stream.frames
    if promised > len(pts) or (promised == len(pts) > 0 and broke):
        return f"the file is cut short: {whole} of {promised} frames are there"
    if name.startswith("matroska") and container.duration is not None:
        shown = [value for value in pts if value is not None]
        end = float(max(shown, default=0) * stream.time_base)
        claimed = container.duration / av.time_base
        if claimed - end > max(1.0, 0.02 * claimed):
            return (
                f"the file claims {claimed:.3f} s but its video ends at {end:.3f} s "
                f"({whole} frames): it may be cut short"
            )
    if broke:
        return f"the file is damaged after {whole} frames"
    return None


def _describe(
    container: InputContainer, stream: VideoStream, path: str, packets: _Packets
) -> VideoIndex:
    """The index as the packets claim it; times and sizes are filled in later."""
    if not packets.pts:
        raise VideoError(f"{path} has a video stream without a single frame: check the recording")
    context = stream.codec_context
    distrust = None
    if any(value is None for value in packets.pts):
        distrust = "packets without timestamps"
    elif len(set(packets.pts)) != len(packets.pts):
        distrust = "repeated timestamps"
    elif not any(packets.key):
        distrust = "no key frames marked"
    known = [0 if value is None else value for value in packets.pts]
    pts = np.asarray(known, dtype=np.int64)
    dts = np.asarray(
        [p if d is None else d for p, d in zip(known, packets.dts, strict=True)], dtype=np.int64
    )
    if distrust is None and np.any(np.diff(dts) < 0) and None not in packets.dts:
        distrust = "decode times that jump back"
    starts = np.flatnonzero(np.asarray(packets.key))
    if starts.size == 0 or starts[0] != 0:
        starts = np.insert(starts, 0, 0)
    info = VideoInfo(
        path=path,
        width=context.width,
        height=context.height,
        rotation_degrees=0,
        mirrored=False,
        codec=context.codec.canonical_name,
        container=container.format.name.split(",")[0],
        start_seconds=0.0,
        end_seconds=0.0,
        duration_seconds=0.0,
        num_frames=0,
        average_fps=0.0,
        has_audio=len(container.streams.audio) > 0,
        num_bytes=0,
    )
    return VideoIndex(
        info=info,
        time_base=stream.time_base,
        frame_pts=np.sort(pts[np.asarray(packets.usable, dtype=bool)]),
        packet_pts=pts,
        packet_dts=dts,
        gop_starts=starts.astype(np.int64),
        stored_size=(context.height, context.width),
        distrust=distrust,
        seekable=info.container in _SEEKABLE,
        nonref_skippable=_nonref_skippable(info.codec, context.extradata or b""),
        warnings=() if packets.cut_short is None else (packets.cut_short,),
    )


def _decode_first_frames(path: str, limits: DecodeLimits) -> _FirstFrames:
    """The first few frames, decoded plainly from the start."""
    container = open_container(path)
    found: list[int] = []
    errors = 0
    size, orientation = (0, 0), Orientation()
    try:
        stream = pick_stream(container, path, limits)
        packets = container.demux(stream)
        while len(found) < _CHECKED_FRAMES:
            try:
                packet = next(packets)
                frames = stream.codec_context.decode(packet)
            except (StopIteration, av.error.EOFError):
                break
            except (av.error.FFmpegError, OSError):
                errors += 1
                # A demuxer that fails ends its iteration, so this loop always ends.
                continue
            for frame in frames:
                if size == (0, 0):
                    size, orientation = (frame.height, frame.width), orientation_of(frame)
                errors += frame.is_corrupt
                pts = frame_pts(frame)
                if pts is not None:
                    found.append(pts)
    finally:
        container.close()
    if size == (0, 0):
        raise VideoError(f"{path} holds no frame that can be decoded: the file is damaged")
    if not found:
        raise VideoError(
            f"{path} has no timestamps: remux it, for example with ffmpeg -i IN -c copy out.mp4"
        )
    return _FirstFrames(found, errors, size, orientation)


def _checked(index: VideoIndex, first: _FirstFrames, path: str, limits: DecodeLimits) -> VideoIndex:
    """Compare the packets' claim with what came out of the decoder; decode all if they differ."""
    seen = sorted(first.pts)
    distrust = index.distrust
    if distrust is None and seen != first.pts:
        distrust = "frame times out of order"
    frames = index.frame_pts
    warnings = index.warnings
    if distrust is None:
        skipped = int(np.searchsorted(frames, seen[0]))
        claimed = frames[skipped : skipped + len(seen)].tolist()
        known = set(frames.tolist()) if claimed != seen else set()
        if claimed == seen or (first.errors and known.issuperset(seen)):
            frames = frames[skipped:]
            if skipped:
                warnings += (f"the first {skipped} frames lie before a key frame: not decodable",)
        else:
            distrust = "frame times other than the packets'"
    if distrust is not None:
        frames = np.asarray([pts for pts, _ in iterate_frames(path, limits)], dtype=np.int64)
        if frames.size == 0:
            raise VideoError(
                f"{path} has no timestamps: remux it, for example with ffmpeg -i IN -c copy out.mp4"
            )
        warnings += (f"the file has {distrust}: it is decoded from the start, which is slower",)
    return replace(index, frame_pts=frames, distrust=distrust, warnings=warnings)


def _with_times(index: VideoIndex, last_duration: int, limits: DecodeLimits) -> VideoIndex:
    """Fill in start, end, duration and rate from the frames' own times."""
    ticks = index.frame_pts
    if ticks.size > 1:
        typical = float(np.median(np.diff(ticks)))
    else:
        typical = 0.0
    seconds = index.frame_seconds
    # A last packet that claims to last for minutes is a muxer's slip, a slide show's last page is
    # not.
    longest = float(np.max(np.diff(ticks))) if ticks.size > 1 else float(last_duration)
    last = min(float(last_duration), max(longest, typical)) if last_duration > 0 else typical
    end = float(seconds[-1]) + last * float(index.time_base)
    duration = end - float(seconds[0])
    if duration > limits.max_seconds:
        raise VideoError(
            f"{index.info.path} is {duration:.0f} s long, at most {limits.max_seconds:.0f} s are "
            "allowed: cut the file or raise the limit max_seconds"
        )
    info = replace(
        index.info,
        start_seconds=float(seconds[0]),
        end_seconds=end,
        duration_seconds=duration,
        num_frames=int(ticks.size),
        average_fps=ticks.size / duration if duration > 0 else 0.0,
    )
    return replace(index, info=info)


def _nonref_skippable(codec: str, extradata: bytes) -> bool:
    """Whether FFmpeg's "skip non-reference frames" leaves all other pictures of this stream exact.

    In H.264 a picture with nal_ref_idc 0 and in MPEG-2/4 a B-picture is never referenced (ITU-T
    H.264, 7.4.1). In HEVC the same mark holds only within a temporal sub-layer (ITU-T H.265,
    7.4.2.2), so streams with more than one are decoded whole.
    """
    if codec in ("h264", "mpeg4", "mpeg2video", "mpeg1video"):
        return True
    return codec == "hevc" and _hevc_sub_layers(extradata) == 1


def _hevc_sub_layers(extradata: bytes) -> int | None:
    """Number of temporal sub-layers, from an hvcC record or an Annex B video parameter set."""
    if len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] >> 3) & 7 or None
    start = extradata.find(b"\x00\x00\x01\x40")
    if start < 0 or len(extradata) < start + 7:
        return None
    return ((extradata[start + 6] >> 1) & 7) + 1
