"""The interface that every recognizer shares: names, files, and state as a value."""

import json
import subprocess
import sys

import pytest
import torch

import recognizers
from recognizers import StreamingRecognizer
from recognizers.errors import (
    ConfigError,
    FrameError,
    RecognizerError,
    StateError,
    UnknownNameError,
    WeightsError,
)
from recognizers.movinet import MoViNet, MoViNetEnsemble
from tests.recognizers.movinet_networks import network, run, tiny_config, video


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean movinet-a0-stream"):
        recognizers.create("movinet-a0-steam")
    assert issubclass(RecognizerError, ValueError)


def test_every_available_name_has_a_family():
    names = recognizers.available()
    assert len(names) == len(set(names))
    assert {"movinet-a0-stream", "movinet-a5-base", "movinet-a6-stream"} <= set(names)


def test_the_package_stands_on_torch_alone():
    heavy = ("timevlm", "transformers", "av", "cv2", "onnx", "eval", "matplotlib")
    code = (
        "import sys, recognizers; recognizers.available(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labels_set_the_number_of_classes():
    model = recognizers.create("movinet-a0-stream", labels=["walk", "run", "rest"])
    assert model.labels == ("walk", "run", "rest")
    assert model.config.num_classes == 3
    assert recognizers.create("movinet-a0-stream", num_classes=2).labels == ("class 0", "class 1")


def test_labels_and_classes_must_agree():
    with pytest.raises(ConfigError, match="2 labels for 3 classes"):
        recognizers.create("movinet-a0-stream", num_classes=3, labels=["walk", "run"])


def test_saved_model_comes_back_through_the_base_class(tmp_path):
    model = network(tiny_config())
    model.labels = ("a", "b", "c", "d", "e")
    model.save_pretrained(tmp_path / "net")
    back = StreamingRecognizer.from_pretrained(tmp_path / "net")
    assert isinstance(back, MoViNet)
    assert back.config == model.config
    assert back.labels == model.labels
    clip = video(1, 3)
    assert torch.equal(back(clip), model(clip))
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_from_pretrained_refuses_another_family(tmp_path):
    network(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="holds a movinet recognizer"):
        MoViNetEnsemble.from_pretrained(tmp_path)


def test_from_pretrained_says_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(WeightsError, match="no recognizer in"):
        StreamingRecognizer.from_pretrained(tmp_path / "absent")
    with pytest.raises(WeightsError, match="cannot be read"):
        StreamingRecognizer.from_pretrained(tmp_path)
    network(tiny_config()).save_pretrained(tmp_path)
    header = json.loads((tmp_path / "config.json").read_text())
    header["config"]["head_channels"] = 40
    (tmp_path / "config.json").write_text(json.dumps(header))
    with pytest.raises(WeightsError, match="does not fit its config"):
        StreamingRecognizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="not of format"):
        StreamingRecognizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff")
    with pytest.raises(WeightsError, match="cannot be read"):
        StreamingRecognizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"family": "other"}, "family 'other', known are movinet"),
        ({"labels": ["one"]}, "describes no movinet recognizer .*1 labels"),
        ({"config": {"blocks": []}}, "describes no movinet recognizer .*stages"),
        ({"config": None}, "describes no movinet recognizer"),
        ({"config": ...}, "lacks config: save the model again"),
    ],
)
def test_from_pretrained_says_what_is_wrong_with_a_config(tmp_path, edit, message):
    network(tiny_config()).save_pretrained(tmp_path)
    header = json.loads((tmp_path / "config.json").read_text()) | edit
    kept = {name: value for name, value in header.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(WeightsError, match=message):
        StreamingRecognizer.from_pretrained(tmp_path)


def test_bytes_and_floats_are_the_same_frames():
    model = network(tiny_config())
    clip = (video(1, 2) * 255).round().to(torch.uint8)
    torch.testing.assert_close(model(clip), model(clip.float() / 255))


def test_normalize_applies_mean_and_std_per_channel():
    model = network(tiny_config())
    model.mean, model.std = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)
    ones = torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8)
    assert model.normalize(ones)[0, 0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 0.5])


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 2, 4, 8, 8), (1, 0, 3, 8, 8)])
def test_frames_of_another_shape_are_refused(shape):
    with pytest.raises(FrameError, match="batch, time, 3, height, width"):
        network(tiny_config())(torch.zeros(shape))


def test_saved_state_continues_the_stream(tmp_path):
    model = network(tiny_config())
    frames = video(2, 5)
    whole, _ = run(model, frames, 5)
    _, state = run(model, frames[:, :3], 3)
    recognizers.save_state(state, tmp_path / "state.safetensors")
    back = recognizers.load_state(tmp_path / "state.safetensors")
    assert back.keys() == state.keys()
    logits, _ = run(model, frames[:, 3:], 2, back)
    torch.testing.assert_close(logits, whole[:, 3:])
    (tmp_path / "broken").write_bytes(b"no")
    with pytest.raises(StateError, match="no saved state"):
        recognizers.load_state(tmp_path / "broken")


def test_rows_split_and_join_without_loss():
    model = network(tiny_config())
    _, state = run(model, video(3, 4), 4)
    rows = [recognizers.select_rows(state, row) for row in (2, 0)]
    joined = recognizers.concat_rows(rows)
    expected = recognizers.select_rows(state, torch.tensor([2, 0]))
    assert all(torch.equal(joined[name], expected[name]) for name in state)
    middle = recognizers.select_rows(state, slice(1, 2))
    assert all(torch.equal(middle[name], state[name][1:2]) for name in state)


def test_states_of_other_sizes_do_not_join():
    model = network(tiny_config())
    small, large = model.init_state(1, 16, 16), model.init_state(1, 32, 32)
    with pytest.raises(StateError, match=r"differ in blocks\.1\.buffer"):
        recognizers.concat_rows([small, large])
    with pytest.raises(StateError, match="at least one"):
        recognizers.concat_rows([])


def test_state_can_be_measured_moved_and_detached():
    model = network(tiny_config())
    _, state = model.step(video(1, 2), model.init_state(1, 19, 26))
    assert state["head.total"].requires_grad
    free = recognizers.detach(state)
    assert not any(leaf.requires_grad for leaf in free.values())
    assert recognizers.to_device(free, "meta")["head.total"].is_meta
    expected = sum(leaf.numel() * leaf.element_size() for leaf in state.values())
    assert recognizers.num_bytes(state) == expected
