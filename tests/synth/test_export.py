import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch

from timevlm.errors import InputError
from timevlm.synth.export import write_video
from timevlm.synth.render import render_frames
from timevlm.synth.world import sample_video


def _short_spec():
    """The first two scenes of a video, as a video of their own."""
    spec = sample_video(1)
    scenes = spec.scenes[:2]
    return dataclasses.replace(spec, scenes=scenes, duration_seconds=scenes[-1].end_seconds)


def test_the_file_has_the_frames_times_and_pictures_of_the_video(tmp_path):
    spec, path = _short_spec(), tmp_path / "folder" / "video.mp4"
    write_video(spec, path, fps=10, size=(96, 128))
    assert [p.name for p in path.parent.iterdir()] == ["video.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
    seconds = [float(frame.pts * frame.time_base) for frame in frames]
    assert seconds == pytest.approx([i / 10 for i in range(len(frames))], abs=1e-9)
    assert len(frames) == pytest.approx(spec.duration_seconds * 10, abs=1)
    # Both sides of the cut show what the spec says.
    cut = round(spec.scenes[1].start_seconds * 10)
    for number in (0, cut - 1, cut, len(frames) - 1):
        decoded = torch.from_numpy(frames[number].to_ndarray(format="rgb24")).permute(2, 0, 1)
        time = torch.tensor([number / 10], dtype=torch.float64)
        painted = render_frames([(spec, time)], (96, 128))[0]
        assert (decoded.float() - painted.float()).abs().mean() < 8.0


def test_sizes_that_the_pixel_format_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="95x96 at 25 fps cannot be written; use even sides"):
        write_video(_short_spec(), tmp_path / "video.mp4", size=(96, 95))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo_script_writes_a_video_and_its_answers(tmp_path):
    script = Path(__file__).resolve().parents[2] / "scripts" / "make_demo_video.py"
    path = tmp_path / "demo.mp4"
    command = [sys.executable, str(script), "--out", str(path), "--json"]
    data = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert data["duration_seconds"] >= 40
    assert data["split"] == "demo"
    assert len(data["captions"]) == len(data["timeline"]["scenes"]) >= 4
    assert all(q["answer"] in q["choices"] for q in data["questions"])
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(data["duration_seconds"], abs=0.05)
