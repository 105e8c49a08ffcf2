"""decord and torchcodec behind the same contract; their absence is an error with the install
command."""

import importlib.util

import pytest
import torch

from tests.video.synthesis import Recipe, constant_rate, read_numbers, variable_rate, x264, x265
from tests.video.test_exactness import MS
from timevlm.errors import VideoError
from timevlm.video import SamplingPlan, open_video

OPTIONAL = ("decord", "torchcodec")
RECIPES = {
    "h264_cfr": Recipe(ticks=constant_rate(90), options=x264()),
    "h264_vfr_mkv": Recipe(ticks=variable_rate(90), time_base=MS, options=x264(), suffix="mkv"),
    "h264_turned": Recipe(ticks=constant_rate(12), options=x264(), turn=1),
}


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("backend", ["pyav", *OPTIONAL])
def test_every_backend_is_exact(make_file: object, backend: str, name: str) -> None:
    if backend in OPTIONAL:
        pytest.importorskip(backend, reason=f"package {backend} is not installed")
    path = make_file(f"backend_{name}", RECIPES[name])
    with open_video(path, SamplingPlan(), backend=backend, batch_size=16) as reader:
        batches = list(reader)
    pixels = torch.cat([batch.pixels for batch in batches])
    seconds = torch.cat([batch.seconds for batch in batches]).numpy()
    assert read_numbers(pixels) == list(range(len(RECIPES[name].ticks)))
    assert seconds == pytest.approx(RECIPES[name].seconds, abs=1e-9)


@pytest.mark.parametrize("backend", OPTIONAL)
@pytest.mark.parametrize("isolate", [False, True])
def test_an_absent_backend_names_its_install_command(
    make_file: object, backend: str, isolate: bool
) -> None:
    if importlib.util.find_spec(backend) is not None:
        pytest.skip(f"package {backend} is installed")
    path = make_file("backend_h264_cfr", RECIPES["h264_cfr"])
    with (
        pytest.raises(VideoError, match=rf"pip install 'timevlm\[{backend}\]'"),
        open_video(path, SamplingPlan(), backend=backend, isolate=isolate) as reader,
    ):
        list(reader)


@pytest.mark.parametrize("backend", OPTIONAL)
@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (
            Recipe(
                ticks=constant_rate(30, start=250), codec="libx265", options=x265(), suffix="ts"
            ),
            "returns wrong frames for hevc in mpegts: use backend pyav",
        ),
        (
            Recipe(ticks=constant_rate(12), options=x264(), turn=1, mirrored=True),
            "cannot mirror the pictures of .*: use backend pyav",
        ),
    ],
    ids=["hevc_ts", "mirrored"],
)
def test_files_that_a_backend_gets_wrong_are_refused(
    make_file: object,
    backend: str,
    recipe: Recipe,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from timevlm.video import backends

    monkeypatch.setattr(backends, "load_backend", lambda name: backends)
    path = make_file(f"backend_refused_{recipe.codec}", recipe)
    with (
        pytest.raises(VideoError, match=f"{backend} {complaint}"),
        open_video(path, SamplingPlan(), backend=backend) as reader,
    ):
        list(reader)
