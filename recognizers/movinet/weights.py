"""Published MoViNet weights under our names: a visible table, one column a release.

The PyTorch port (Atze00/MoViNet-pytorch) carries the authors' released weights as state dicts; the
TensorFlow release (Model Garden, official/projects/movinet) names tensors as Keras layers do, read
here from an .npz of those names. No pickle is run: a .pt is opened with `weights_only`.

A name on either side that finds no partner is an error.
"""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from recognizers.errors import WeightsError
from recognizers.movinet.config import ARCHITECTURES, MoViNetConfig, architecture
from recognizers.movinet.model import MoViNet

Release = Literal["port", "tensorflow"]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of ours beside its two published names."""

    ours: str
    port: str
    tensorflow: str
    has_norm: bool  # a convolution without bias and a batch norm; else weight and bias
    is_depthwise: bool = False


# name of ours         the port's module      the TensorFlow layer
_STEM = _Layer("stem", "conv1.conv_1", "stem/stem", True)
_EXPAND = _Layer("expand", "expand.conv_1", "bneck/expansion", True)
_SPATIAL = _Layer("spatial", "deep.conv_1", "bneck/feature", True, True)
_VOLUME = _Layer("temporal", "deep.conv_1", "bneck/feature", True, True)  # a 3-D convolution
_TEMPORAL = _Layer("temporal", "deep.conv_2", "bneck/feature", True, True)
_REDUCE = _Layer("squeeze.reduce", "se.fc1.conv_1", "bneck/se/se_reduce", False)
_EXCITE = _Layer("squeeze.expand", "se.fc2.conv_1", "bneck/se/se_expand", False)
_PROJECT = _Layer("project", "project.conv_1", "bneck/projection", True)
_SKIP = _Layer("skip", "res.0.conv_1", "bneck/skip/skip_project", True)
_POOLED_SKIP = _Layer("skip", "res.1.conv_1", "bneck/skip/skip_project", True)  # res.0 is the pool
_HEAD = _Layer("head", "conv7.conv_1", "head/project", True)
_DENSE = _Layer("dense", "classifier.0.conv_1", "classifier_head/head", False)
_CLASSIFIER = _Layer("classifier", "classifier.3.conv_1", "classifier_head/classifier", False)
# Scalars of a block; the port has no position encoding.
_SCALE = ("scale", "alpha", "bneck/scale:0")
_POSITION_SCALE = ("squeeze.position_scale", None, "bneck/se/positional_encoding/scale:0")
# Leaves of a batch norm.
_NORM = {
    "weight": "gamma:0",
    "bias": "beta:0",
    "running_mean": "moving_mean:0",
    "running_var": "moving_variance:0",
}


def name_table(config: MoViNetConfig, release: Release) -> dict[str, str]:
    """Published name -> our name, for every tensor that a network of this config has.

    Batch norm's `num_batches_tracked` is left out: the port counts it, TensorFlow does not.
    """
    return {
        theirs: ours
        for ours, port, tensorflow in _names(config)
        if (theirs := port if release == "port" else tensorflow) is not None
    }


def _names(config: MoViNetConfig) -> Iterator[tuple[str, str | None, str]]:
    for layer in (_STEM, _HEAD, _DENSE, _CLASSIFIER):
        yield from _layer_names(layer, config, "", "", "")
    index = 0
    for stage_index, stage in enumerate(config.stages):
        for block_index, block in enumerate(stage):
            prefixes = (
                f"blocks.{index}.",
                f"blocks.b{stage_index}_l{block_index}.",
                f"b{stage_index}/l{block_index}/",
            )
            layers = [_EXPAND, _PROJECT]
            if config.conv_type == "3d" and block.kernel[0] > 1:
                layers.append(_VOLUME)
            else:
                layers += [_SPATIAL] + [_TEMPORAL] * (block.kernel[0] > 1)
            if config.squeeze_type != "none":
                layers += [_REDUCE, _EXCITE]
            if block.has_skip_projection:
                layers.append(_POOLED_SKIP if block.stride == 2 else _SKIP)
            for layer in layers:
                yield from _layer_names(layer, config, *prefixes)
            scalars = [_SCALE] + [_POSITION_SCALE] * config.position_encoding
            for ours, port, tensorflow in scalars:
                yield (
                    prefixes[0] + ours,
                    port and prefixes[1] + port,
                    prefixes[2] + tensorflow,
                )
            index += 1


def _layer_names(
    layer: _Layer, config: MoViNetConfig, ours: str, port: str, tensorflow: str
) -> Iterator[tuple[str, str, str]]:
    ours, port, tensorflow = ours + layer.ours, port + layer.port, tensorflow + layer.tensorflow
    rank = "3d" if config.conv_type == "3d" else "2d"
    suffix = "_temporal" if layer is _TEMPORAL else ""
    depthwise = "depthwise_" if layer.is_depthwise and rank == "2d" else ""
    # A 2-D convolution sits inside a wrapper of its own in TensorFlow.
    inner = f"conv{rank}{suffix}" + (f"/{depthwise}conv2d" if rank == "2d" else "")
    port_conv, tensorflow_conv = f"{port}.conv{rank}", f"{tensorflow}/{inner}"
    if not layer.has_norm:
        yield f"{ours}.weight", f"{port_conv}.weight", f"{tensorflow_conv}/kernel:0"
        yield f"{ours}.bias", f"{port_conv}.bias", f"{tensorflow_conv}/bias:0"
        return
    yield f"{ours}.conv.weight", f"{port_conv}.weight", f"{tensorflow_conv}/{depthwise}kernel:0"
    for leaf, tensorflow_leaf in _NORM.items():
        yield (
            f"{ours}.norm.{leaf}",
            f"{port}.norm.{leaf}",
            f"{tensorflow}/bn{suffix}/{tensorflow_leaf}",
        )


# Spellings of the same layer that the releases use: the hub's modules and the Model Garden's
# checkpoints, with convolutions that Keras numbered, trained as 3-D and converted to 2-D.
_SPELLINGS = (
    (re.compile(r":0$"), ""),
    (re.compile(r"^block(\d+)_layer(\d+)/"), r"b\1/l\2/"),
    (re.compile(r"^(b\d+/l\d+/)(?!bneck/)"), r"\1bneck/"),
    (re.compile(r"rezero/scale$"), "scale"),
    (re.compile(r"positional_encoding_\d+/"), "positional_encoding/"),
    (re.compile(r"/(conv2d(?:_temporal)?)/(?:depthwise_)?conv2d(?:_\d+)?/"), r"/\1/"),
    (re.compile(r"/conv[23]d(_temporal)?/"), r"/conv\1/"),
    (re.compile(r"depthwise_kernel$"), "kernel"),
)


def _canonical(name: str) -> str:
    for pattern, replacement in _SPELLINGS:
        name = pattern.sub(replacement, name)
    return name


def load_published(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    config: MoViNetConfig | None = None,
    labels: Sequence[str] | None = None,
) -> MoViNet:
    """A MoViNet with published weights, in eval mode.

    Args:
        source: the port's state dict as a file (.safetensors, or .pt read with weights_only), an
            .npz of the TensorFlow release's names, or a mapping of either.
        config: the architecture; found from the names where it is one of A0 to A5.
        labels: class names.

    Raises:
        WeightsError: the file cannot be read, the architecture is not known, or a name or shape has
            no partner.
    """
    tensors = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    release: Release = "tensorflow" if any("/" in name for name in tensors) else "port"
    tensors = {
        _canonical(name) if release == "tensorflow" else name: value
        for name, value in tensors.items()
    }
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    names = tensors.keys() - counters
    config = config or _recognize(names, release)
    table = _loading_table(config, release)
    if unmatched := sorted(table.keys() ^ names):
        missing = [name for name in unmatched if name in table]
        raise WeightsError(
            f"{len(missing)} names missing and {len(unmatched) - len(missing)} unknown in these "
            f"{release} weights, first {unmatched[0]!r}: give the config they belong to"
        )
    ours = {}
    for name, our_name in table.items():
        value = torch.as_tensor(tensors[name])
        ours[our_name] = _from_tensorflow(value, our_name) if release == "tensorflow" else value
    config = replace(config, num_classes=len(ours["classifier.bias"]))
    model = MoViNet(config, labels)
    _copy(ours, model)
    return model.eval()


def published_state(model: MoViNet, release: Release) -> dict[str, Tensor]:
    """The model's tensors under a release's names and in its shapes: the way back."""
    state = model.state_dict()
    table = name_table(model.config, release)
    if release == "tensorflow":
        return {theirs: _to_tensorflow(state[ours], theirs) for theirs, ours in table.items()}
    rank = 5 if model.config.conv_type == "3d" else 4
    return {theirs: _to_rank(state[ours], rank) for theirs, ours in table.items()}


def _loading_table(config: MoViNetConfig, release: Release) -> dict[str, str]:
    table = name_table(config, release)
    if release == "tensorflow":
        return {_canonical(theirs): ours for theirs, ours in table.items()}
    return table


def _recognize(names: set[str], release: Release) -> MoViNetConfig:
    """The released network with exactly these names."""
    for name in ARCHITECTURES:
        for stream in (True, False):
            config = architecture(name, stream=stream)
            # Without its encoding a late stream is the same network, as the port has it.
            for candidate in dict.fromkeys([config, replace(config, position_encoding=False)]):
                if names == _loading_table(candidate, release).keys():
                    return candidate
    raise WeightsError(
        f"{len(names)} {release} names fit none of {', '.join(ARCHITECTURES)}, base or stream: "
        "give the config"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            import numpy as np  # needed for this format alone

            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(OSError, ValueError, EOFError, RuntimeError),  # torch says RuntimeError of cut files
        *(zipfile.BadZipFile, SafetensorError, UnpicklingError),
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"{path} cannot be read ({reason}): give .npz, .safetensors or a .pt state dict"
        ) from error
    if not isinstance(tensors, Mapping) or not all(
        isinstance(value, Tensor) for value in tensors.values()
    ):
        raise WeightsError(f"{path} holds no state dict: give one of names and tensors alone")
    return dict(tensors)


def _copy(tensors: dict[str, Tensor], model: MoViNet) -> None:
    for name, target in model.state_dict().items():
        if name.endswith("num_batches_tracked") or name not in tensors:
            continue
        value = tensors[name]
        # The same weight with or without axes of extent 1.
        if _extents(value) != _extents(target):
            raise WeightsError(
                f"{name} has shape {tuple(value.shape)} in the file, {tuple(target.shape)} in the "
                "model: give the config that the weights belong to"
            )
        target.copy_(value.reshape(target.shape))


def _extents(value: Tensor) -> list[int]:
    """The shape without axes of extent 1, in which the releases differ."""
    return [size for size in value.shape if size > 1]


def _from_tensorflow(value: Tensor, ours: str) -> Tensor:
    """Axes in torch's order: kernels come as (..., in, out), depthwise 2-D ones as (h, w, C, 1)."""
    if value.ndim == 5:
        return value.permute(4, 3, 0, 1, 2)
    if value.ndim == 4:
        is_depthwise = ".spatial." in ours or ".temporal." in ours
        return value.permute(2, 3, 0, 1) if is_depthwise else value.permute(3, 2, 0, 1)
    return value


def _to_tensorflow(value: Tensor, theirs: str) -> Tensor:
    if value.ndim < 2:
        return value
    if "/conv3d" in theirs:
        return _to_rank(value, 5).permute(2, 3, 4, 1, 0)
    value = _to_rank(value, 4)
    return value.permute(2, 3, 0, 1) if "depthwise" in theirs else value.permute(2, 3, 1, 0)


def _to_rank(value: Tensor, rank: int) -> Tensor:
    """A weight (out, in, ...) with axes of extent 1 put in or taken out, to `rank` axes."""
    if value.ndim < 2:
        return value
    if rank == 5:
        time = () if value.ndim == 5 else (1,) * (5 - value.ndim)
        return value.reshape(*value.shape[:2], *time, *value.shape[2:])
    if value.ndim == 5:  # a temporal kernel (C, 1, k, 1, 1)
        return value.reshape(*value.shape[:3], 1)
    return value.reshape(*value.shape[:2], *(1,) * (4 - value.ndim), *value.shape[2:])
