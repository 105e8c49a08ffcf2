"""Published weights: every name of both releases has its place, and nothing else is taken."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from recognizers.errors import WeightsError
from recognizers.movinet import (
    ARCHITECTURES,
    MoViNet,
    architecture,
    load_published,
    name_table,
    published_state,
)
from tests.recognizers.movinet_networks import network, tiny_config, video

CONFIGS = {
    "stream": tiny_config(),
    "base": tiny_config(stream=False),
    "encoded": tiny_config(position_encoding=True),
}
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@configs
@pytest.mark.parametrize("release", ["port", "tensorflow"])
def test_weights_come_back_from_a_release(config, release):
    config = replace(config, position_encoding=config.position_encoding and release != "port")
    model = network(config)
    back = load_published(published_state(model, release), config=config)
    ours, theirs = model.state_dict(), back.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if "tracked" not in name)
    clip = video(1, 4)
    with torch.inference_mode():
        assert torch.equal(model(clip), back(clip))


@pytest.mark.parametrize("release", ["port", "tensorflow"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["a0", "a3", "a5"])
def test_tables_name_every_tensor_once(name, stream, release):
    config = architecture(name, stream=stream)
    if release == "port":
        config = replace(config, position_encoding=False)
    with torch.device("meta"):
        model = MoViNet(config)
    ours = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert sorted(name_table(config, release).values()) == sorted(ours)


def test_npz_of_the_tensorflow_release(tmp_path):
    model = network(replace(architecture("a0", stream=True), num_classes=7))
    arrays = {name: value.numpy() for name, value in published_state(model, "tensorflow").items()}
    # As in the release: kernels (h, w, in, out), depthwise ones (h, w, channels, 1).
    assert arrays["stem/stem/conv2d/conv2d/kernel:0"].shape == (3, 3, 3, 8)
    feature = "b1/l0/bneck/feature/"
    assert arrays[feature + "conv2d/depthwise_conv2d/depthwise_kernel:0"].shape == (3, 3, 80, 1)
    temporal = "conv2d_temporal/depthwise_conv2d/depthwise_kernel:0"
    assert arrays[feature + temporal].shape == (3, 1, 80, 1)
    np.savez(tmp_path / "a0.npz", **arrays)
    back = load_published(tmp_path / "a0.npz", labels=list("abcdefg"))
    assert back.config == model.config
    assert back.labels == tuple("abcdefg")
    clip = video(1, 3, 32, 40)
    with torch.inference_mode():
        assert torch.equal(model(clip), back(clip))


def test_tensorflow_names_may_be_spelled_as_any_release_does():
    model = network(tiny_config())

    def garden(name):
        """As the Model Garden's checkpoints, with Keras' numbers."""
        name = re.sub(r"^b(\d)/l(\d)/", r"block\1_layer\2/", name.removesuffix(":0"))
        name = name.replace("projection/conv2d/conv2d/", "projection/conv2d/conv2d_3/")
        return name.replace("bneck/scale", "bneck/rezero/scale")

    def trained(name, value):
        """As trained, before the conversion to 2-D: kernels with three extents."""
        if "temporal/" in name and value.ndim == 4:
            value = value.permute(0, 1, 3, 2).unsqueeze(1)
        elif value.ndim == 4:
            value = (value.permute(0, 1, 3, 2) if "depthwise" in name else value).unsqueeze(0)
        name = re.sub(r"conv2d(_temporal)?/(?:depthwise_)?conv2d/", r"conv3d\1/", name)
        return name.replace("depthwise_kernel", "kernel"), value

    released = published_state(model, "tensorflow")
    clip = video(1, 3)
    for renamed in (
        {garden(name): value for name, value in released.items()},
        dict(trained(name, value) for name, value in released.items()),
    ):
        assert renamed.keys() != released.keys()
        back = load_published(renamed, config=model.config)
        with torch.inference_mode():
            assert torch.equal(model(clip), back(clip))


def test_port_files_of_both_kinds(tmp_path):
    model = network(replace(architecture("a0", stream=False), num_classes=3))
    released = {name: value.clone() for name, value in published_state(model, "port").items()}
    assert released["blocks.b1_l0.deep.conv_1.conv3d.weight"].shape == (80, 1, 3, 3, 3)
    assert released["classifier.3.conv_1.conv3d.weight"].shape == (3, 2048, 1, 1, 1)
    save_file(released, tmp_path / "a0.safetensors")
    torch.save(released, tmp_path / "a0.pt")
    for path in (tmp_path / "a0.safetensors", tmp_path / "a0.pt"):
        back = load_published(path)
        assert back.config == model.config
        assert torch.equal(back.dense.weight, model.dense.weight)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_told_apart_by_their_names(name):
    for stream in (False, True):
        config = architecture(name, stream=stream)
        names = name_table(config, "tensorflow")
        others = [
            architecture(other, stream=kind)
            for other in ARCHITECTURES
            for kind in (False, True)
            if (other, kind) != (name, stream)
        ]
        assert all(name_table(other, "tensorflow").keys() != names.keys() for other in others)


def test_partial_foreign_and_ill_shaped_weights_are_refused(tmp_path):
    config = tiny_config()
    released = published_state(network(config), "port")
    missing = dict(list(released.items())[1:])
    with pytest.raises(WeightsError, match="1 names missing and 0 unknown"):
        load_published(missing, config=config)
    with pytest.raises(WeightsError, match=r"0 names missing and 1 unknown.*'extra'"):
        load_published({**released, "extra": torch.zeros(1)}, config=config)
    with pytest.raises(WeightsError, match="fit none of a0"):
        load_published(released)
    swapped = {**released, "conv1.conv_1.conv2d.weight": torch.zeros(8, 3, 5, 5)}
    with pytest.raises(WeightsError, match=r"stem\.conv\.weight has shape"):
        load_published(swapped, config=config)
    for name in ("a.npz", "a.safetensors", "a.pt"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(WeightsError, match="cannot be read"):
            load_published(tmp_path / name)
        with pytest.raises(WeightsError, match="cannot be read"):
            load_published(tmp_path / f"absent{name}")


def test_files_that_were_cut_or_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(published_state(network(tiny_config()), "port"), path)
    whole = path.read_bytes()
    for size in (len(whole) // 2, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="cannot be read"):
            load_published(path)
    for other in ({"state_dict": {}, "epoch": 3}, torch.zeros(2)):
        torch.save(other, path)
        with pytest.raises(WeightsError, match="holds no state dict"):
            load_published(path)
