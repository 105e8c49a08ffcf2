"""Checkpoints on disk, read one tensor at a time, so that a model larger than memory converts.

safetensors and PyTorch files are read, whole or in shards. PyTorch files are read with
`weights_only=True`: they can hold tensors and nothing that runs.
"""

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from timevlm.errors import ModelError

Readers = dict[str, Callable[[], Tensor]]  # parameter name -> how to read the parameter

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE_FILES = ("model.safetensors", "pytorch_model.bin")
WRAPPERS = ("model", "state_dict", "module")  # keys under which trainers put the whole state dict
MAX_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Checkpoint:
    """What a folder or file holds: `readers` by published name, and the published `config`."""

    readers: Readers
    config: dict[str, Any]


def in_memory(tensors: Mapping[str, Tensor]) -> Readers:
    """Readers of tensors that are already in memory."""
    return {name: (lambda tensor=tensor: tensor) for name, tensor in tensors.items()}


def open_checkpoint(path: Path) -> Checkpoint:
    """Find the weights and `config.json` at `path`, a folder or a file; nothing is read yet.

    Raises `ModelError` when there are no weights, or when they cannot be read safely.
    """
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    readers: Readers = {}
    for file in _weight_files(path):
        readers |= _open_file(file)
    return Checkpoint(readers, config)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} as JSON: {error}; fetch the file again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds {type(value).__name__}, not an object; fetch it again")
    return value


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ModelError(f"{path} does not exist; give a checkpoint's folder or file")
    for name in INDEX_FILES:
        if (path / name).is_file():
            places = _read_json(path / name).get("weight_map")
            shards = list(places.values()) if isinstance(places, dict) else []
            if not shards or any(not isinstance(s, str) or Path(s).name != s for s in shards):
                raise ModelError(f"{path / name} names no files of its own folder; fetch it again")
            return [path / shard for shard in sorted(set(shards))]
    for name in WHOLE_FILES:
        if (path / name).is_file():
            return [path / name]
    single = [p for p in path.iterdir() if p.suffix in (".safetensors", *TORCH_SUFFIXES)]
    if len(single) != 1:
        raise ModelError(
            f"{path} holds {len(single)} weight files and no index; name the file to convert"
        )
    return single


def _open_file(path: Path) -> Readers:
    try:
        if path.suffix == ".safetensors":
            handle = safe_open(path, framework="pt")
            return {name: (lambda name=name: handle.get_tensor(name)) for name in handle.keys()}  # noqa: SIM118
        if path.suffix not in TORCH_SUFFIXES:
            raise ModelError(
                f"{path.name} has no known type; give .safetensors or {', '.join(TORCH_SUFFIXES)}"
            )
        value = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {_one_line(error)}; fetch it again") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{path} is damaged or holds more than tensors, which is not loaded; "
            "ask for a safetensors file"
        ) from error
    return in_memory(_flatten(value, path))


def _flatten(value: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(value, Mapping) and len(wrapped := set(value) & set(WRAPPERS)) == 1:
        inner = value[wrapped.pop()]
        if not isinstance(inner, Mapping):
            break
        value = inner
    flat: dict[str, Tensor] = {}

    def visit(prefix: str, item: Any) -> None:
        if isinstance(item, Tensor):
            flat[prefix] = item
        elif isinstance(item, Mapping):
            for key, child in item.items():
                visit(f"{prefix}.{key}" if prefix else str(key), child)

    visit("", value)
    if not flat:
        raise ModelError(f"{path} holds no tensors; give a file with a state dict")
    return flat


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def shown(names: Iterable[str]) -> str:
    """Names for an error message, sorted, the first few of many."""
    ordered = sorted(names)
    more = len(ordered) - MAX_NAMES_SHOWN
    return ", ".join(ordered[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def matched(readers: Readers, expected: Mapping[str, torch.Size], what: str) -> Readers:
    """The readers in the order of `expected` (name -> shape), each checked for its shape.

    Raises `ModelError` that lists the names that are missing and those that are unknown; a wrong
    shape is found when the tensor is read.
    """
    missing, unknown = expected.keys() - readers.keys(), readers.keys() - expected.keys()
    if missing or unknown:
        parts = [f"lacks {shown(missing)}"] * bool(missing)
        parts += [f"has unknown {shown(unknown)}"] * bool(unknown)
        raise ModelError(
            f"the {what} {'; it '.join(parts)}; give the configuration that belongs to the weights"
        )

    def check(name: str) -> Tensor:
        tensor = readers[name]()
        if tensor.shape != expected[name]:
            raise ModelError(
                f"{what}: {name} has shape {tuple(tensor.shape)}, the configuration asks for "
                f"{tuple(expected[name])}; give the configuration that belongs to the weights"
            )
        return tensor

    return {name: (lambda name=name: check(name)) for name in expected}


def shapes_of(module: torch.nn.Module) -> dict[str, torch.Size]:
    """Name -> shape of everything in a module's state dict."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def read_all(readers: Readers) -> dict[str, Tensor]:
    """Read every tensor into memory."""
    return {name: read() for name, read in readers.items()}


def write_checkpoint(folder: Path, readers: Readers, max_shard_bytes: int = 4 << 30) -> list[str]:
    """Write tensors to `folder` as safetensors, in shards of about `max_shard_bytes` with an index.

    Holds one shard in memory. Returns the names of the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, int] = {}
    shard: dict[str, Tensor] = {}
    num_bytes = total_bytes = num_shards = 0

    def flush() -> None:
        nonlocal num_bytes, num_shards
        if shard:
            weight_map.update(dict.fromkeys(shard, num_shards))
            save_file(shard, folder / f"shard-{num_shards}.partial", metadata={"format": "pt"})
            shard.clear()
            num_bytes, num_shards = 0, num_shards + 1

    for name, read in readers.items():
        tensor = read().detach().cpu().clone(memory_format=torch.contiguous_format)
        size = tensor.numel() * tensor.element_size()
        if num_bytes + size > max_shard_bytes:
            flush()
        shard[name] = tensor
        num_bytes, total_bytes = num_bytes + size, total_bytes + size
    flush()
    files = [f"model-{i + 1:05d}-of-{num_shards:05d}.safetensors" for i in range(num_shards)]
    if num_shards == 1:
        files = ["model.safetensors"]
    for i, file in enumerate(files):
        os.replace(folder / f"shard-{i}.partial", folder / file)
    if num_shards > 1:
        index = {
            "metadata": {"total_size": total_bytes},
            "weight_map": {name: files[i] for name, i in weight_map.items()},
        }
        (folder / INDEX_FILES[0]).write_text(json.dumps(index, indent=2), encoding="utf-8")
    return files
