"""What each patch of a rendered frame shows: the world knows, so no one has to label it."""

from typing import NamedTuple

import torch
from torch import Tensor

from timevlm.synth.motion import Poses, object_poses, object_table
from timevlm.synth.palette import COLOURS, MAX_OBJECTS, MOTIONS, SHAPES, SIZES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.spec import ObjectSpec, SceneSpec, VideoSpec
from timevlm.training.batches import VideoSample

MASK_SIDE = 8  # points of a patch, each way, at which its outline is asked for
_COLOUR_INDEX = {name: i for i, name in enumerate(COLOURS)}
_SIZE_INDEX = {name: i for i, name in enumerate(SIZES)}
_MOTION_INDEX = {name: i for i, name in enumerate(MOTIONS)}
_BACKGROUND = [len(SHAPES), len(COLOURS), len(SIZES), len(MOTIONS)]


class PatchLabels(NamedTuple):
    """Labels of N frames of T patches.

    shapes, colours, sizes and motions (N, T), the last class is background; places (N, T, 3):
    x and y of the object's centre in the frame, and its radius; scenes (N,): the frame's scene,
    counted from 0; masks (N, T, MASK_SIDE^2) bool: where objects are (no points unless asked for);
    moves (N, T, 3): the place less the mean of the object's places in earlier frames of its scene.
    """

    shapes: Tensor
    colours: Tensor
    sizes: Tensor
    motions: Tensor
    scenes: Tensor
    places: Tensor
    masks: Tensor
    moves: Tensor

    def to(self, device: torch.device | str) -> "PatchLabels":
        """The same labels on a device."""
        return PatchLabels(*(t.to(device) for t in self))


def patch_labels(samples: list[VideoSample], grid: int, *, outline: bool = True) -> PatchLabels:
    """Labels of all frames of the samples, for grid x grid patches.

    A patch belongs to the last painted object whose radius reaches its centre.
    """
    tables, named, times, scenes, runs = [], [], [], [], []
    for number_of_video, sample in enumerate(samples):
        for t in sample.seconds.tolist():
            number, scene = _scene_at(sample.spec, t)
            tables.append(object_table(scene.objects, MAX_OBJECTS))
            named.append([_classes(item, t) for item in scene.objects])
            named[-1] += [_BACKGROUND] * (MAX_OBJECTS + 1 - len(scene.objects))
            times.append(t)
            scenes.append(number)
            runs.append((number_of_video, number))
    poses = object_poses(torch.stack(tables), torch.tensor(times, dtype=torch.float64)[:, None])
    owner, places = _patch_owners(poses, grid)
    moved = _moves(poses, runs)
    moves = moved.gather(1, owner[..., None].expand(-1, -1, 3))
    classes = torch.tensor(named)  # (N, slots + 1, kinds of class)
    of_patch = classes.gather(1, owner[..., None].expand(-1, -1, classes.shape[2]))
    masks = _patch_masks(poses, grid) if outline else torch.empty(*owner.shape, 0)
    return PatchLabels(*of_patch.unbind(-1), torch.tensor(scenes), places, masks, moves)


def _scene_at(spec: VideoSpec, seconds: float) -> tuple[int, SceneSpec]:
    numbered = list(enumerate(spec.scenes))
    return next((i, s) for i, s in reversed(numbered) if seconds >= s.start_seconds or i == 0)


def _classes(item: ObjectSpec, seconds: float) -> list[int]:
    colour = _COLOUR_INDEX[item.colour_at(seconds)]
    return [SHAPES.index(item.shape), colour, _SIZE_INDEX[item.size], _MOTION_INDEX[item.motion]]


def _patch_owners(poses: Poses, grid: int) -> tuple[Tensor, Tensor]:
    """Slot of the object that each patch shows (N, T), MAX_OBJECTS for none, and its place."""
    centre = (torch.arange(grid) + 0.5) / grid
    patch_y, patch_x = torch.meshgrid(centre, centre, indexing="ij")
    patch_x, patch_y = patch_x.flatten(), patch_y.flatten()
    num_frames, num_patches = poses.x.shape[0], grid * grid
    owner = torch.full((num_frames, num_patches), MAX_OBJECTS)
    places = torch.zeros(num_frames, num_patches, 3)
    half_patch = 0.5 / grid
    for slot in range(MAX_OBJECTS):
        dx = poses.x[:, slot, None].float() - patch_x
        dy = poses.y[:, slot, None].float() - patch_y
        radius = poses.radius[:, slot, None].float()
        # A small object may lie between patch centres: it owns the patches it is centred in.
        reach = radius.clamp(min=half_patch * 1.2)
        inside = poses.visible[:, slot, None] & (dx.square() + dy.square() < reach.square())
        owner = owner.masked_fill(inside, slot)
        place = torch.stack([poses.x[:, slot], poses.y[:, slot], poses.radius[:, slot]], dim=-1)
        places = torch.where(inside[..., None], place[:, None].float(), places)
    return owner, places


def _moves(poses: Poses, runs: list[tuple[int, int]]) -> Tensor:
    """How far each slot (and none, last) is from where it was: (N, MAX_OBJECTS + 1, 3).

    `runs` names the scene of each frame; frames of a scene stand together, in time order.
    """
    place = torch.stack([poses.x, poses.y, poses.radius], dim=-1).float()
    seen = poses.visible[..., None].float()
    moves = torch.zeros(place.shape[0], MAX_OBJECTS + 1, 3)
    start = 0
    for end in range(1, len(runs) + 1):
        if end < len(runs) and runs[end] == runs[start]:
            continue
        here, shown = place[start:end], seen[start:end]
        count = (shown.cumsum(dim=0) - shown).clamp(min=1.0)
        earlier = ((here * shown).cumsum(dim=0) - here * shown) / count
        known = (shown.cumsum(dim=0) - shown) > 0
        moves[start:end, :-1] = torch.where(known, here - earlier, 0.0)
        start = end
    return moves


def _patch_masks(poses: Poses, grid: int) -> Tensor:
    """Where objects cover each patch, on MASK_SIDE x MASK_SIDE points: (N, grid^2, points)."""
    side = grid * MASK_SIDE
    place = (torch.arange(side) + 0.5) / side
    y, x = place[:, None], place[None, :]
    covered = torch.zeros(poses.visible.shape[0], side, side, dtype=torch.bool)
    for slot in range(MAX_OBJECTS):
        for index, name in enumerate(SHAPES):
            drawn = poses.visible[:, slot] & (poses.shape_index[:, slot] == index)
            rows = drawn.nonzero().squeeze(1)
            if len(rows):
                cx, cy, radius = (
                    t[rows, slot].float()[:, None, None] for t in (poses.x, poses.y, poses.radius)
                )
                inside = SIGNED_DISTANCE[name]((x - cx) / radius, (y - cy) / radius) < 0
                covered[rows] |= inside
    blocks = covered.view(-1, grid, MASK_SIDE, grid, MASK_SIDE).transpose(2, 3)
    return blocks.reshape(-1, grid * grid, MASK_SIDE**2)
