"""Which scenes each frame shows, and how far a transition has come.

In a dissolve a frame shows two scenes: the one that ends stays as it was at its end, the next one
as it is at its start. A freeze keeps the picture of its start, noise included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from timevlm.synth.full.spec import FullScene, FullVideo

_JUST_BEFORE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Shots:
    """One entry a frame, `(n,)` on the CPU; indices count in the list of scenes beside it.

    `second_share` is how much of the second scene shows, `gain` the factor of a fade and `white`
    the share of white of a flash.
    """

    scene_index: Tensor
    seconds: Tensor
    second_scene: Tensor
    second_seconds: Tensor
    second_share: Tensor
    gain: Tensor
    white: Tensor
    video_seed: Tensor

    def select(self, rows: Tensor | slice) -> "Shots":
        """The entries of some frames."""
        return Shots(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def noise_index(self, num_pictures: int) -> Tensor:
        """Which noise picture each frame gets: a hash of its video and its milliseconds."""
        ticks = (self.seconds * 1000).round().long() + self.video_seed % 65536 * 7919
        return (ticks * 2654435761 >> 16) % num_pictures


def find_shots(
    requests: Sequence[tuple[FullVideo, Tensor]],
) -> tuple[list[FullScene], Shots]:
    """The scenes that the requested times show, and the shots of all frames in order.

    Only scenes that are seen are returned, so hours of video cost what their frames cost.
    """
    scenes: list[FullScene] = []
    parts = [_video_shots(spec, seconds, scenes) for spec, seconds in requests]
    if not parts:
        parts = [_blank(torch.empty(0, dtype=torch.float64), 0)]
    names = [f.name for f in fields(Shots)]
    return scenes, Shots(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def _blank(seconds: Tensor, seed: int) -> Shots:
    """Shots of scene 0 without any transition."""
    zeros = torch.zeros_like(seconds)
    return Shots(
        scene_index=zeros.long(),
        seconds=seconds.clone(),
        second_scene=zeros.long(),
        second_seconds=zeros.clone(),
        second_share=zeros.clone(),
        gain=zeros + 1.0,
        white=zeros.clone(),
        video_seed=zeros.long() + seed,
    )


def _video_shots(spec: FullVideo, seconds: Tensor, scenes: list[FullScene]) -> Shots:
    """The shots of one video; its scenes that are seen are appended to `scenes`."""
    shots = _blank(seconds, spec.seed)
    starts = torch.tensor([s.start_seconds for s in spec.scenes], dtype=torch.float64)
    index = torch.searchsorted(starts, seconds, right=True) - 1
    seen = torch.unique(index).tolist()
    # A transition at a scene's end also touches the frames of the next scene.
    ending = sorted({i for number in seen for i in (number - 1, number) if i >= 0})
    needed = sorted({i for number in ending for i in (number, number + 1)} | set(seen))
    needed = [i for i in needed if i < len(spec.scenes)]
    place = torch.zeros(len(spec.scenes), dtype=torch.long)
    place[needed] = torch.arange(len(needed)) + len(scenes)
    scenes.extend(spec.scenes[i] for i in needed)
    shots.scene_index.copy_(place[index])
    for number in ending:
        scene = spec.scenes[number]
        if scene.transition is None or scene.transition.kind == "cut":
            continue
        start, end = scene.transition_window
        inside = (seconds >= start) & (seconds < end)
        if inside.any():
            neighbours = (int(place[number]), int(place[number + 1]))
            _enter_transition(shots, scene, inside.nonzero().squeeze(1), neighbours)
    return shots


def _enter_transition(
    shots: Shots, scene: FullScene, rows: Tensor, neighbours: tuple[int, int]
) -> None:
    """Write what the transition at a scene's end does to some frames."""
    start, end = scene.transition_window
    seconds, cut, kind = shots.seconds[rows], scene.end_seconds, scene.transition_kind
    away = (seconds - cut).abs() / max(end - cut, cut - start)
    if kind == "dissolve":
        shots.second_share[rows] = (seconds - start) / (end - start)
        shots.scene_index[rows], shots.second_scene[rows] = neighbours
        shots.second_seconds[rows] = seconds.clamp_min(cut)
        shots.seconds[rows] = seconds.clamp_max(cut - _JUST_BEFORE)
    elif kind == "fade":
        shots.gain[rows] = away
    elif kind == "flash":
        shots.white[rows] = 1.0 - away
    elif kind == "black":
        shots.gain[rows] = 0.0
    elif kind == "freeze":
        shots.seconds[rows] = start
