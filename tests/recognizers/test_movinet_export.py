"""The exported step is the step: same logits and same state, fed back, in onnxruntime."""

import pytest
import torch

from recognizers.errors import RecognizerError, StateError
from recognizers.movinet import export, export_step, fused, onnx_inputs
from tests.recognizers.movinet_networks import network, tiny_config, video


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "config", "num_frames"),
    [
        (lambda model: model, tiny_config(), 2),
        (fused, tiny_config(), 1),
        (lambda model: model, tiny_config(position_encoding=True, conv_type="3d"), 1),
    ],
    ids=["plain", "fused", "encoded 3d"],
)
def test_onnxruntime_streams_as_torch_does(tmp_path, make, config, num_frames):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make(network(config))
    frames = video(1, 5 * num_frames, 19, 26)
    path = export_step(model, tmp_path / "step.onnx", num_frames=num_frames, height=19, width=26)
    assert [file.name for file in tmp_path.iterdir()] == ["step.onnx"]
    session = onnxruntime.InferenceSession(path)
    state = model.init_state(1, 19, 26)
    assert [entry.name for entry in session.get_inputs()] == ["frames", *state]
    outputs = [entry.name for entry in session.get_outputs()]
    assert outputs == ["logits", *(f"next.{name}" for name in state)]
    theirs = state
    with torch.inference_mode():
        for chunk in frames.split(num_frames, dim=1):
            logits, state = model.step(chunk, state)
            found = dict(zip(outputs, session.run(None, onnx_inputs(chunk, theirs)), strict=True))
            torch.testing.assert_close(
                torch.from_numpy(found["logits"]), logits, atol=1e-4, rtol=1e-4
            )
            theirs = {name: torch.from_numpy(found[f"next.{name}"]) for name in state}
    for name in state:
        torch.testing.assert_close(theirs[name], state[name], atol=1e-4, rtol=1e-4)


def test_a_base_network_has_no_step_to_export(tmp_path):
    pytest.importorskip("onnxscript")
    with pytest.raises(StateError, match="cannot stream"):
        export_step(network(tiny_config(stream=False)), tmp_path / "x.onnx", height=19, width=26)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecognizerError, match="pip install onnx onnxscript onnxruntime"):
        export_step(network(tiny_config()), tmp_path / "x.onnx", height=19, width=26)
