import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.benchmarks import get
from eval.preflight import video_faults
from eval.records import Sample
from tests.eval.miniatures import build
from tests.eval.test_cli import timevlm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Charades with a whole video and one that was cut off in its middle."""
    folder = build("charades", tmp_path_factory.mktemp("preflight") / "data")
    video = folder / get_samples(folder)[-1].video
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    return folder


def get_samples(data: Path) -> list[Sample]:
    return list(get("charades").samples(data, "test"))


def test_broken_videos_are_found_and_whole_ones_are_not(data: Path) -> None:
    samples = get_samples(data)
    seen = []
    faults = video_faults(data, samples, on_video=lambda done, total: seen.append((done, total)))
    (problem,) = [fault for fault in faults if fault.level == "missing"]
    assert problem.paths == (samples[-1].video,)
    assert "cannot be decoded" in problem.what
    assert len(seen) == len({sample.video for sample in samples})
    assert seen[-1] == (len(seen), len(seen))
    gone = [replace(samples[0], video="gone.mp4")]
    assert video_faults(data, gone) == []  # what is missing is another check's


def test_videos_that_end_before_their_annotations_are_noted(data: Path) -> None:
    sample = get_samples(data)[0]
    longer = [replace(sample, extra={"duration": 60.0}), replace(sample, clip=(5.0, 30.0))]
    (problem,) = video_faults(data, longer)
    assert problem.level == "note"
    assert "of 60.0 s" in problem.what
    assert video_faults(data, [replace(sample, extra={"duration": 4.5})]) == []


def test_the_command_opens_the_videos_of_the_run(data: Path) -> None:
    command = ("charades", "--data", data, "--check-videos")
    result = timevlm(*command)
    assert result.exit_code == 0
    assert "cannot be decoded" in result.stdout
    problems = json.loads(timevlm(*command, "--json").stdout)
    assert {problem["level"] for problem in problems} >= {"missing"}
    assert "cannot be decoded" not in timevlm("charades", "--data", data, "--check").stdout
