"""What each patch of a rendered frame shows: the world knows, so no one has to label it.

At level "full" labels follow the camera and the transitions: a patch is labelled with what stands
there on the picture, a dissolve with the scene that shows more, a dark or white frame with nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from timevlm.synth.full.motion import Poses, screen_poses
from timevlm.synth.full.object_questions import speed
from timevlm.synth.full.palette import MAX_OBJECTS as MAX_OBJECTS_FULL
from timevlm.synth.full.palette import TRAVELLING
from timevlm.synth.full.render import placed_text
from timevlm.synth.full.shots import find_shots
from timevlm.synth.full.spec import FullScene, FullVideo, Overlay
from timevlm.synth.motion import object_poses, object_table
from timevlm.synth.palette import MAX_OBJECTS, SHAPES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.spec import ObjectSpec, SceneSpec, VideoSpec
from timevlm.training.batches import VideoSample
from timevlm.training.kinds import BASIC, FULL, Kinds, text_parts
from timevlm.training.stillness import STILL, still_labels

_PATCH_PIXELS = 16  # at which texts are laid out: a box in pixels is about the same at any size
MASK_SIDE = 8  # points of a patch, each way, at which its outline is asked for
MIN_SEEN = 0.3  # what a fade or flash must leave of an object's contrast for it to count as shown
# What no lesson asks for. Of what turned which colour only objects are asked: those that did would
# drown in all the patches of none.
NOT_ASKED = -1
NOT_YET = NOT_ASKED  # class of a motion that has not begun: nothing shows it so far
_NUM_OBJECT_CLASSES = 7  # shape, colour, size, motion, pattern, earlier colour, whether it acts
_NUM_HAPPENINGS = 4  # camera, light, transition, cut


class PatchLabels(NamedTuple):
    """Labels of N frames of T patches.

    shapes, colours, sizes and motions (N, T), the last class is background, a motion of level
    "full" is NOT_YET before it begins; scenes (N,): the frame's scene, counted from 0;
    places (N, T, 3): x and y of the object's centre in the frame, and its radius;
    masks (N, T, MASK_SIDE^2) bool: where objects are (no points unless asked for);
    moves (N, T, 3): the place less the mean of the object's places in earlier frames of its scene;
    patterns (N, T) as shapes; earlier_colours (N, T): the colour that the object had before it
    turned another one, the last class is none, NOT_ASKED on background; happenings (N, 4): what
    camera and light have done since the frame before, which transition goes on and whether a cut
    came just before, the last class is nothing; texts (N, T, 3): the word, or the tens and the ones
    of the number, that is written there, the last class is none; speeds (N, T): in frame sides a
    second while the object goes from place to place, else 0; acts (N, T): whether the object has
    moved on since the frame before, the last class is background; stills (N,): those of
    `still_labels`. Classes count in the lists of the level's `Kinds`.
    """

    shapes: Tensor
    colours: Tensor
    sizes: Tensor
    motions: Tensor
    scenes: Tensor
    places: Tensor
    masks: Tensor
    moves: Tensor
    patterns: Tensor
    earlier_colours: Tensor
    happenings: Tensor
    texts: Tensor
    speeds: Tensor
    acts: Tensor
    stills: Tensor

    def to(self, device: torch.device | str) -> "PatchLabels":
        """The same labels on a device."""
        return PatchLabels(*(t.to(device) for t in self))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What N frames show of up to S objects each, all on the picture.

    shape_index, x, y, radius, angle and visible (N, S); classes (N, S + 1, 7), those of no object
    last; speeds (N, S + 1); scenes and stills (N,); happenings (N, 4); runs: (video, scene) of each
    frame; texts: what is written on each frame, None for nothing.
    """

    shape_index: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    visible: Tensor
    classes: Tensor
    speeds: Tensor
    scenes: Tensor
    happenings: Tensor
    stills: Tensor
    runs: list[tuple[int, int]]
    texts: Sequence[Overlay | None]


def patch_labels(samples: Sequence[VideoSample], grid: int, *, outline: bool = True) -> PatchLabels:
    """Labels of all frames of the samples, which are of one level, for grid x grid patches.

    A patch belongs to the last painted object whose radius reaches its centre.
    """
    full = [isinstance(sample.spec, FullVideo) for sample in samples]
    assert len(set(full)) == 1, "labels count in the lists of one level"
    seen = _full_seen(samples) if full[0] else _basic_seen(samples)
    owner, places = _patch_owners(seen, grid)
    moves = _moves(seen).gather(1, owner[..., None].expand(-1, -1, 3))
    of_patch = seen.classes.gather(1, owner[..., None].expand(-1, -1, _NUM_OBJECT_CLASSES))
    shapes, colours, sizes, motions, patterns, earlier_colours, acts = of_patch.unbind(-1)
    masks = _patch_masks(seen, grid) if outline else torch.empty(*owner.shape, 0)
    return PatchLabels(
        shapes,
        colours,
        sizes,
        motions,
        seen.scenes,
        places,
        masks,
        moves,
        patterns,
        earlier_colours,
        seen.happenings,
        _patch_texts(seen, grid),
        seen.speeds.gather(1, owner),
        acts,
        seen.stills,
    )


def _nothing(kinds: Kinds) -> list[int]:
    """The classes of no object."""
    of_object = (kinds.shapes, kinds.colours, kinds.sizes, kinds.motions, kinds.patterns)
    return [*(len(names) for names in of_object), NOT_ASKED, len(kinds.acts)]


def _basic_seen(samples: Sequence[VideoSample]) -> _Seen:
    tables, named, times, scenes, runs = [], [], [], [], []
    for number_of_video, sample in enumerate(samples):
        for t in sample.seconds.tolist():
            number, scene = _scene_at(sample.spec, t)
            tables.append(object_table(scene.objects, MAX_OBJECTS))
            named.append([_basic_classes(item, t) for item in scene.objects])
            named[-1] += [_nothing(BASIC)] * (MAX_OBJECTS + 1 - len(scene.objects))
            times.append(t)
            scenes.append(number)
            runs.append((number_of_video, number))
    poses = object_poses(torch.stack(tables), torch.tensor(times, dtype=torch.float64)[:, None])
    return _Seen(
        shape_index=poses.shape_index,
        x=poses.x,
        y=poses.y,
        radius=poses.radius,
        angle=torch.zeros_like(poses.x),
        visible=poses.visible,
        classes=torch.tensor(named),
        speeds=torch.zeros(len(times), MAX_OBJECTS + 1),
        scenes=torch.tensor(scenes),
        happenings=torch.zeros(len(times), _NUM_HAPPENINGS, dtype=torch.long),
        stills=torch.full((len(times),), STILL),
        runs=runs,
        texts=[None] * len(times),
    )


def _scene_at(spec: VideoSpec, seconds: float) -> tuple[int, SceneSpec]:
    numbered = list(enumerate(spec.scenes))
    return next((i, s) for i, s in reversed(numbered) if seconds >= s.start_seconds or i == 0)


def _basic_classes(item: ObjectSpec, seconds: float) -> list[int]:
    colour = item.colour_at(seconds)
    return [
        BASIC.shapes.index(item.shape),
        BASIC.colours.index(colour),
        BASIC.sizes.index(item.size),
        BASIC.motions.index(item.motion),
        0,
        len(BASIC.colours) if colour == item.colour else BASIC.colours.index(item.colour),
        0,
    ]


def _full_seen(samples: Sequence[VideoSample]) -> _Seen:
    requests = [(sample.spec, sample.seconds) for sample in samples]
    scenes, shots = find_shots(requests)
    second = shots.second_share >= 0.5
    index = torch.where(second, shots.second_scene, shots.scene_index)
    seconds = torch.where(second, shots.second_seconds, shots.seconds)
    poses = screen_poses(scenes, index, seconds)
    is_lit = shots.gain * (1.0 - shots.white) >= MIN_SEEN
    numbers = {id(scene): i for sample in samples for i, scene in enumerate(sample.spec.scenes)}
    of_frame = torch.tensor([numbers[id(scene)] for scene in scenes])[index]
    videos = [v for v, sample in enumerate(samples) for _ in range(len(sample.seconds))]
    runs = list(zip(videos, of_frame.tolist(), strict=True))
    since = _since(runs, seconds)
    shows, goes_on, speeds = _motions(scenes, index, since)
    return _Seen(
        shape_index=poses.shape_index,
        x=poses.x,
        y=poses.y,
        radius=poses.radius,
        angle=poses.angle,
        visible=poses.visible & is_lit[:, None],
        classes=_full_classes(scenes, index, poses, (shows, goes_on)),
        speeds=speeds,
        scenes=of_frame,
        happenings=_happenings(samples, scenes, index, since),
        stills=torch.cat([still_labels(sample.spec, sample.seconds) for sample in samples]),
        runs=runs,
        texts=[
            text if lit and (text := scenes[i].overlay) and text.is_shown(t) else None
            for i, t, lit in zip(index.tolist(), seconds.tolist(), is_lit.tolist(), strict=True)
        ],
    )


def _since(runs: Sequence[tuple[int, int]], seconds: Tensor) -> Tensor:
    """From when to when each frame shows what happens: the times of the one before and its own.

    (N, 2). What goes on at a frame's time is not to be seen in it if it begins there, and still is
    if it ended since the frame before. The first frame of a scene shows no time at all.
    """
    goes_on = torch.tensor([last == own for last, own in pairwise(runs)], dtype=torch.bool)
    before = seconds.clone()
    before[1:] = torch.where(goes_on, seconds[:-1], seconds[1:])
    return torch.stack([before, seconds], dim=1)


def _shown_since(since: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Whether any of what lasts from start to end (N, ...) is to be seen in each frame."""
    before, now = (each.view(-1, *(1,) * (start.dim() - 1)) for each in since.unbind(1))
    return torch.maximum(before, start) < torch.minimum(now, end)


def _full_classes(
    scenes: Sequence[FullScene], index: Tensor, poses: Poses, when: tuple[Tensor, Tensor]
) -> Tensor:
    """What each object of each frame's scene is and does at the time: (N, S + 1, 7).

    `when` are the first two of `_motions`.
    """
    num_slots = poses.x.shape[1]
    table = torch.tensor([_still_classes(scene) for scene in scenes])[index]
    sizes, motions, first_colours = table[:, :num_slots].unbind(-1)
    has_turned = poses.colour_index != first_colours
    earlier = torch.where(has_turned, first_colours, len(FULL.colours))
    shows, goes_on = (each[:, :num_slots] for each in when)
    motions = torch.where(shows, motions, NOT_YET)
    acts = torch.where(goes_on, FULL.acts.index("acts"), FULL.acts.index("rests"))
    of_object = (poses.shape_index, poses.colour_index, sizes, motions, poses.pattern_index)
    classes = torch.tensor(_nothing(FULL)).expand(len(index), num_slots + 1, -1).clone()
    classes[:, :-1] = torch.stack([*of_object, earlier, acts], dim=-1)
    return classes


def _still_classes(scene: FullScene) -> list[list[int]]:
    """Size, motion and first colour of a scene's objects, which do not change with time."""
    found = [
        [
            FULL.sizes.index(item.size),
            FULL.motions.index(item.motion),
            FULL.colours.index(item.colour),
        ]
        for item in scene.objects
    ]
    nothing = [len(FULL.sizes), len(FULL.motions), len(FULL.colours)]
    return found + [nothing] * (MAX_OBJECTS_FULL - len(found))


def _motions(
    scenes: Sequence[FullScene], index: Tensor, since: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each object of each frame's scene, and of none, last: (N, S + 1) each.

    Whether its motion shows by then (what never moves shows that at any time), whether it shows to
    go on, and how fast the object is under way, 0 for at rest. `since` as `_since` gives it.
    """
    nothing = (0.0, 0.0, True, 0.0)
    rows = []
    for scene in scenes:
        objects = [
            (
                item.motion_start_seconds,
                item.motion_end_seconds,
                item.motion == "still",
                speed(item) if item.motion in TRAVELLING else 0.0,
            )
            for item in scene.objects
        ]
        rows.append(objects + [nothing] * (MAX_OBJECTS_FULL + 1 - len(objects)))
    start, end, rests, fast = torch.tensor(rows, dtype=torch.float64)[index].unbind(-1)
    rests, now = rests > 0, since[:, 1:]
    goes_on = ~rests & _shown_since(since, start, end)
    return rests | (now > start), goes_on, torch.where(goes_on, fast, 0.0).float()


def _happenings(
    samples: Sequence[VideoSample],
    scenes: Sequence[FullScene],
    index: Tensor,
    since: Tensor,
) -> Tensor:
    """What camera, light, transition and cut do in each frame: (N, 4); `since` as of `_since`."""
    columns = []
    for names, events in (
        (FULL.cameras, [scene.camera for scene in scenes]),
        (FULL.lights, [scene.light for scene in scenes]),
    ):
        rows = [
            (0.0, 0.0, 0) if e is None else (e.start_seconds, e.end_seconds, names.index(e.kind))
            for e in events
        ]
        start, end, kind = torch.tensor(rows, dtype=torch.float64)[index].unbind(-1)
        goes_on = _shown_since(since, start, end)
        columns.append(torch.where(goes_on, kind.long(), len(names)))
    columns.append(torch.cat([_transitions(sample) for sample in samples]))
    columns.append(torch.cat([_cuts(sample) for sample in samples]))
    return torch.stack(columns, dim=-1)


def _transitions(sample: VideoSample) -> Tensor:
    """Which transition goes on in each frame of a video: (N,)."""
    found = torch.full((len(sample.seconds),), len(FULL.transitions))
    for scene in sample.spec.scenes:
        if scene.transition_kind in FULL.transitions:
            start, end = scene.transition_window
            inside = (sample.seconds >= start) & (sample.seconds < end)
            found[inside] = FULL.transitions.index(scene.transition_kind)
    return found


def _cuts(sample: VideoSample) -> Tensor:
    """Which frames of a video are the first after a cut: (N,), 0 there and 1 elsewhere."""
    found = torch.full((len(sample.seconds),), len(FULL.cuts))
    for scene in sample.spec.scenes:
        if scene.transition_kind in FULL.cuts:
            first = int((sample.seconds < scene.end_seconds).sum())
            found[first : first + 1] = FULL.cuts.index(scene.transition_kind)
    return found


def _patch_owners(seen: _Seen, grid: int) -> tuple[Tensor, Tensor]:
    """Slot of the object that each patch shows (N, T), S for none, and its place."""
    centre = (torch.arange(grid) + 0.5) / grid
    patch_y, patch_x = torch.meshgrid(centre, centre, indexing="ij")
    patch_x, patch_y = patch_x.flatten(), patch_y.flatten()
    (num_frames, num_slots), num_patches = seen.x.shape, grid * grid
    owner = torch.full((num_frames, num_patches), num_slots)
    places = torch.zeros(num_frames, num_patches, 3)
    half_patch = 0.5 / grid
    for slot in range(num_slots):
        dx = seen.x[:, slot, None].float() - patch_x
        dy = seen.y[:, slot, None].float() - patch_y
        radius = seen.radius[:, slot, None].float()
        # A small object may lie between patch centres: it owns the patches it is centred in.
        reach = radius.clamp(min=half_patch * 1.2)
        inside = seen.visible[:, slot, None] & (dx.square() + dy.square() < reach.square())
        owner = owner.masked_fill(inside, slot)
        place = torch.stack([seen.x[:, slot], seen.y[:, slot], seen.radius[:, slot]], dim=-1)
        places = torch.where(inside[..., None], place[:, None].float(), places)
    return owner, places


def _patch_texts(seen: _Seen, grid: int) -> Tensor:
    """What is written on each patch, as parts of texts: (N, T, 3).

    Every patch of which its box covers a quarter each way is asked for all of a text.
    """
    nothing = torch.tensor([len(names) for names in FULL.texts])
    found = nothing.expand(len(seen.texts), grid, grid, -1).clone()
    # A text is laid out once, not again for every frame that shows it.
    for overlay in {text for text in seen.texts if text is not None}:
        frames = torch.tensor([text == overlay for text in seen.texts])
        rows, columns = _text_patches(overlay, grid)
        written = torch.zeros(grid, grid, dtype=torch.bool)
        written[rows, columns] = True
        found[frames[:, None, None] & written] = torch.tensor(text_parts(overlay.text))
    return found.flatten(1, 2)


def _text_patches(overlay: Overlay, grid: int) -> tuple[slice, slice]:
    """Rows and columns of the patches that a text is on."""
    mask, top, left = placed_text(overlay, (grid * _PATCH_PIXELS,) * 2)
    tall, wide = mask.shape
    return _patches_within(top, top + tall), _patches_within(left, left + wide)


def _patches_within(start: int, end: int) -> slice:
    """The patches of a row of which pixels from `start` to `end` cover at least a quarter."""
    least = _PATCH_PIXELS // 4
    return slice(-(-(start + least) // _PATCH_PIXELS) - 1, (end - least) // _PATCH_PIXELS + 1)


def _moves(seen: _Seen) -> Tensor:
    """How far each slot (and none, last) is from where it was: (N, S + 1, 3).

    Frames of a scene stand together, in time order.
    """
    place = torch.stack([seen.x, seen.y, seen.radius], dim=-1).float()
    visible = seen.visible[..., None].float()
    moves = torch.zeros(place.shape[0], place.shape[1] + 1, 3)
    runs, start = seen.runs, 0
    for end in range(1, len(runs) + 1):
        if end < len(runs) and runs[end] == runs[start]:
            continue
        here, shown = place[start:end], visible[start:end]
        count = (shown.cumsum(dim=0) - shown).clamp(min=1.0)
        earlier = ((here * shown).cumsum(dim=0) - here * shown) / count
        known = (shown.cumsum(dim=0) - shown) > 0
        moves[start:end, :-1] = torch.where(known, here - earlier, 0.0)
        start = end
    return moves


def _patch_masks(seen: _Seen, grid: int) -> Tensor:
    """Where objects cover each patch, on MASK_SIDE x MASK_SIDE points: (N, grid^2, points)."""
    side = grid * MASK_SIDE
    place = (torch.arange(side) + 0.5) / side
    y, x = place[:, None], place[None, :]
    covered = torch.zeros(seen.visible.shape[0], side, side, dtype=torch.bool)
    for slot in range(seen.visible.shape[1]):
        for index, name in enumerate(SHAPES):
            drawn = seen.visible[:, slot] & (seen.shape_index[:, slot] == index)
            rows = drawn.nonzero().squeeze(1)
            if len(rows):
                cx, cy, radius, angle = (
                    t[rows, slot].float()[:, None, None]
                    for t in (seen.x, seen.y, seen.radius, seen.angle)
                )
                across, down = (x - cx) / radius, (y - cy) / radius
                cos, sin = torch.cos(angle), torch.sin(angle)
                turned = across * cos + down * sin, down * cos - across * sin
                covered[rows] |= SIGNED_DISTANCE[name](*turned) < 0
    blocks = covered.view(-1, grid, MASK_SIDE, grid, MASK_SIDE).transpose(2, 3)
    return blocks.reshape(-1, grid * grid, MASK_SIDE**2)
