"""One interface for every streaming recognizer, and the value that a stream leaves behind.

A recognizer reads frames as they come and says after every frame which class it sees. What it
remembers is a flat dictionary of tensors that goes in and comes out of `step`; nothing is kept in
the module. So one model serves many streams, a stream can be forked, saved or moved, and streams
that start and end at different times share a batch:

    model = create("movinet-a0-stream")
    state = model.init_state(1, 172, 172)
    for frames in chunks:  # (1, T, 3, 172, 172), any T, uint8 or float in [0, 1]
        logits, state = model.step(frames, state)  # (1, T, K)

The law that every family is tested for: any cut of a stream into chunks gives the logits of the
whole clip, from a zero state and from a carried one.
"""

import difflib
import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recognizers.errors import ConfigError, FrameError, StateError, UnknownNameError, WeightsError

# Every leaf has the batch at dimension 0, counters too: (B,).
State = dict[str, Tensor]

FAMILIES = {
    "movinet": "recognizers.movinet",
    "movinet-ensemble": "recognizers.movinet",
    "minconv": "recognizers.minconv",
    "lcr": "recognizers.lcr",
    "rrm": "recognizers.rrm",
}
WEIGHTS_FOLDER = Path(__file__).parent / "weights"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FORMAT = "streaming-recognizer-1"


class StreamingRecognizer(nn.Module, ABC):
    """Frames in, class logits after every frame out, state as a value.

    A family subclasses this with `family`, `config_class`, `init_state` and `step`, and is built as
    `Model(config, labels)`. Its config is a frozen dataclass with a field `num_classes`.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    # Subtracted from and divided into frames in [0, 1], per colour channel.
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "family" in cls.__dict__:
            _CLASSES[cls.family] = cls

    def __init__(self, config: Any, labels: Sequence[str] | None = None) -> None:
        super().__init__()
        if labels is None:
            labels = [f"class {index}" for index in range(config.num_classes)]
        if len(labels) != config.num_classes:
            raise ConfigError(
                f"{len(labels)} labels for {config.num_classes} classes: give one label per class"
            )
        self.config = config
        self.labels = tuple(labels)

    @abstractmethod
    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """State before the first frame; device and dtype default to the parameters'."""

    @abstractmethod
    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Read the next frames.

        Args:
            frames: (B, T, 3, H, W), uint8 or float in [0, 1]; T may differ from call to call.
            state: what `init_state` or the step before returned; it is left as it is.

        Returns:
            Logits (B, T, K) after each frame, and the state after the last one.
        """

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (B, K) after the last frame of clip (B, T, 3, H, W), from a zero state."""
        self.check_frames(clip)
        batch_size, _, _, height, width = clip.shape
        logits, _ = self.step(clip, self.init_state(batch_size, height, width, device=clip.device))
        return logits[:, -1]

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return next(self.parameters()).dtype

    def check_frames(self, frames: Tensor) -> None:
        """Refuse anything but (B, T, 3, H, W) with T >= 1 (FrameError)."""
        if frames.ndim != 5 or frames.shape[2] != 3 or 0 in frames.shape:
            raise FrameError(
                f"frames of shape {tuple(frames.shape)}: give (batch, time, 3, height, width) "
                "with at least one frame"
            )

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames as the network reads them, same shape, in the parameters' floating type.

        uint8 is scaled to [0, 1]; then `mean` and `std` are applied. `step` calls this itself.
        """
        is_copy = not frames.dtype.is_floating_point
        frames = frames.to(self.dtype)
        if is_copy:
            frames.div_(255.0)
        if self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0):
            return frames
        mean = torch.tensor(self.mean, dtype=frames.dtype, device=frames.device)[:, None, None]
        std = torch.tensor(self.std, dtype=frames.dtype, device=frames.device)[:, None, None]
        return (frames.sub_(mean) if is_copy else frames - mean).div_(std)

    @classmethod
    def config_from_dict(cls, fields: dict[str, Any]) -> Any:
        """The family's config from its JSON; lists become tuples. Override for nested configs."""
        return cls.config_class(**{name: _as_tuples(value) for name, value in fields.items()})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write config.json and model.safetensors into `folder` (made if absent); its path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {
            "format": FORMAT,
            "family": self.family,
            "labels": self.labels,
            "config": asdict(self.config),
        }
        text = json.dumps(header, indent=2) + "\n"
        write_atomically(folder / CONFIG_FILE, lambda path: path.write_text(text, "utf-8"))
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path))
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The recognizer that `save_pretrained` wrote, in eval mode.

        Args:
            folder: a folder, or the name of a recognizer that ships in recognizers/weights.

        Raises:
            WeightsError: no such folder, another format, another family than `cls`, or tensors
                that do not fit.
        """
        folder = _find_weights(folder)
        header = _read_header(folder / CONFIG_FILE)
        if header["family"] not in FAMILIES:
            raise WeightsError(
                f"{folder} holds a recognizer of family {header['family']!r}, known are "
                f"{', '.join(FAMILIES)}: save it with this version"
            )
        model_class = _class_of(header["family"])
        if not issubclass(model_class, cls):
            raise WeightsError(
                f"{folder} holds a {header['family']} recognizer: load it with "
                f"{model_class.__name__} or StreamingRecognizer"
            )
        try:
            config = model_class.config_from_dict(header["config"])
            model = model_class(config, header["labels"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{folder / CONFIG_FILE} describes no {header['family']} recognizer "
                f"({error!r}): save the model again"
            ) from error
        try:
            model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"{folder / WEIGHTS_FILE} does not fit its config ({reason}): save it again"
            ) from error
        return model.eval()


# --- State as a value -----------------------------------------------------------------------------


def select_rows(state: State, rows: int | slice | Sequence[int] | Tensor) -> State:
    """The streams `rows` of a batched state, as a state of their own (a copy)."""
    if isinstance(rows, int):
        rows = [rows]
    if isinstance(rows, slice):
        return {name: leaf[rows].clone() for name, leaf in state.items()}
    index = torch.as_tensor(rows)
    return {name: leaf[index.to(leaf.device)] for name, leaf in state.items()}


def concat_rows(states: Iterable[State]) -> State:
    """One batched state from several: rows in the order given. StateError if they do not match."""
    states = list(states)
    if not states:
        raise StateError("no states to put in a batch: give at least one")
    names = states[0].keys()
    for other in states[1:]:
        differing = names ^ other.keys() or {
            name for name in names if other[name].shape[1:] != states[0][name].shape[1:]
        }
        if differing:
            raise StateError(
                f"states differ in {', '.join(sorted(differing))}: only states of one model and "
                "picture size go in one batch"
            )
    return {name: torch.cat([state[name] for state in states]) for name in names}


def to_device(state: State, device: torch.device | str) -> State:
    """The same state on another device."""
    return {name: leaf.to(device) for name, leaf in state.items()}


def detach(state: State) -> State:
    """The same state with its history of gradients cut off."""
    return {name: leaf.detach() for name, leaf in state.items()}


def num_bytes(state: State) -> int:
    """Bytes that the state's tensors hold."""
    return sum(leaf.numel() * leaf.element_size() for leaf in state.values())


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state as one safetensors file, atomically."""
    leaves = {name: leaf.detach().contiguous() for name, leaf in state.items()}
    metadata = {"format": FORMAT}
    write_atomically(Path(path), lambda partial: save_file(leaves, partial, metadata))


def load_state(path: str | os.PathLike[str]) -> State:
    """The state that `save_state` wrote, on the CPU. StateError if the file cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path} is no saved state ({error}): write it with save_state") from error


# --- Names ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    family: str
    config: Any


# Filled once, when a family's module is imported; never changed by using a model.
_CLASSES: dict[str, type[StreamingRecognizer]] = {}
_NAMES: dict[str, _Entry] = {}


def register(name: str, family: str, config: Any) -> None:
    """Make `create(name)` build `family` with `config`; called once, by the family's module."""
    if family not in FAMILIES:
        raise UnknownNameError(f"no family {family!r}: add it to FAMILIES ({', '.join(FAMILIES)})")
    _NAMES[name] = _Entry(family=family, config=config)


def create(
    name: str, *, num_classes: int | None = None, labels: Sequence[str] | None = None
) -> StreamingRecognizer:
    """A recognizer with fresh weights, by its name.

    Args:
        name: one of `available()`.
        num_classes: other than the configuration's own; with `labels` it may be left out.
        labels: class names, one per class; default "class 0", "class 1", ...

    Raises:
        UnknownNameError: no such name; the message suggests the nearest ones.
        ConfigError: number of labels and classes differ.
    """
    _import_families()
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownNameError(
            f"no recognizer is called {name!r}: {hint}available: {', '.join(available())}"
        )
    entry = _NAMES[name]
    if num_classes is None and labels is not None:
        num_classes = len(labels)
    config = entry.config
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return _class_of(entry.family)(config, labels)


def available() -> tuple[str, ...]:
    """Names that `create` knows, sorted."""
    _import_families()
    return tuple(sorted(_NAMES))


def _import_families() -> None:
    for module in FAMILIES.values():
        importlib.import_module(module)


def _class_of(family: str) -> type[StreamingRecognizer]:
    if family not in FAMILIES:
        raise UnknownNameError(f"no family {family!r}: known are {', '.join(FAMILIES)}")
    importlib.import_module(FAMILIES[family])
    return _CLASSES[family]


# --- Files ----------------------------------------------------------------------------------------


def _find_weights(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    shipped = WEIGHTS_FOLDER / path
    if len(path.parts) == 1 and shipped.is_dir():
        return shipped
    known = sorted(p.name for p in WEIGHTS_FOLDER.glob("*") if p.is_dir())
    raise WeightsError(
        f"no recognizer in {folder}: give a folder that save_pretrained wrote"
        + (f", or one of {', '.join(known)}" if known else "")
    )


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): save the model again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise WeightsError(f"{path} is not of format {FORMAT}: save the model again")
    missing = [name for name in ("family", "labels", "config") if name not in header]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}: save the model again")
    return header


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` write a file beside `path` and give it that name once it is whole."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
