"""How a recognizer wants its frames: size, rate, and what its outputs mean. Beside its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timevlm.errors import InputError, ModelError

USAGE_FILE = "usage.json"
EVENT_LABEL = "event"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a caller must know besides the network itself."""

    frame_size: tuple[int, int]
    """(height, width) in pixels that it was trained at."""
    fps: float
    """Frames per second that it was trained at."""
    multi_label: bool = False
    """Whether classes are independent (sigmoid) or exclude each other (softmax)."""
    window_frames: int | None = None
    """Begin again from a zero state after so many frames; None: never. For networks that average
    over all of the past (MoViNet), which in hour-long streams would hear nothing new."""
    trained_on: str = ""
    """What it knows, in one line for people."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_size", tuple(self.frame_size))
        if len(self.frame_size) != 2 or min(self.frame_size) < 1:
            raise InputError(f"frame_size {self.frame_size}: give (height, width) in pixels")
        if not self.fps > 0:
            raise InputError(f"fps {self.fps}: give a rate above 0")
        if self.window_frames is not None and self.window_frames < 1:
            raise InputError(f"window_frames {self.window_frames}: give 1 or more, or none")

    def save(self, folder: Path) -> None:
        """Write usage.json into a recognizer's folder, whole or not at all."""
        partial = folder / f".{USAGE_FILE}.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / USAGE_FILE)


def load_usage(folder: Path) -> Usage | None:
    """The usage in a recognizer's folder; None where there is none. ModelError if unreadable."""
    path = folder / USAGE_FILE
    if not path.is_file():
        return None
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Usage(**fields)
    except (OSError, ValueError, TypeError, InputError) as error:
        raise ModelError(f"{path} cannot be used ({error}): train the recognizer again") from error
