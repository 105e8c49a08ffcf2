"""Reading checkpoints of every layout safely, and writing them in shards."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from timevlm.convert.checkpoint import (
    in_memory,
    matched,
    open_checkpoint,
    read_all,
    write_checkpoint,
)
from timevlm.errors import ModelError


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4), "b": torch.randn(2).half()}


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert torch.equal(left[name], right[name])


@pytest.mark.parametrize("max_shard_bytes", [1, 60, 1 << 20])
def test_written_shards_read_back(tmp_path, max_shard_bytes):
    given = tensors()
    files = write_checkpoint(tmp_path / "out", in_memory(given), max_shard_bytes)
    assert len(files) == {1: 3, 60: 2, 1 << 20: 1}[max_shard_bytes]
    assert not list((tmp_path / "out").glob("*.partial"))
    assert_same(read_all(open_checkpoint(tmp_path / "out").readers), given)


def test_shared_and_strided_tensors_are_written_whole(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    write_checkpoint(tmp_path, in_memory({"x": base.T, "y": base}))
    assert torch.equal(load_file(tmp_path / "model.safetensors")["x"], base.T)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_files(tmp_path, name, wrapped, legacy):
    given = tensors()
    value = {"model": {"a": {"weight": given["a.weight"], "bias": given["a.bias"]}}, "step": 3}
    if wrapped:
        value["model"]["b"] = given["b"]
    else:
        value = given
    torch.save(value, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert_same(read_all(open_checkpoint(tmp_path).readers), given)
    assert_same(read_all(open_checkpoint(tmp_path / name).readers), given)


def test_the_config_lies_beside_the_weights(tmp_path):
    save_file(tensors(), tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).config == {}
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert open_checkpoint(tmp_path / "model.safetensors").config == {"hidden_size": 8}


class Payload:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_code_in_a_pytorch_file_does_not_run(tmp_path, capsys):
    torch.save({"a": torch.zeros(1), "b": Payload()}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("x.pt", "y.pt"):
        with pytest.raises(ModelError, match="not loaded"):
            open_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_refusals_are_one_line(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    (tmp_path / "bad.pt").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    torch.save({"step": 3}, tmp_path / "empty.pt")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "bad.safetensors": "cannot read",
        "bad.pt": "damaged",
        "notes.txt": "no known type",
        "empty.pt": "no tensors",
        "empty": "0 weight files",
        "nowhere": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message) as caught:
            open_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/x.safetensors"])
def test_an_index_cannot_point_elsewhere(tmp_path, shard):
    index = {"weight_map": {"a": shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="own folder"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("places", [None, [], ["a"], {}, {"w": 5}, {"w": "../a.safetensors"}])
def test_an_index_without_file_names_is_refused(tmp_path, places):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelError, match="names no files of its own folder; fetch it again"):
        open_checkpoint(tmp_path)


def test_names_and_shapes_are_strict():
    readers = in_memory(tensors())
    shapes = {name: read().shape for name, read in readers.items()}
    assert list(matched(readers, dict(sorted(shapes.items())), "model")) == sorted(shapes)
    with pytest.raises(ModelError, match=r"lacks c, d; it has unknown b;"):
        matched(readers, {"a.weight": (4, 3), "a.bias": (4,), "c": (1,), "d": (1,)}, "model")
    many = in_memory({f"n{i:02d}": torch.zeros(1) for i in range(20)})
    with pytest.raises(ModelError, match=r"n00, .* and 12 more"):
        matched(many, {}, "model")
    wrong = matched(readers, {**shapes, "b": torch.Size([3])}, "model")
    with pytest.raises(ModelError, match=r"b has shape \(2,\)"):
        read_all(wrong)
