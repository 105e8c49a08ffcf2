"""Every bad input has its own one-line error, and a damaged file gives what it still holds."""

import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.video.synthesis import Recipe, constant_rate, read_numbers, remux, write_audio, x264
from timevlm.errors import PlanError, VideoError
from timevlm.video import DecodeLimits, SamplingPlan, open_video, probe, source

GOOD = Recipe(ticks=constant_rate(90), options=x264())
FASTSTART = Recipe(ticks=constant_rate(90), options=x264(), muxer_options={"movflags": "faststart"})
MKV = Recipe(ticks=constant_rate(90), options=x264(), suffix="mkv")


def refuse(path: Path | str, message: str, plan: SamplingPlan | None = None, **options) -> None:
    """The same one-line error in this process and from a child process."""
    texts = []
    for isolate in (False, True):
        with pytest.raises((VideoError, PlanError), match=message) as caught:
            open_video(path, plan or SamplingPlan(), isolate=isolate, **options)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "\n" not in texts[0]
    assert "Errno" not in texts[0]
    assert "Traceback" not in texts[0]


def numbers_and_reader(path: Path, plan: SamplingPlan | None = None, **options) -> tuple:
    with open_video(path, plan or SamplingPlan(), **options) as reader:
        batches = list(reader)
    return read_numbers(torch.cat([batch.pixels for batch in batches])), reader


def cut(path: Path, target: Path, share: float) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_missing_file(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.mp4", r"absent\.mp4 does not exist: check the path")


def test_folder(tmp_path: Path) -> None:
    refuse(tmp_path, "is a folder: give one video file")


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    refuse(tmp_path / "pipe.mp4", "is not a regular file")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refuse(tmp_path / "empty.mp4", r"is empty \(0 bytes\)")


def test_text_renamed(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all\n" * 500)
    refuse(tmp_path / "text.mp4", "is not a video that timevlm can read")


def test_random_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8)
    (tmp_path / "noise.mp4").write_bytes(noise.tobytes())
    refuse(tmp_path / "noise.mp4", "is not a video that timevlm can read")


def test_playlist_renamed(tmp_path: Path) -> None:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n"
    (tmp_path / "list.mp4").write_text(text)
    refuse(tmp_path / "list.mp4", "is not a video that timevlm can read")


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.mp4", "rtsp://x/y", "file:///etc/passwd"])
def test_url(url: str) -> None:
    refuse(url, "is a URL: only local files are read, download it first")


def test_protocol_in_a_file_name_is_only_a_name(tmp_path: Path) -> None:
    refuse("concat:a.mp4|b.mp4", r"concat:a\.mp4\|b\.mp4 does not exist")


def test_unreadable(tmp_path: Path, make_file: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.mp4"
    path.write_bytes(make_file("good", GOOD).read_bytes())
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything: let the system call itself refuse

        def refused(*arguments: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(source, "open", refused, raising=False)
    with pytest.raises(VideoError, match="is not readable: check its permissions"):
        probe(path)


def test_audio_only(tmp_path: Path) -> None:
    refuse(write_audio(tmp_path / "sound.mp4"), r"has no video stream \(audio streams only\)")


def test_cover_art_is_not_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = np.zeros((64, 64, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuvj420p")
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    refuse(path, r"has no video stream \(audio, video streams only\)")


def test_nothing_in_the_range(make_file: object) -> None:
    path = make_file("good", GOOD)
    message = r"no frames in the asked range 99-end s: the video runs from 0\.000 to 3\.600 s"
    refuse(path, message, SamplingPlan(start=99))


def test_end_before_start() -> None:
    with pytest.raises(PlanError, match="end=3 s is not after start=7 s"):
        SamplingPlan(start=7, end=3)


def test_absurd_dimensions_in_the_header(make_file: object, tmp_path: Path) -> None:
    source_path = make_file("ffv1", Recipe(ticks=(0, 1, 2), codec="ffv1", suffix="avi"))
    data = bytearray(source_path.read_bytes())
    size_at = data.index(b"strf") + 12  # BITMAPINFOHEADER: size, width, height
    data[size_at : size_at + 8] = (12000).to_bytes(4, "little") * 2
    (tmp_path / "huge.avi").write_bytes(data)
    refuse(tmp_path / "huge.avi", "has pictures of 12000x12000, at most 35651584 pixels")


def test_absurd_dimensions_that_not_even_ffmpeg_takes(tmp_path: Path) -> None:
    side = (65000).to_bytes(2, "little")
    image = b"\x2c\0\0\0\0" + side + side + b"\0\x02\x02\x4c\x01\0"
    header = b"GIF89a" + side + side + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    (tmp_path / "huge.gif").write_bytes(header + image + b"\x3b")
    refuse(tmp_path / "huge.gif", "holds no frame that can be decoded")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_pixels_per_frame": 9999}, "has pictures of 128x96, at most 9999 pixels"),
        ({"max_bytes": 999}, r"bytes, at most 999 are allowed"),
        ({"max_seconds": 2.0}, "is 4 s long, at most 2 s are allowed"),
        ({"max_frames": 50}, "the plan selects 90 frames, at most 50 are allowed"),
    ],
)
def test_limits(make_file: object, limits: dict, message: str) -> None:
    refuse(make_file("good", GOOD), message, limits=DecodeLimits(**limits))


def test_the_picture_size_is_checked_on_every_frame(tmp_path: Path) -> None:
    """A stream that grows after its first frames: large frames are skipped, counted, not
    allocated."""
    path = tmp_path / "grows.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number in range(20):
            side = 64 if number < 12 else 640
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = side, side, "yuvj420p"
            encoder.time_base = Fraction(1, 10)
            picture = np.full((side, side, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuvj420p")
            for packet in encoder.encode(frame):
                packet.pts = packet.dts = number * 100
                packet.time_base = Fraction(1, 1000)
                packet.stream = stream
                container.mux(packet)
    limits = DecodeLimits(max_pixels_per_frame=100 * 100)
    for isolate in (False, True):
        with open_video(path, SamplingPlan(), limits=limits, isolate=isolate) as reader:
            batches = list(reader)
        assert reader.frames_decoded == 12
        assert reader.frames_skipped == 8
        assert batches[0].pixels.shape[-2:] == (64, 64)
        assert any("8 of 20 planned frames" in line for line in reader.warnings)
    with open_video(path, SamplingPlan()) as reader:
        batches = list(reader)
    assert reader.frames_decoded == 20
    assert all(batch.pixels.shape[-2:] == (64, 64) for batch in batches)
    assert any("picture size changes to 640x640" in line for line in reader.warnings)


def test_mp4_without_its_index(make_file: object, tmp_path: Path) -> None:
    path = cut(make_file("good", GOOD), tmp_path / "cut.mp4", 0.6)
    refuse(path, r"is an MP4 without its index \(no moov box\)")


@pytest.mark.parametrize("isolate", [False, True])
def test_faststart_mp4_cut_at_60_percent(make_file: object, tmp_path: Path, isolate: bool) -> None:
    path = cut(make_file("faststart", FASTSTART), tmp_path / "cut.mp4", 0.6)
    numbers, reader = numbers_and_reader(path, isolate=isolate)
    assert 10 < len(numbers) < 80
    # At the cut, a picture may be there while others, shown before it, are not.
    assert numbers[:-3] == list(range(len(numbers) - 3))
    assert numbers == [round(25 * second) for second in reader.planned_seconds]
    assert any("is cut short" in line and "of 90 frames" in line for line in reader.warnings)
    assert reader.frames_decoded == len(numbers)


def test_mkv_cut_at_60_percent(make_file: object, tmp_path: Path) -> None:
    path = cut(make_file("whole_mkv", MKV), tmp_path / "cut.mkv", 0.6)
    numbers, reader = numbers_and_reader(path)
    assert 10 < len(numbers) < 80
    assert any("cut short" in line for line in reader.warnings)


def test_broken_frames_are_skipped_and_counted(make_file: object, tmp_path: Path) -> None:
    # Every picture stands alone, so that exactly the broken ones are lost.
    recipe = Recipe(ticks=constant_rate(40), codec="mjpeg", suffix="mkv")
    source_path = make_file("mjpeg_mkv", recipe)

    def break_some(number: int, packet: av.Packet) -> None:
        if number in (7, 21, 22):
            packet.update(bytes(packet.size))

    path = remux(source_path, tmp_path / "broken.mkv", break_some)
    for isolate in (False, True):
        numbers, reader = numbers_and_reader(path, isolate=isolate, workers=2)
        assert numbers == [n for n in range(40) if n not in (7, 21, 22)]
        assert reader.frames_skipped == 3
        assert len(reader.planned_seconds) == 40
        assert any("3 of 40 planned frames" in line for line in reader.warnings)


def test_a_damaged_stretch_costs_its_own_frames_only(make_file: object, tmp_path: Path) -> None:
    source_path = make_file("good", GOOD)

    def break_group(number: int, packet: av.Packet) -> None:
        if 32 <= number < 50:
            size = packet.size - 4
            packet.update(size.to_bytes(4, "big") + b"\x41" + b"\xff" * (size - 1))

    path = remux(source_path, tmp_path / "stretch.mp4", break_group)
    numbers, reader = numbers_and_reader(path, workers=1)
    assert set(range(30)) | set(range(60, 90)) <= set(numbers)
    assert reader.frames_decoded + reader.frames_skipped == 90


def test_nothing_decodes(make_file: object, tmp_path: Path) -> None:
    recipe = Recipe(ticks=constant_rate(40), codec="mjpeg", suffix="mkv")
    source_path = make_file("mjpeg_mkv", recipe)

    def break_all(number: int, packet: av.Packet) -> None:
        packet.update(bytes(packet.size))

    path = remux(source_path, tmp_path / "dead.mkv", break_all)
    refuse(path, "holds no frame that can be decoded")


def test_recording_that_starts_between_key_frames(make_file: object, tmp_path: Path) -> None:
    recipe = Recipe(ticks=constant_rate(90), options=x264(), suffix="ts")
    source_path = make_file("whole_ts", recipe)
    path = remux(source_path, tmp_path / "tail.ts", lambda number, packet: number >= 12)
    numbers, reader = numbers_and_reader(path)
    assert numbers == list(range(30, 90))
    assert reader.frames_skipped == 0
    assert any("before a key frame" in line for line in reader.warnings)


def test_unknown_backend_and_bad_counts(make_file: object) -> None:
    path = make_file("good", GOOD)
    from timevlm.errors import ChoiceError

    with pytest.raises(ChoiceError, match="unknown video backend 'opencv': use one of auto, pyav"):
        open_video(path, SamplingPlan(), backend="opencv")
    with pytest.raises(PlanError, match="batch_size=0 must be 1 or more"):
        open_video(path, SamplingPlan(), batch_size=0)
    with pytest.raises(PlanError, match="wall_seconds=0 must be above 0"):
        DecodeLimits(wall_seconds=0)


def test_errors_come_at_once(tmp_path: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(VideoError):
        open_video(tmp_path / "absent.mp4", SamplingPlan())
    assert time.perf_counter() - started < 1.0
