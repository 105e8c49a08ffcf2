"""Training checkpoints without pickle: safetensors for tensors, JSON for the rest.

Data depends on the step alone, so (weights, optimizer moments, step, seconds spent) is all there
is to a run.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from timevlm.errors import InputError


@dataclass(kw_only=True)
class Progress:
    """Where a run stands: `phase` name, next step of it, and seconds trained in it."""

    phase: str
    step: int = 0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v.detach().cpu() for k, v in module.state_dict().items()}
    names = {id(p): name for name, p in module.named_parameters()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"optimizer.{names[id(parameter)]}|{key}"] = torch.as_tensor(value).cpu()
    partial = folder / "checkpoint.partial"
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        partial,
        metadata={"progress": json.dumps(asdict(progress))},
    )
    os.replace(partial, folder / "checkpoint.safetensors")


def load_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Restore weights and moments; None where there is no checkpoint of this phase yet."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    tensors = load_file(path)
    module.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, moment = key.removeprefix("optimizer.").split("|")
            parameter = parameters[name]
            optimizer.state[parameter][moment] = value.to(parameter.device)
    return Progress(**json.loads(_metadata(path)["progress"]))


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """What a phase's checkpoint in `folder` has under the name `part`, by the names below it.

    Raises InputError if `folder` has no checkpoint.
    """
    path, prefix = folder / "checkpoint.safetensors", f"model.{part}."
    if not path.is_file():
        raise InputError(f"no checkpoint.safetensors in {folder}; give the folder of another run")
    found = {k: v for k, v in load_file(path).items() if k.startswith(prefix)}
    return {k.removeprefix(prefix): v for k, v in found.items()}


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        return file.metadata()
