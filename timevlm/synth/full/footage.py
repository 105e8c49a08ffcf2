"""Footage: videos that look like film, with nothing in them that has a name.

What a cut, a camera or a light does to a picture is to be known in real footage too, whose pictures
are far from coloured shapes on plain ground. So training also shows pictures of leaves: many
things of all sizes, one over the other, which have the edges and the spectrum of photographs (Lee,
Mumford and Huang, "Occlusion Models for Natural Images", IJCV 2001). Before them drift things
without names, as people and cars do, so that what moves is not the camera; shots of one video share
their colours, so that a cut is not another colour; a tripod trembles. No benchmark holds footage.

A texture covers the world from `LOW` to `HIGH`, as backgrounds do, and follows from a seed.
"""

import colorsys
import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from timevlm.synth.full.backgrounds import HIGH, LOW, look_at, value_noise, world_axes
from timevlm.synth.full.motion import Views
from timevlm.synth.full.sampling import sample_full_video
from timevlm.synth.full.spec import FullScene, FullVideo, Transition
from timevlm.synth.spec import RGB, Point, crop_scenes

MAX_DRIFTERS = 4
_TEXELS = 160
_NUM_LEAVES = 70
_LEAF_RADII = (0.025, 0.6)  # as many between 1 and 2 as between 2 and 4: alike at every scale
_GRAIN_CELLS = (6, 12, 24, 48, 96)
_TREMBLE_RATES = (2.3, 3.1)  # a second, in x and y
_SWAY_RATE = 0.7
# Of a row of `drifter_table`: the fields of `Drifter`, those of two and three numbers in parts.
_COLUMNS = (
    *("width", "height", "angle", "start_seconds", "end_seconds"),
    *("start_x", "start_y", "end_x", "end_y", "sway"),
    *("cut_from_x", "cut_from_y", "red", "green", "blue"),
)

_SINGLE_SHARE = 0.4  # videos of one shot
_HARD_CUT_SHARE = 0.7  # transitions that are made hard cuts, as most of film's are
_SAME_COLOURS_SHARE = 0.65
_SHOWN_AGAIN_SHARE = 0.25  # shots of what the shot before the last showed
_DRIFTER_COUNTS = (0, 1, 2, 3, 4)
_DRIFTER_WEIGHTS = (20, 30, 25, 15, 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drifter:
    """Something without a name that goes from one place to another, swaying, and rests elsewhen.

    An ellipse with the half axes `axes` in shares of the frame, turned by `angle` (radians), cut
    out of its scene's own picture at `cut_from_xy` and tinted.
    """

    axes: Point
    angle: float
    start_xy: Point
    end_xy: Point
    start_seconds: float
    end_seconds: float
    sway: float
    cut_from_xy: Point
    tint: RGB


@dataclass(frozen=True, kw_only=True, slots=True)
class FootageScene(FullScene):
    """A shot without objects; `palette` (0..255) has the colours of its leaves.

    `tremble` is how far a camera that stands still is moved to either side, in shares of the frame.
    """

    leaves_seed: int
    palette: tuple[RGB, ...]
    drifters: tuple[Drifter, ...] = ()
    tremble: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FootageVideo(FullVideo):
    """A video of shots; it follows from its seed and is not written to JSON."""

    scenes: tuple[FootageScene, ...]


def sample_footage(seed: int, split: str) -> FootageVideo:
    """The footage of a seed: cameras, light, texts and transitions of its video of level "full"."""
    rng = random.Random(f"timevlm-footage:{split}:{seed}")
    video = sample_full_video(seed, split)
    if rng.random() < _SINGLE_SHARE:
        video = crop_scenes(video, rng.randrange(len(video.scenes)), 1)
    scenes: list[FootageScene] = []
    for scene in video.scenes:
        scenes.append(_shot(rng, scene, scenes))
    return FootageVideo(
        seed=seed,
        split=split,
        duration_seconds=video.duration_seconds,
        scenes=tuple(scenes),
        jpeg_scale=rng.randint(3, 14) if rng.random() < 0.5 else None,
    )


def _shot(rng: random.Random, scene: FullScene, before: Sequence[FootageScene]) -> FootageScene:
    transition = scene.transition
    if transition is not None and (
        # Nothing may be under way that a freeze could stop.
        transition.kind == "freeze" or rng.random() < _HARD_CUT_SHARE
    ):
        transition = Transition(kind="cut", duration_seconds=0.0)
    camera = scene.camera
    if camera is not None and camera.kind[:3] in ("pan", "til"):
        camera = replace(camera, amount=round(camera.amount * rng.uniform(0.5, 1.0), 3))
    seed, palette = rng.randrange(2**31), _sample_palette(rng)
    if before and rng.random() < _SAME_COLOURS_SHARE:
        palette = before[-1].palette
    if len(before) > 1 and rng.random() < _SHOWN_AGAIN_SHARE:
        seed, palette = before[-2].leaves_seed, before[-2].palette
    count = rng.choices(_DRIFTER_COUNTS, _DRIFTER_WEIGHTS)[0]
    return FootageScene(
        start_seconds=scene.start_seconds,
        end_seconds=scene.end_seconds,
        background=replace(scene.background, kind="flat"),
        objects=(),
        brightness=round(rng.uniform(0.6, 1.1), 3),
        noise_level=scene.noise_level,
        camera=camera,
        light=scene.light,
        overlay=None if scene.overlay is None else replace(scene.overlay, boxed=True),
        transition=transition,
        blur=round(rng.uniform(0.002, 0.008), 4) if rng.random() < 0.5 else 0.0,
        leaves_seed=seed,
        palette=palette,
        drifters=tuple(_sample_drifter(rng, scene) for _ in range(count)),
        tremble=round(rng.uniform(0.001, 0.006), 4) if rng.random() < 0.35 else 0.0,
    )


def _sample_palette(rng: random.Random) -> tuple[RGB, ...]:
    """A few colours around one hue, from dark to light; most are not far from grey."""
    hue, is_grey, value = rng.random(), rng.random() < 0.5, rng.uniform(0.15, 0.8)
    colours = []
    for _ in range(5):
        own_hue = rng.random() if rng.random() < 0.15 else hue + rng.gauss(0.0, 0.03)
        saturation = rng.uniform(0.0, 0.15) if is_grey else rng.uniform(0.05, 0.7)
        own_value = min(1.0, max(0.02, rng.gauss(value, 0.2)))
        r, g, b = colorsys.hsv_to_rgb(own_hue % 1.0, saturation, own_value)
        colours.append((round(255 * r, 1), round(255 * g, 1), round(255 * b, 1)))
    return tuple(colours)


def _sample_drifter(rng: random.Random, scene: FullScene) -> Drifter:
    start, end = scene.start_seconds, scene.end_seconds
    if rng.random() < 0.6:  # on its way for a part of the shot
        start = round(rng.uniform(start, end - 2.0), 1)
        end = round(rng.uniform(start + 1.5, end), 1)
    size = 0.05 * 6.0 ** rng.random()
    inside = [(rng.uniform(0.0, 1.0), rng.uniform(0.0, 1.0)) for _ in range(2)]
    return Drifter(
        axes=(round(size * rng.uniform(0.5, 1.0), 3), round(size * rng.uniform(0.5, 1.6), 3)),
        angle=round(rng.uniform(0.0, math.pi), 2),
        start_xy=tuple(round(v, 3) for v in inside[0]),
        end_xy=tuple(round(v, 3) for v in inside[1]),
        start_seconds=start,
        end_seconds=end,
        sway=round(rng.uniform(0.0, 0.04), 3),
        cut_from_xy=(round(rng.uniform(0.0, 1.0), 3), round(rng.uniform(0.0, 1.0), 3)),
        tint=tuple(round(rng.uniform(0.6, 1.3), 2) for _ in range(3)),
    )


class FootagePainter:
    """Paints shots; the other scenes that it is given are left out.

    `is_shot` (scenes,) bool tells which they are.
    """

    def __init__(self, scenes: Sequence[FullScene], device: torch.device) -> None:
        self.is_shot = torch.tensor([isinstance(s, FootageScene) for s in scenes], dtype=torch.bool)
        self.place = self.is_shot.cumsum(0) - 1
        shots = [s for s in scenes if isinstance(s, FootageScene)]
        self.device = device
        if shots:
            leaves = torch.stack([leaves_picture(s.leaves_seed, s.palette) for s in shots])
            self.leaves = leaves.to(device)
            self.tremble = torch.tensor([s.tremble for s in shots], dtype=torch.float64)
            self.drifters = torch.stack([drifter_table(s.drifters) for s in shots])

    def paint(
        self, scene_index: Tensor, seconds: Tensor, views: Views, size: tuple[int, int]
    ) -> Tensor:
        """Pictures float `(n, 3, H, W)`, 0..255, of shots `(n,)` at seconds `(n,)`, as seen."""
        shot = self.place[scene_index]
        wobble = [self.tremble[shot] * torch.sin(math.tau * r * seconds) for r in _TREMBLE_RATES]
        views = Views(x=views.x + wobble[0], y=views.y + wobble[1], zoom=views.zoom)
        x, y = (axis.to(self.device) for axis in world_axes(views, size))
        leaves = self.leaves[shot.to(self.device)]
        frames = look_at(leaves, x, y)
        for slot in range(MAX_DRIFTERS):
            drawn = (_columns(self.drifters[shot, slot])["width"] > 0).nonzero().squeeze(1)
            if len(drawn):
                table = self.drifters[shot[drawn], slot]
                rows = drawn.to(self.device)
                place = drifter_places(table, seconds[drawn]).float().to(self.device)
                over = (frames[rows], leaves[rows], x[rows], y[rows])
                frames[rows] = _with_drifter(over, table.float().to(self.device), place)
        return frames


def drifter_places(table: Tensor, seconds: Tensor) -> Tensor:
    """Middles `(n, 2)` of drifters, rows `(n, 15)` of `drifter_table`, at seconds `(n,)`."""
    d = _columns(table)
    duration = d["end_seconds"] - d["start_seconds"]
    elapsed = (seconds - d["start_seconds"]).clamp(min=0.0).minimum(duration)
    x = torch.lerp(d["start_x"], d["end_x"], elapsed / duration)
    y = torch.lerp(d["start_y"], d["end_y"], elapsed / duration)
    return torch.stack([x, y + d["sway"] * torch.sin(math.tau * _SWAY_RATE * elapsed)], dim=1)


def drifter_table(drifters: Sequence[Drifter]) -> Tensor:
    """Rows `(MAX_DRIFTERS, 15)`, float64; a row of none has no width."""
    table = torch.zeros(MAX_DRIFTERS, len(_COLUMNS), dtype=torch.float64)
    for row, d in zip(table, drifters, strict=False):
        numbers = (*d.axes, d.angle, d.start_seconds, d.end_seconds, *d.start_xy, *d.end_xy)
        row[:] = torch.tensor((*numbers, d.sway, *d.cut_from_xy, *d.tint))
    return table


def _columns(table: Tensor) -> dict[str, Tensor]:
    return dict(zip(_COLUMNS, table.unbind(-1), strict=True))


def _with_drifter(
    over: tuple[Tensor, Tensor, Tensor, Tensor], table: Tensor, place: Tensor
) -> Tensor:
    """Frames `(n, 3, H, W)` with one drifter each on top; `over`: frames, leaves, x and y axes."""
    frames, leaves, x, y = over
    d = {name: column[:, None] for name, column in _columns(table).items()}
    x_from_middle, y_from_middle = x - place[:, :1], y - place[:, 1:]
    across, down = x_from_middle[:, None, :], y_from_middle[:, :, None]
    width, height = d["width"][..., None], d["height"][..., None]
    cos, sin = torch.cos(d["angle"])[..., None], torch.sin(d["angle"])[..., None]
    distance = torch.hypot(
        (across * cos + down * sin) / width, (down * cos - across * sin) / height
    )
    pixel = (x[:, 1] - x[:, 0])[:, None, None]
    coverage = torch.sigmoid((1.0 - distance) * torch.minimum(width, height) / pixel)
    own = look_at(leaves, x_from_middle + d["cut_from_x"], y_from_middle + d["cut_from_y"])
    tint = torch.stack([d["red"], d["green"], d["blue"]], dim=1)
    return torch.lerp(frames, own * tint[..., None], coverage[:, None])


@functools.lru_cache(maxsize=64)
def leaves_picture(seed: int, palette: tuple[RGB, ...]) -> Tensor:
    """A texture of leaves in the colours of a palette, float `(3, texels, texels)`, 0..255."""
    generator = torch.Generator().manual_seed(seed)
    axis = LOW + (HIGH - LOW) * (torch.arange(_TEXELS) + 0.5) / _TEXELS
    colours = torch.tensor(palette)
    picture = colours[0][:, None, None].expand(3, _TEXELS, _TEXELS).clone()
    numbers = torch.rand((_NUM_LEAVES, 8), generator=generator)
    least, most = _LEAF_RADII
    numbers[:, 0] = least * (most / least) ** numbers[:, 0]
    numbers[:, 1:3] = LOW + (HIGH - LOW) * numbers[:, 1:3]
    picks = torch.randint(len(palette), (_NUM_LEAVES,), generator=generator).tolist()
    # Large ones first: in any order, they would hide nearly all of the small ones.
    for leaf in numbers[:, 0].argsort(descending=True).tolist():
        _lay_leaf(picture, axis, colours[picks[leaf]], numbers[leaf].tolist())
    roughness, blend = torch.rand((2,), generator=generator).tolist()
    grain = sum(
        (value_noise(cells, generator, _TEXELS) - 0.5) * 0.7**octave
        for octave, cells in enumerate(_GRAIN_CELLS)
    )
    light = torch.lerp(value_noise(2, generator, _TEXELS), torch.tensor(0.5), blend)
    return (picture * (1.0 + roughness * grain) * (0.5 + light)).clamp(0.0, 255.0)


def _lay_leaf(picture: Tensor, axis: Tensor, colour: Tensor, numbers: Sequence[float]) -> None:
    """Put an ellipse or a box, lit from one side, on a picture `(3, T, T)` with these axes."""
    radius, middle_x, middle_y, turn, squeeze, shade, lit, kind = numbers
    rows, columns = _texels_within(middle_y, 1.25 * radius), _texels_within(middle_x, 1.25 * radius)
    dx, dy = axis[columns] - middle_x, (axis[rows] - middle_y)[:, None]
    cos, sin = math.cos(math.tau * turn) / radius, math.sin(math.tau * turn) / radius
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / (0.35 + 0.65 * squeeze)
    if kind < 0.5:
        inside = along.square() + across.square() < 1.0
    else:
        inside = torch.maximum(along.abs(), across.abs()) < 0.85
    light = 0.75 + 0.5 * lit + 0.5 * (shade - 0.5) * along
    picture[:, rows, columns] = torch.where(
        inside, colour[:, None, None] * light, picture[:, rows, columns]
    )


def _texels_within(middle: float, reach: float) -> slice:
    """The texels of an axis that are so near to a place."""
    first, last = (int((middle + side - LOW) * _TEXELS / (HIGH - LOW)) for side in (-reach, reach))
    return slice(max(0, first), last + 1)
