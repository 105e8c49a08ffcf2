"""Frames of level "full", painted for many videos and times at once.

Objects are painted in windows just large enough for them, so that their number, turns and patterns
cost little. As in level "basic", a frame is the same whether rendered alone or among others.

A frame is made in this order: background seen by the camera, objects, light, lens blur, text, the
transition to another scene, sensor noise; compression comes last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.synth.full.backgrounds import look_at, mix_textures, world_axes
from timevlm.synth.full.compression import through_jpeg
from timevlm.synth.full.font import text_mask
from timevlm.synth.full.footage import FootagePainter
from timevlm.synth.full.motion import (
    Poses,
    Views,
    camera_views,
    light_gains,
    object_poses,
    object_table,
)
from timevlm.synth.full.paint import paint_objects
from timevlm.synth.full.palette import MAX_OBJECTS
from timevlm.synth.full.shots import Shots, find_shots
from timevlm.synth.full.spec import FullScene, FullVideo, Overlay

_NOISE_BANK = 8
_TEXT_HEIGHT = 0.145  # of the shorter side
_TEXT_MIDDLE = 0.11  # distance of its middle from the edge
_PLATE_RGB = 18.0
_MAX_BLUR = 0.008
# Few enough that a block's float pictures stay in a CPU's cache.
_BLOCK_PIXELS_CPU = 24 * 96 * 96
_BLOCK_PIXELS_GPU = 2048 * 96 * 96


def render_full_frames(
    requests: Sequence[tuple[FullVideo, Tensor]],
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """The frames of all requests in order, uint8 `(sum n, 3, height, width)` on `device`.

    Times are float64 seconds on the CPU, within their videos.
    """
    height, width = size
    scenes, shots = find_shots(requests)
    frames = torch.empty((len(shots.seconds), 3, height, width), dtype=torch.uint8, device=device)
    if not len(frames):
        return frames
    canvas = _Canvas(scenes, size, device)
    pixels = _BLOCK_PIXELS_CPU if device.type == "cpu" else _BLOCK_PIXELS_GPU
    block = max(1, pixels // (height * width))
    for start in range(0, len(frames), block):
        part = slice(start, start + block)
        frames[part] = canvas.paint(shots.select(part))
    start = 0
    for spec, seconds in requests:
        if spec.jpeg_scale is not None and len(seconds):
            part = slice(start, start + len(seconds))
            frames[part] = through_jpeg(frames[part], spec.jpeg_scale)
        start += len(seconds)
    return frames


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What pictures of scenes need: all `(n,)` or `(n, slots)`, on the canvas's device."""

    scene_index: Tensor
    seconds: Tensor
    views: Views
    poses: Poses
    gain: Tensor
    has_text: Tensor


class _Canvas:
    """What the frames of one call share: textures, backgrounds, texts and the noise bank."""

    def __init__(
        self, scenes: Sequence[FullScene], size: tuple[int, int], device: torch.device
    ) -> None:
        self.scenes = scenes
        self.size = size
        self.device = device
        self.table = torch.stack([object_table(s.objects, MAX_OBJECTS) for s in scenes])
        self.textures = mix_textures([s.background for s in scenes], device)
        self.colours = torch.tensor(
            [(s.background.rgb, s.background.second_rgb) for s in scenes], device=device
        )[..., None, None]  # (scenes, 2, 3, 1, 1)
        resting = Views(x=torch.full((len(scenes),), 0.5), y=torch.full((len(scenes),), 0.5),
                        zoom=torch.ones(len(scenes)))  # fmt: skip
        every = torch.arange(len(scenes), device=device)
        self.backgrounds = self._background(every, resting)
        self.footage = FootagePainter(scenes, device)
        # A shot of footage is painted by itself, wherever its camera is.
        self.moves = torch.tensor([s.camera is not None for s in scenes]) & ~self.footage.is_shot
        self.blur = torch.tensor([s.blur for s in scenes])
        self.noise_level = torch.tensor([s.noise_level for s in scenes], device=device)
        texts = [_text_layers(s.overlay, size) for s in scenes]
        self.plates = torch.stack([plate for plate, _ in texts]).to(device)
        self.letters = torch.stack([letters for _, letters in texts]).to(device)
        ink = [(0.0,) * 3 if s.overlay is None else s.overlay.rgb for s in scenes]
        self.ink = torch.tensor(ink, device=device)[..., None, None]
        generator = torch.Generator().manual_seed(0)
        self.noise_bank = torch.randn((_NOISE_BANK, 1, *size), generator=generator).to(device)

    def paint(self, shots: Shots) -> Tensor:
        """Frames uint8 `(n, 3, H, W)`."""
        frames = self._pictures(self._layer(shots.scene_index, shots.seconds))
        mixed = (shots.second_share > 0).nonzero().squeeze(1)
        if len(mixed):
            other = self._pictures(
                self._layer(shots.second_scene[mixed], shots.second_seconds[mixed])
            )
            share = shots.second_share[mixed].float().to(self.device).view(-1, 1, 1, 1)
            mixed = mixed.to(self.device)
            frames[mixed] = torch.lerp(frames[mixed], other, share)
        changed = ((shots.gain != 1.0) | (shots.white != 0.0)).nonzero().squeeze(1)
        if len(changed):
            gain = shots.gain[changed].float().to(self.device).view(-1, 1, 1, 1)
            white = shots.white[changed].float().to(self.device).view(-1, 1, 1, 1)
            changed = changed.to(self.device)
            frames[changed] = frames[changed] * gain * (1.0 - white) + 255.0 * white
        level = self.noise_level[shots.scene_index.to(self.device)].view(-1, 1, 1, 1)
        noise = self.noise_bank[shots.noise_index(_NOISE_BANK).to(self.device)] * level
        return frames.add_(noise).add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)

    def _layer(self, scene_index: Tensor, seconds: Tensor) -> _Layer:
        views = camera_views(self.scenes, scene_index, seconds)
        poses = object_poses(self.table[scene_index], seconds[:, None])
        text = [s.overlay for s in self.scenes]
        times = torch.tensor(
            [(0.0, 0.0) if o is None else (o.start_seconds, o.end_seconds) for o in text],
            dtype=torch.float64,
        )[scene_index]
        return _Layer(
            scene_index=scene_index,
            seconds=seconds,
            views=views,
            poses=views.apply(poses),
            gain=light_gains(self.scenes, scene_index, seconds),
            has_text=(seconds >= times[:, 0]) & (seconds < times[:, 1]),
        )

    def _pictures(self, layer: _Layer) -> Tensor:
        """Float pictures `(n, 3, H, W)` of scenes, without transitions and noise."""
        index = layer.scene_index.to(self.device)
        frames = self.backgrounds[index]
        moving = self.moves[layer.scene_index].nonzero().squeeze(1)
        if len(moving):
            rows = moving.to(self.device)
            frames[rows] = self._background(index[rows], layer.views.select(moving))
        filmed = self.footage.is_shot[layer.scene_index].nonzero().squeeze(1)
        if len(filmed):
            views = layer.views.select(filmed)
            shots = (layer.scene_index[filmed], layer.seconds[filmed])
            frames[filmed.to(self.device)] = self.footage.paint(*shots, views, self.size)
        paint_objects(frames, layer.poses)
        frames *= layer.gain.float().to(self.device).view(-1, 1, 1, 1)
        blurred = (self.blur[layer.scene_index] > 0).nonzero().squeeze(1)
        if len(blurred):
            sigma = self.blur[layer.scene_index[blurred]] * min(self.size)
            rows = blurred.to(self.device)
            frames[rows] = _blurred(frames[rows], sigma, math.ceil(3 * _MAX_BLUR * min(self.size)))
        written = layer.has_text.nonzero().squeeze(1).to(self.device)
        if len(written):
            scene = index[written]
            picture = torch.lerp(
                frames[written], torch.tensor(_PLATE_RGB, device=self.device), self.plates[scene]
            )
            frames[written] = torch.lerp(picture, self.ink[scene], self.letters[scene])
        return frames

    def _background(self, scene: Tensor, views: Views) -> Tensor:
        """Backgrounds `(n, 3, H, W)` of scenes as a camera sees them."""
        x, y = (axis.to(self.device) for axis in world_axes(views, self.size))
        mix = look_at(self.textures[scene], x, y)
        first, second = self.colours[scene].unbind(1)
        return torch.lerp(first, second, mix)


def _text_layers(overlay: Overlay | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How far the plate and the letters cover each pixel, `(1, H, W)` each."""
    plate, letters = torch.zeros((1, *size)), torch.zeros((1, *size))
    if overlay is None:
        return plate, letters
    mask, top, left = placed_text(overlay, size)
    tall, wide = mask.shape
    letters[0, top : top + tall, left : left + wide] = mask
    if overlay.boxed:
        pad = max(2, round(0.025 * min(size)))
        rows = slice(max(0, top - pad), top + tall + pad)
        plate[0, rows, max(0, left - pad) : left + wide + pad] = 0.85
    return plate, letters


def placed_text(overlay: Overlay, size: tuple[int, int]) -> tuple[Tensor, int, int]:
    """How far letters cover the pixels of their box `(tall, wide)`, and its top and left."""
    height, width = size
    mask = text_mask(overlay.text, max(7, round(_TEXT_HEIGHT * min(size))))
    mask = mask[: height - 2, : width - 2]
    tall, wide = mask.shape
    middle = _TEXT_MIDDLE * height if overlay.side == "top" else (1.0 - _TEXT_MIDDLE) * height
    top = min(max(0, round(middle - tall / 2)), height - tall)
    left = min(max(1, round(overlay.x * width - wide / 2)), width - wide - 1)
    return mask, top, left


def _blurred(frames: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Gaussian blur with a standard deviation `(n,)` in pixels for each frame."""
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (taps / sigma.double()[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).float().to(frames.device)
    weights = weights[..., None, None, None]  # (n, taps, 1, 1, 1)
    height, width = frames.shape[-2:]
    padded = F.pad(frames, (reach, reach, 0, 0), mode="replicate")
    total = padded[..., :width] * weights[:, 0]
    for tap in range(1, 2 * reach + 1):
        total = torch.addcmul(total, padded[..., tap : tap + width], weights[:, tap])
    padded = F.pad(total, (0, 0, reach, reach), mode="replicate")
    total = padded[..., :height, :] * weights[:, 0]
    for tap in range(1, 2 * reach + 1):
        total = torch.addcmul(total, padded[..., tap : tap + height, :], weights[:, tap])
    return total
