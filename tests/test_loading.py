"""Finding and loading models, and what is said when that fails."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import save_tiny
from timevlm import loading
from timevlm.errors import ModelError
from timevlm.loading import load_model, resolve_device, resolve_dtype


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "good")


@pytest.fixture
def folder(good, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(good, tmp_path / "model")


def refusal(name: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(name, dtype=torch.float32)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("as_text", [False, True])
def test_a_folder_loads(good, as_text):
    model, processor = load_model(str(good) if as_text else good, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert processor.tokens_per_frame == model.config.tokens_per_frame


def test_embedded_models_come_by_name(good, monkeypatch):
    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", good.parent)
    assert loading.embedded_models() == ["good"]
    model, _ = load_model("good", dtype=torch.float32)
    assert model.config.model_type == "timevlm"


def test_a_misspelt_name_gets_a_suggestion(good, monkeypatch):
    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", good.parent)
    assert "did you mean 'good'?" in refusal("goood")
    assert "embedded: good" in refusal("zzz")


def test_a_folder_without_configuration(tmp_path):
    assert "has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "\x00\x01", ""])
def test_a_configuration_that_is_no_json(folder, text):
    (folder / "config.json").write_text(text)
    assert "is no JSON" in refusal(folder)


def test_another_kind_of_model(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    message = refusal(folder)
    assert "holds a 'llama' model" in message
    assert "timevlm.convert" in message


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refusal(folder)


def test_damaged_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in refusal(folder)


def test_pickled_weights_are_not_read(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert "cannot be loaded" in refusal(folder)


def change_weights(folder, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_missing_tensor_is_an_error(folder):
    change_weights(folder, lambda t: t.pop("llm.backbone.alpha"))
    message = refusal(folder)
    assert "1 missing ['llm.backbone.alpha'], 0 unexpected" in message


def test_an_unexpected_tensor_is_an_error(folder):
    change_weights(folder, lambda t: t.update(extra=torch.zeros(1)))
    assert "0 missing [], 1 unexpected ['extra']" in refusal(folder)


def test_a_tensor_of_another_shape_is_an_error(folder):
    change_weights(folder, lambda t: t.update({"llm.backbone.alpha": torch.zeros(7)}))
    assert "1 of another shape ['llm.backbone.alpha']" in refusal(folder)


def test_model_and_processor_must_agree(folder):
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokens_per_frame": 9}))
    assert "has 2 tokens a frame, its processor 9" in refusal(folder)


def test_a_missing_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "cannot be loaded" in refusal(folder)


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match="use auto, cpu, cuda or mps"):
        resolve_device("gpu")
    with pytest.raises(ModelError, match="'cuda:99' cannot be used here"):
        resolve_device("cuda:99")


def test_dtypes():
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(ModelError, match="use auto, float32, bfloat16, float16"):
        resolve_dtype("int8", torch.device("cpu"))
