"""Frames of the procedural world, painted for many videos and times at once with torch alone.

Python loops run over requests, object slots (at most 3), shapes (8) and blocks of frames, never
over frames or pixels. Pixel noise comes from a small bank of pictures chosen by a hash of seed
and time, so that a frame is the same whether it is rendered alone or among others.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.errors import InputError
from timevlm.synth.full.render import render_full_frames
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.motion import Poses, object_poses, object_table
from timevlm.synth.palette import MAX_OBJECTS, SHAPES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.spec import SceneSpec, VideoSpec

_NOISE_BANK = 8
_NOISE_GRID = 5
# Pixels painted in one go: few enough that the block's float picture stays in a CPU's cache.
_BLOCK_PIXELS_CPU = 24 * 96 * 96
_BLOCK_PIXELS_GPU = 2048 * 96 * 96


def render_frames(
    requests: Sequence[tuple[VideoSpec, Tensor]],
    size: tuple[int, int],
    device: str | torch.device = "cpu",
) -> Tensor:
    """The frames of all requests in order, uint8 `(sum n, 3, height, width)` on `device`.

    Args:
        requests: pairs of a video and times in seconds `(n,)`, each within the video.
        size: height and width in pixels.
        device: where to paint.

    Raises:
        InputError: a time lies outside its video.
    """
    device = torch.device(device)
    checked = [(spec, seconds.to("cpu", torch.float64)) for spec, seconds in requests]
    for spec, seconds in checked:
        _check_times(spec, seconds)
    full = [isinstance(spec, FullVideo) for spec, _ in checked]
    if not any(full):
        return _render_basic_frames(checked, size, device)
    if all(full):
        return render_full_frames(checked, size, device)
    paint = (_render_basic_frames, render_full_frames)
    return torch.cat([paint[f]([r], size, device) for r, f in zip(checked, full, strict=True)])


def _render_basic_frames(
    requests: Sequence[tuple[VideoSpec, Tensor]], size: tuple[int, int], device: torch.device
) -> Tensor:
    scenes: list[SceneSpec] = []
    frame_scene, frame_seconds, frame_noise = [], [], []
    for spec, seconds in requests:
        starts = torch.tensor([s.start_seconds for s in spec.scenes], dtype=torch.float64)
        index = torch.searchsorted(starts, seconds, right=True) - 1
        # Scenes that no frame shows cost nothing, so hours can be painted a piece at a time.
        used, index = torch.unique(index, return_inverse=True)
        frame_scene.append(index + len(scenes))
        frame_seconds.append(seconds)
        # A multiplicative hash of seed and milliseconds spreads neighbouring frames over the bank.
        ticks = (seconds * 1000).round().long() + spec.seed % 65536 * 7919
        frame_noise.append((ticks * 2654435761 >> 16) % _NOISE_BANK)
        scenes.extend(spec.scenes[i] for i in used.tolist())
    height, width = size
    if not scenes:
        return torch.empty((0, 3, height, width), dtype=torch.uint8, device=device)
    scene_index = torch.cat(frame_scene)
    poses = _frame_poses(scenes, scene_index, torch.cat(frame_seconds), device)
    used, scene_index = torch.unique(scene_index, return_inverse=True)
    canvas = _Canvas([scenes[i] for i in used.tolist()], size, device)
    scene_index, noise_index = scene_index.to(device), torch.cat(frame_noise).to(device)
    frames = torch.empty((len(scene_index), 3, height, width), dtype=torch.uint8, device=device)
    pixels = _BLOCK_PIXELS_CPU if device.type == "cpu" else _BLOCK_PIXELS_GPU
    block = max(1, pixels // (height * width))
    for start in range(0, len(frames), block):
        part = slice(start, start + block)
        frames[part] = canvas.paint(scene_index[part], noise_index[part], _slice(poses, part))
    return frames


def _check_times(spec: VideoSpec, seconds: Tensor) -> None:
    if seconds.ndim != 1:
        raise InputError(f"frame times have shape {tuple(seconds.shape)}; pass one dimension (n,)")
    if len(seconds) and not (seconds.min() >= 0 and seconds.max() <= spec.duration_seconds):
        raise InputError(
            f"frame times {seconds.min():.3f} to {seconds.max():.3f} s leave the video; "
            f"stay within 0 to {spec.duration_seconds} s"
        )


def _frame_poses(
    scenes: list[SceneSpec], scene_index: Tensor, seconds: Tensor, device: torch.device
) -> Poses:
    """Poses `(N, slots)`: float32 on the device, colours times the scene's brightness."""
    table = torch.stack([object_table(scene.objects, MAX_OBJECTS) for scene in scenes])
    brightness = torch.tensor([scene.brightness for scene in scenes], dtype=torch.float64)
    poses = object_poses(table[scene_index], seconds[:, None])
    return Poses(
        shape_index=poses.shape_index,
        x=poses.x.float().to(device),
        y=poses.y.float().to(device),
        radius=poses.radius.float().to(device),
        visible=poses.visible,
        rgb=(poses.rgb * brightness[scene_index, None, None]).float().to(device),
    )


def _slice(poses: Poses, part: slice) -> Poses:
    return Poses(
        shape_index=poses.shape_index[part],
        x=poses.x[part],
        y=poses.y[part],
        radius=poses.radius[part],
        visible=poses.visible[part],
        rgb=poses.rgb[part],
    )


class _Canvas:
    """What the frames of one call share: backgrounds `(scenes, 3, H, W)` and the noise bank."""

    def __init__(
        self, scenes: list[SceneSpec], size: tuple[int, int], device: torch.device
    ) -> None:
        self.size = size
        self.device = device
        self.backgrounds = _paint_backgrounds(scenes, size, device)
        levels = torch.tensor([scene.noise_level for scene in scenes])
        self.noise_level = levels.to(device).view(-1, 1, 1, 1)
        generator = torch.Generator().manual_seed(0)
        # The bank is drawn on the CPU, so that every device paints the same video.
        bank = torch.randn((_NOISE_BANK, 1, *size), generator=generator)
        self.noise_bank = bank.to(device)

    def paint(self, scene_index: Tensor, noise_index: Tensor, poses: Poses) -> Tensor:
        """Frames uint8 `(n, 3, H, W)` of scenes (the canvas's indices) and poses `(n, slots)`."""
        frames = self.backgrounds[scene_index]  # (n, 3, H, W)
        for slot in range(poses.visible.shape[1]):
            for index, name in enumerate(SHAPES):
                chosen = poses.visible[:, slot] & (poses.shape_index[:, slot] == index)
                rows = chosen.nonzero().squeeze(1).to(self.device)
                if len(rows):
                    self._paint_shape(frames, rows, name, poses, slot)
        noise = self.noise_bank[noise_index] * self.noise_level[scene_index]
        return frames.add_(noise).add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)

    def _paint_shape(
        self, frames: Tensor, rows: Tensor, name: str, poses: Poses, slot: int
    ) -> None:
        height, width = self.size
        short = min(height, width)
        radius = (poses.radius[rows, slot] * short).view(-1, 1, 1)  # pixels
        columns = torch.arange(width, device=self.device) + 0.5
        lines = torch.arange(height, device=self.device) + 0.5
        x = (columns - poses.x[rows, slot].view(-1, 1, 1) * width) / radius  # (n, 1, W)
        y = (lines.view(1, -1, 1) - poses.y[rows, slot].view(-1, 1, 1) * height) / radius
        distance = SIGNED_DISTANCE[name](x, y)
        # One pixel of soft edge: the share of the pixel that a straight edge at this distance
        # would cover.
        coverage = (distance * -radius).add_(0.5).clamp_(0.0, 1.0).unsqueeze(1)
        colour = poses.rgb[rows, slot].view(-1, 3, 1, 1)
        frames[rows] = torch.lerp(frames[rows], colour, coverage)


def _paint_backgrounds(
    scenes: list[SceneSpec], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Float pictures `(scenes, 3, H, W)`: two colours mixed along a line or by smooth noise."""
    height, width = size
    y = (torch.arange(height, device=device) + 0.5).view(-1, 1) / height - 0.5
    x = (torch.arange(width, device=device) + 0.5).view(1, -1) / width - 0.5
    angle = torch.tensor([scene.background.angle for scene in scenes], device=device).view(-1, 1, 1)
    mix = 0.5 + (x * torch.cos(angle) + y * torch.sin(angle)) * math.sqrt(0.5)
    noisy = [i for i, scene in enumerate(scenes) if scene.background.kind == "noise"]
    if noisy:
        seeds = [scenes[i].background.noise_seed for i in noisy]
        mix[noisy] = _smooth_noise(seeds, size, device)
    flat = [i for i, scene in enumerate(scenes) if scene.background.kind == "flat"]
    mix[flat] = 0.0
    first = torch.tensor([scene.background.rgb for scene in scenes], device=device)
    second = torch.tensor([scene.background.second_rgb for scene in scenes], device=device)
    brightness = torch.tensor([scene.brightness for scene in scenes], device=device)
    first, second = first[..., None, None], second[..., None, None]
    picture = torch.lerp(first, second, mix.unsqueeze(1))
    return picture * brightness.view(-1, 1, 1, 1)


def _smooth_noise(seeds: list[int], size: tuple[int, int], device: torch.device) -> Tensor:
    grids = [
        torch.rand((1, _NOISE_GRID, _NOISE_GRID), generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    coarse = torch.stack(grids).to(device)
    fine = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return fine.squeeze(1).clamp(0.0, 1.0)
