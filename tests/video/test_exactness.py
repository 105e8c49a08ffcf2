"""Every frame that a reader hands out is the one that its timestamp says, on every kind of file."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.conftest import clip_files
from tests.video.synthesis import (
    HEIGHT,
    WIDTH,
    Recipe,
    constant_rate,
    read_numbers,
    remux,
    variable_rate,
    x264,
    x265,
)
from timevlm.video import DecodeLimits, SamplingPlan, open_video, probe
from timevlm.video.index import build_index
from timevlm.video.picture import (
    DecodeReport,
    Orientation,
    PictureConverter,
    orientation_of_matrix,
)
from timevlm.video.planned import IndexLiesError, decode_planned, plan_runs
from timevlm.video.sequential import decode_sequential

MS = Fraction(1, 1000)
LIMITS = DecodeLimits()
VP9 = {"g": "30", "deadline": "good", "cpu-used": "8", "lag-in-frames": "16"}

RECIPES = {
    "h264_cfr": Recipe(ticks=constant_rate(90), options=x264()),
    "h264_vfr": Recipe(ticks=variable_rate(90), time_base=MS, options=x264()),
    "h264_vfr_mkv": Recipe(ticks=variable_rate(90), time_base=MS, options=x264(), suffix="mkv"),
    "h264_23976": Recipe(
        ticks=constant_rate(90, 1001), time_base=Fraction(1, 24000), options=x264()
    ),
    "h264_open_gop": Recipe(ticks=constant_rate(90), options=x264(extra=":open-gop=1")),
    "h264_late_ts": Recipe(ticks=constant_rate(90, start=250), options=x264(), suffix="ts"),
    "h264_fragmented": Recipe(
        ticks=constant_rate(90),
        options=x264(),
        muxer_options={"movflags": "frag_keyframe+empty_moov"},
    ),
    "h264_in_avi": Recipe(ticks=constant_rate(90), options=x264(), suffix="avi"),
    "hevc_vfr": Recipe(
        ticks=variable_rate(90), time_base=MS, codec="libx265", options=x265(extra=":open-gop=0")
    ),
    "hevc_open_gop_mkv": Recipe(
        ticks=constant_rate(90), codec="libx265", options=x265(extra=":open-gop=1"), suffix="mkv"
    ),
    "hevc_late_ts": Recipe(
        ticks=constant_rate(90, start=250), codec="libx265", options=x265(), suffix="ts"
    ),
    "hevc_sub_layers": Recipe(
        ticks=constant_rate(90), codec="libx265", options=x265(extra=":temporal-layers=3")
    ),
    "h264_interlaced_ts": Recipe(
        ticks=constant_rate(90), options=x264(extra=":tff=1"), suffix="ts"
    ),
    "mpeg4": Recipe(ticks=constant_rate(90), codec="mpeg4", options={"bf": "2", "g": "30"}),
    "mpeg2_ps": Recipe(
        ticks=constant_rate(90), codec="mpeg2video", options={"bf": "2", "g": "30"}, suffix="mpg"
    ),
    "vp8": Recipe(
        ticks=constant_rate(90),
        codec="libvpx",
        options={"g": "30", "deadline": "realtime"},
        suffix="webm",
    ),
    "vp9": Recipe(ticks=constant_rate(90), codec="libvpx-vp9", options=VP9, suffix="webm"),
    "av1": Recipe(
        ticks=constant_rate(60),
        codec="libsvtav1",
        options={"g": "30", "preset": "8", "crf": "5", "svtav1-params": "lp=1"},
        suffix="mkv",
    ),
    "mjpeg_avi": Recipe(ticks=constant_rate(60), codec="mjpeg", suffix="avi"),
}
ALL = sorted(RECIPES)
# Containers that store times from another origin, or (AVI) decode times only.
SHIFTED = {
    "h264_interlaced_ts",
    "h264_late_ts",
    "hevc_late_ts",
    "mpeg2_ps",
    "h264_in_avi",
    "h264_fragmented",
}


def collect(path: Path, plan: SamplingPlan, **options: object) -> tuple[torch.Tensor, np.ndarray]:
    """(pixels, seconds) of everything a reader hands out, with its promises checked."""
    with open_video(path, plan, **options) as reader:
        promised = reader.planned_seconds.copy()
        batches = list(reader)
    seconds = torch.cat([batch.seconds for batch in batches]).numpy()
    np.testing.assert_array_equal(seconds, promised)
    assert reader.frames_decoded == len(promised)
    assert reader.frames_skipped == 0
    assert reader.decode_seconds > 0
    assert all(len(batch) <= options.get("batch_size", 32) for batch in batches)
    return torch.cat([batch.pixels for batch in batches]), seconds


@pytest.fixture(params=ALL)
def painted(request: pytest.FixtureRequest, make_file: object) -> tuple[str, Path, Recipe]:
    recipe = RECIPES[request.param]
    if recipe.codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {recipe.codec}")
    return request.param, make_file(request.param, recipe), recipe


def test_every_frame_and_time_is_exact(painted: tuple[str, Path, Recipe]) -> None:
    name, path, recipe = painted
    pixels, seconds = collect(path, SamplingPlan())
    assert read_numbers(pixels) == list(range(len(recipe.ticks)))
    shift = seconds[0] - recipe.seconds[0]
    assert abs(shift) < 1e-9 or name in SHIFTED
    # Constant up to the tick of the container (MKV: 1 ms, AVI: one frame).
    np.testing.assert_allclose(seconds - shift, recipe.seconds, atol=6e-4, rtol=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_sparse_frames_are_the_ones_on_screen(
    painted: tuple[str, Path, Recipe], workers: int
) -> None:
    _, path, recipe = painted
    plan = SamplingPlan(fps=3.0)
    pixels, seconds = collect(path, plan, workers=workers, batch_size=3)
    times = recipe.seconds - recipe.seconds[0]
    targets = np.arange(0, times[-1] + 1e-6, 1 / 3)
    expected = np.unique(np.searchsorted(times, targets + 1e-6, side="right") - 1)
    assert read_numbers(pixels) == expected.tolist()
    np.testing.assert_allclose(seconds - seconds[0], times[expected], atol=1.1e-3, rtol=0)


@pytest.mark.parametrize("step", [1, 7, 29])
def test_planned_equals_sequential(painted: tuple[str, Path, Recipe], step: int) -> None:
    _, path, _ = painted
    index = build_index(path, LIMITS)
    wanted = index.frame_pts[step // 2 :: step]
    compare_planned_and_sequential(index, wanted, expect_planned=index.distrust is None)


def compare_planned_and_sequential(
    index: object, wanted: np.ndarray, *, expect_planned: bool = True
) -> None:
    size = (48, 64)

    def converter() -> PictureConverter:
        return PictureConverter(size, index.stored_size, LIMITS)

    slow = list(decode_sequential(index.info.path, wanted, converter(), LIMITS, DecodeReport()))
    assert [position for position, _ in slow] == list(range(wanted.size))
    if not expect_planned:
        return
    for workers in (1, 2):
        fast = list(
            decode_planned(index, wanted, converter, LIMITS, DecodeReport(), workers=workers)
        )
        assert [position for position, _ in fast] == list(range(wanted.size))
        for (_, left), (_, right) in zip(fast, slow, strict=True):
            np.testing.assert_array_equal(left, right)


def test_only_the_avi_without_pts_is_not_planned(painted: tuple[str, Path, Recipe]) -> None:
    name, path, _ = painted
    index = build_index(path, LIMITS)
    assert (index.distrust is not None) == (name == "h264_in_avi")
    assert bool(index.warnings) == (name == "h264_in_avi")


def test_only_streams_without_sub_layers_skip_unreferenced_pictures(make_file: object) -> None:
    expected = {"h264_cfr": True, "hevc_vfr": True, "hevc_late_ts": True}
    expected |= {"hevc_sub_layers": False, "vp9": False}
    for name, skippable in expected.items():
        index = build_index(make_file(name, RECIPES[name]), LIMITS)
        assert index.nonref_skippable == skippable, name


@pytest.mark.parametrize("name", ["h264_open_gop", "hevc_open_gop_mkv", "mpeg4"])
def test_leading_pictures_are_decoded_from_the_group_before(name: str, make_file: object) -> None:
    recipe = RECIPES[name]
    index = build_index(make_file(name, recipe), LIMITS)
    starts = index.gop_starts[1:]
    gops = np.searchsorted(index.gop_starts, np.arange(index.packet_pts.size), side="right") - 1
    leading = np.flatnonzero(index.packet_pts < index.packet_pts[index.gop_starts[gops]])
    assert leading.size, "the file must hold pictures shown before their key frame"
    wanted = np.sort(index.packet_pts[leading])
    runs = plan_runs(index, wanted)
    assert all(run.first_packet < starts[0] or run.first_packet in starts for run in runs)
    assert runs[0].first_packet == 0
    compare_planned_and_sequential(index, wanted)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("isolate", [False, True])
def test_batching_and_isolation_change_nothing(
    make_file: object, batch_size: int, isolate: bool
) -> None:
    path = make_file("h264_vfr", RECIPES["h264_vfr"])
    plan = SamplingPlan(fps=9, resolution=(64, 96))
    pixels, seconds = collect(path, plan, batch_size=batch_size, isolate=isolate)
    reference, reference_seconds = collect(path, plan, workers=1)
    assert torch.equal(pixels, reference)
    np.testing.assert_array_equal(seconds, reference_seconds)
    assert pixels.shape[1:] == (3, 64, 96)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_orientation_is_applied(make_file: object, turn: int, mirrored: bool) -> None:
    recipe = Recipe(ticks=constant_rate(12), options=x264(), turn=turn, mirrored=mirrored)
    path = make_file(f"turned_{turn}_{mirrored}", recipe)
    info = probe(path)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert (info.rotation_degrees, info.mirrored) == (90 * turn, mirrored)
    for resolution in (None, (48, 64)):
        pixels, _ = collect(path, SamplingPlan(resolution=resolution), isolate=mirrored)
        assert read_numbers(pixels) == list(range(12))
        assert tuple(pixels.shape[-2:]) == (resolution or (HEIGHT, WIDTH))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_an_orientation_sends_points_where_its_matrix_does(turn: int, mirrored: bool) -> None:
    picture = np.arange(6).reshape(2, 3, 1)
    for x, y, scale in ((1, 0, 1.0), (0, 1, 0.4), (2, 1, 3.0)):
        moved = Orientation(turn, mirrored).apply(picture)
        row, column = np.argwhere(moved[:, :, 0] == picture[y, x, 0])[0]
        cosine, sine = round(np.cos(turn * np.pi / 2)), round(np.sin(turn * np.pi / 2))
        first = -1 if mirrored else 1
        matrix = scale * np.asarray([[first * cosine, -first * sine], [sine, cosine]])
        # Corners of the moved picture lie where the matrix sends those of the stored one.
        corners = np.asarray([[0, 0], [2, 0], [0, 1], [2, 1]]) @ matrix
        np.testing.assert_allclose(
            [x, y] @ matrix - corners.min(axis=0), scale * np.asarray([column, row])
        )
        flat = [*matrix[0] * 65536, 0, *matrix[1] * 65536, 0, 0, 0, 1 << 30]
        assert orientation_of_matrix([round(v) for v in flat]) == Orientation(turn, mirrored)


def test_a_display_matrix_is_rounded_to_the_nearest_orientation() -> None:
    tilted = [round(65536 * v) for v in (np.cos(0.6), -np.sin(0.6), np.sin(0.6))]
    assert orientation_of_matrix([*tilted[:2], 0, tilted[2], tilted[0], 0, 0, 0, 0]) == (
        Orientation()
    )
    assert orientation_of_matrix([0] * 9) == Orientation()


def test_edit_list_hides_its_frames(make_file: object) -> None:
    recipe = Recipe(
        ticks=constant_rate(90, start=-20),
        options=x264(),
        muxer_options={"avoid_negative_ts": "disabled"},
    )
    path = make_file("edit_list", recipe)
    assert build_index(path, LIMITS).packet_pts.size == 90
    pixels, seconds = collect(path, SamplingPlan(fps=25))
    assert read_numbers(pixels) == list(range(20, 90))
    np.testing.assert_allclose(seconds, np.arange(70) / 25, atol=1e-9)


@pytest.mark.parametrize(("name", "suffix"), [("mpeg4", "mp4"), ("hevc_vfr", "mkv")])
def test_wrong_key_frame_marks_are_noticed(
    make_file: object, tmp_path: Path, name: str, suffix: str
) -> None:
    def mark_all(number: int, packet: av.Packet) -> None:
        packet.is_keyframe = True

    path = remux(make_file(name, RECIPES[name]), tmp_path / f"lies.{suffix}", mark_all)
    index = build_index(path, LIMITS)
    assert index.gop_starts.size == index.packet_pts.size
    wanted = index.frame_pts[5::20]
    converter = PictureConverter((HEIGHT, WIDTH), index.stored_size, LIMITS)
    with pytest.raises(IndexLiesError):
        list(decode_planned(index, wanted, lambda: converter, LIMITS, DecodeReport(), workers=1))
    for workers in (1, 2):
        with open_video(path, SamplingPlan(), workers=workers) as reader:
            pixels = torch.cat([batch.pixels for batch in reader])
        assert read_numbers(pixels) == list(range(90))
        assert any("index does not match" in line for line in reader.warnings)


def test_repeated_timestamps_are_decoded_from_the_start(tmp_path: Path, make_file: object) -> None:
    source = make_file("mjpeg_avi", RECIPES["mjpeg_avi"])

    def repeat_tenth(number: int, packet: av.Packet) -> None:
        if number == 10:
            packet.pts = packet.dts = 9

    path = remux(source, tmp_path / "repeats.mkv", repeat_tenth)
    index = build_index(path, LIMITS)
    assert index.distrust == "repeated timestamps"
    with open_video(path, SamplingPlan()) as reader:
        numbers = read_numbers(torch.cat([batch.pixels for batch in reader]))
    assert numbers == [n for n in range(60) if n != 10]
    assert any("repeated timestamps" in line for line in reader.warnings)


def test_a_late_start_is_reported_as_it_is(make_file: object) -> None:
    path = make_file("h264_late_ts", RECIPES["h264_late_ts"])
    info = probe(path)
    assert info.start_seconds >= 10.0
    assert info.duration_seconds == pytest.approx(90 / 25, abs=1e-6)
    with open_video(path, SamplingPlan(start=info.start_seconds + 1, end=1e6, fps=1)) as reader:
        pixels = torch.cat([batch.pixels for batch in reader])
    assert read_numbers(pixels) == [25, 50, 75]


@pytest.mark.parametrize("clip", clip_files())
def test_real_clips_planned_equals_sequential(clip: Path) -> None:
    index = build_index(clip, LIMITS)
    stride = max(1, index.frame_pts.size // 12)
    wanted = index.frame_pts[stride // 2 : 900 : stride]
    assert index.distrust is None
    assert index.warnings == ()
    compare_planned_and_sequential(index, wanted)


@pytest.mark.parametrize("clip", clip_files())
def test_real_clips_times_are_the_decoders(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.best("video")
        decoded = []
        for frame in container.decode(stream):
            decoded.append(float(frame.pts * stream.time_base))
            if len(decoded) == 60:
                break
    seconds = build_index(clip, LIMITS).frame_seconds
    np.testing.assert_allclose(seconds[: len(decoded)], decoded, rtol=0, atol=1e-9)
    if clip.stem == "hamilton_whitehouse":
        assert seconds[0] == pytest.approx(0.852, abs=1e-3)
    if clip.stem == "nasa_jwst":
        info = probe(clip)
        assert info.end_seconds == pytest.approx(13.013, abs=0.01)
        assert (info.width, info.height) == (480, 270)
