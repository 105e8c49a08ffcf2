"""How new a picture is against what was just seen: no training, no question, any video.

A frame becomes the mean colours of an 8 x 8 grid. Its change is the mean, over the few cells that
changed most, of the distance from a running mean, so that a small moving thing counts as much as a
cut. There are two running means, a short and a long one, and the smaller distance counts: a new
room is soon known to the short mean, and when a visitor has left, the long mean still knows the
empty room. What counts as much differs from video to video (sensor noise, trees in the wind): the
change is compared with a slow running mean of itself, the video's usual change.

Legend: B = frames of a call.
"""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

GRID = 8
_CHANGED_CELLS = 6
_SCENE_SECONDS = (3.0, 30.0)  # the running means that a frame is compared with
_USUAL_SECONDS = 60.0  # the running mean of the change itself
_FLOOR = 0.01  # change that is never remarkable, of a range of 1: compression, a codec's key frames


@dataclass(frozen=True, kw_only=True)
class NoveltyState:
    """What a stream leaves behind; a value."""

    scenes: np.ndarray | None = None  # (2, GRID * GRID, 3), running means of the cells
    usual: float = 0.0
    seconds: float = 0.0  # of the frame before


def cells(frames: Tensor) -> np.ndarray:
    """Mean colours float32 (B, GRID * GRID, 3) of frames uint8 (B, 3, H, W), in [0, 1]."""
    pooled = F.adaptive_avg_pool2d(frames.float(), GRID) / 255.0
    return pooled.flatten(2).transpose(1, 2).contiguous().cpu().numpy()


def novelty_step(
    frames: Tensor, seconds: np.ndarray, state: NoveltyState
) -> tuple[np.ndarray, NoveltyState]:
    """Novelty (B,) in [0, 1) of frames uint8 (B, 3, H, W) at `seconds` (B,), and the next state.

    Any cut of a stream into calls gives the same numbers. The first frame is not new.
    """
    grids = cells(frames)
    novelty = np.zeros(len(grids))
    scenes, usual, last = state.scenes, state.usual, state.seconds
    for i, (grid, now) in enumerate(zip(grids, np.asarray(seconds, dtype=float), strict=True)):
        if scenes is None:
            scenes, last = np.stack([grid, grid]), now
            continue
        change = min(_change(grid, scene) for scene in scenes)
        novelty[i] = _novelty(change, usual)
        step = max(0.0, now - last)
        keep = np.exp(-step / np.array(_SCENE_SECONDS))[:, None, None]
        scenes = keep * scenes + (1.0 - keep) * grid
        # What is remarkable must not become usual at once: it enters with the share that is usual.
        rate = (1.0 - np.exp(-step / _USUAL_SECONDS)) * (1.0 - 0.9 * novelty[i])
        usual += rate * (change - usual)
        last = now
    return novelty, NoveltyState(scenes=scenes, usual=usual, seconds=last)


def _change(grid: np.ndarray, scene: np.ndarray) -> float:
    distance = np.abs(grid - scene).mean(axis=1)
    return float(np.partition(distance, -_CHANGED_CELLS)[-_CHANGED_CELLS:].mean())


def _novelty(change: float, usual: float) -> float:
    """0 up to 1.5 times the usual change, 0.63 at twice it, towards 1 beyond."""
    excess = change / max(usual, _FLOOR) - 1.5
    return float(1.0 - np.exp(-max(0.0, excess) / 0.5))
