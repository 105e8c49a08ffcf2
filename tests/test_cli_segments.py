"""`timevlm segments`, `timevlm recognize`, `--prefilter`, and the lazy commands beside them."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from recognizers.minconv import MinConvClassifier, MinConvConfig
from tests.helpers import write_mp4
from tests.test_cli import FakeTimeVLM
from timevlm.cli import LAZY_COMMANDS, app, session
from timevlm.prefilter.usage import Usage
from timevlm.training.recognizers import LABELS, half_copy


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_mp4(tmp_path_factory.mktemp("video") / "video.mp4", 24, fps=2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    """A folder as the trainer writes it, random weights."""
    folder = tmp_path_factory.mktemp("recognizer")
    torch.manual_seed(0)
    config = MinConvConfig(num_classes=len(LABELS), stem_channels=(4, 8), num_layers=1)
    half_copy(MinConvClassifier(config, LABELS)).save_pretrained(folder)
    Usage(frame_size=(16, 16), fps=2.0, multi_label=True).save(folder)
    return str(folder)


def test_segments_table_json_and_csv(video, trained, tmp_path):
    text = run("segments", video, "--model", "novelty")
    assert text.exit_code == 0, text.stderr
    assert "segment" in text.stdout
    result = run("segments", video, "--model", trained, "--json")
    facts = json.loads(result.stdout)
    assert facts["num_frames"] == 24 == len(facts["scores"]["event"])
    assert facts["scores"]["seconds"] == [i / 2 for i in range(24)]
    for item in facts["segments"]:
        assert 0.0 <= item["start"] <= item["peak"] < item["end"] <= 12.0
        assert {entry["label"] for entry in item["labels"]} <= set(LABELS)
    target = tmp_path / "out.csv"
    run("segments", video, "--model", "novelty", "-o", str(target))
    rows = target.read_text().splitlines()
    assert rows[0] == "start,end,peak,score,label"
    cut = run("segments", video, "--model", "novelty", "--start", "4", "--end", "8", "--json")
    assert json.loads(cut.stdout)["num_frames"] == 8


def test_segments_draws_a_timeline(video, trained, tmp_path):
    picture = tmp_path / "timeline.png"
    result = run("segments", video, "--model", trained, "--png", str(picture))
    assert result.exit_code == 0, result.stderr
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 200


def test_recognize_lines_and_json(video, trained, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"class number {k}" for k in range(len(LABELS))))
    result = run("recognize", video, "--model", trained, "--labels", str(labels), "--every", "2")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 7  # 0, 2, ..., 10 s and the last frame
    assert lines[0].count("class number") == 5
    facts = json.loads(run("recognize", video, "--model", trained, "--json").stdout)
    probabilities = [c["probability"] for c in facts["times"][0]["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [t["seconds"] for t in facts["times"]][:2] == [0.0, 1.0]


def test_recognize_is_the_recognizer_on_the_decoded_frames(video, trained):
    from recognizers.base import StreamingRecognizer
    from timevlm.video.reader import open_video
    from timevlm.video.sampling import SamplingPlan

    model = StreamingRecognizer.from_pretrained(trained)
    with open_video(video, SamplingPlan(fps=2.0, resolution=(16, 16))) as reader:
        pixels = torch.cat([batch.pixels for batch in reader])
    with torch.inference_mode():
        expected = model(pixels[None]).sigmoid()[0].sort(descending=True).values[:5]
    facts = json.loads(run("recognize", video, "--model", trained, "--json").stdout)
    found = [c["probability"] for c in facts["times"][-1]["classes"]]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["segments", "VIDEO", "--model", "movinett"], "did you mean movinet"),
        (["segments", "VIDEO", "--png", "x.jpg"], "end it in .png"),
        (["segments", "missing.mp4", "--model", "novelty"], "does not exist"),
        (["segments", "VIDEO", "--model", "novelty", "--start", "99"], "no frames in the asked"),
        (["recognize", "VIDEO", "--model", "movinet-a0-stream"], "give --weights"),
        (["recognize", "VIDEO", "--model", "movinet-a0-strem"], "did you mean"),
        (["recognize", "VIDEO", "--weights", "no.pt"], "check the path of --weights"),
        (["recognize", "VIDEO", "--every", "0"], "above 0"),
        (["ask", "VIDEO", "what?", "--prefilter", "foo"], "no pre-filter is called 'foo'"),
    ],
)
def test_refusals_are_one_line_and_status_2(video, args, message):
    result = run(*[video if arg == "VIDEO" else arg for arg in args])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def vlm(monkeypatch, tmp_path) -> FakeTimeVLM:
    fake = FakeTimeVLM()
    monkeypatch.setattr(session, "load_model", lambda name, device: fake)
    monkeypatch.setenv("TIMEVLM_CACHE_DIR", str(tmp_path / "cache"))
    return fake


def test_prefilter_reaches_watch_with_what_the_question_names(vlm, video, trained):
    watched = []
    plain = vlm.watch

    def watch(source: Path, **options: object) -> object:
        watched.append(options.pop("prefilter", None))
        return plain(source, **options)

    vlm.watch = watch
    assert run("ask", video, "does it spin?").exit_code == 0
    assert watched == [None]
    for _ in range(2):  # the second time from the cache
        result = run("ask", video, "does it spin?", "--prefilter", trained)
        assert result.exit_code == 0, result.stderr
    run("ground", video, "the star bounces", "--prefilter", trained)
    run("caption", video, "--prefilter", trained)
    assert [p.named for p in watched[1:]] == [("spin",), ("bounce",), ()]


def test_a_saved_memory_refuses_a_prefilter(vlm, tmp_path):
    result = run("ask", str(tmp_path / "video.tvm"), "q", "--prefilter", "auto")
    assert "--prefilter cannot change the saved memory" in result.stderr


@pytest.mark.parametrize("name", sorted(LAZY_COMMANDS))
def test_lazy_commands_load_and_say_in_the_help_what_they_are(name):
    listed = " ".join(run("--help").stdout.split())
    command = app.get_command(None, name)
    assert command.name == name
    begin = LAZY_COMMANDS[name].short_help.removesuffix("...")
    assert " ".join(command.help.split()).startswith(begin)
    assert f"{name} {begin}" in listed
