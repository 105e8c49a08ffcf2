"""A feed-forward network that reads a video and computes only where a frame differs.

Pan et al., "Recurrent Residual Module for Fast Inference in Videos" (2018), section 3: the output
of a convolution changes only where its input did, P_t = P_{t-1} + F * (I_t - I_{t-1}). Where this
leaves the paper:

- A changed region is convolved anew from the current input, not from the difference. It costs the
  same, and the sum of many differences, whose rounding errors grow with the video, never arises:
  with threshold 0 the output is the plain network's on every frame. (`reference.py` is the
  equation as published.)
- Small differences are dropped per region, not per number: a dense convolution of a small box is
  fast on every machine, one with scattered zeros is not.
- A value is compared with the last *used* one, never with the last frame's: a slow change adds up
  until it passes the threshold, so no value is ever further than the threshold from what was
  used, however long the video. Every `refresh_every` frames all is computed anew, and the
  distance between the outputs before and after is the measured error, `state["error"]`.
- What a frame costs is modelled before it is spent: regions that would cost more than the whole
  map are computed as the whole map, and a frame that changed nearly everywhere runs as the plain
  network would, without a look at what changed in between. While such frames, or others that
  saved next to nothing, follow each other, only every second, fourth, at last every eighth is
  looked at; the others are the plain network's alone.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recognizers.base import State
from recognizers.errors import ConfigError, FrameError
from recognizers.rrm.regions import Box, boxes_of_mask, merge_boxes, touched_box
from recognizers.rrm.rows import Row, check_state, row_of, state_of
from recognizers.rrm.stages import Edge, Plan, Stage, make_plan
from recognizers.rrm.trace import trace

GATE_CHANGED = [Box(0, 1, 0, 1)]
GAIN_RANGE = 16.0
# A frame whose differences cost more than this share of the plain network saved nothing worth the
# looking; while such frames follow each other, fewer are looked at, at last one of LONGEST_WAIT.
VAIN_SHARE, LONGEST_WAIT = 0.75, 8


@dataclass(frozen=True, kw_only=True)
class RRMConfig:
    """How a wrapped network decides what to compute."""

    threshold: float = 0.0
    """Change that counts, root mean square over a tile, as a share of the root mean square of the
    whole map, for the coarsest maps; finer ones take a multiple (`stages.Edge.leniency`). 0: every
    change counts, and the output is exact."""
    input_threshold: float | None = None
    """The share for the frame itself; None: `threshold`."""
    refresh_every: int = 120
    """Frames between two computations of everything; 0: never. Without meaning at threshold 0."""
    target_error: float | None = None
    """Relative error of the output just before a refresh that the stream should come near to: each
    refresh multiplies the thresholds by a little more or less than 1, within a factor of 16 of what
    is given here. None: thresholds stay."""
    dense_share: float = 0.6
    """Share of the frame that must change for the whole frame to run as the plain network."""
    cells: int = 14
    """Tiles along the longer side of a map in which change is told apart, at most. Fewer average
    more noise away, so that fewer frames have anything to compute."""
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("threshold", "input_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} = {value}: give a share of 0 or more")
        if self.input_threshold is not None and (self.input_threshold > 0) != (self.threshold > 0):
            raise ConfigError(
                f"threshold {self.threshold} with input_threshold {self.input_threshold}: both 0 "
                "(exact) or both above"
            )
        if self.target_error is not None and not (0 < self.target_error < 1 and self.refresh_every):
            raise ConfigError(
                f"target_error {self.target_error} with refresh_every {self.refresh_every}: give "
                "an error in (0, 1) and a refresh that measures it"
            )
        if not 0 < self.dense_share <= 1:
            raise ConfigError(f"dense_share = {self.dense_share}: give a share in (0, 1]")
        if self.refresh_every < 0 or self.cells < 1 or self.in_channels < 1:
            raise ConfigError(
                f"refresh_every {self.refresh_every}, cells {self.cells}, in_channels "
                f"{self.in_channels}: refresh_every is 0 or more, the others 1 or more"
            )

    @property
    def exact(self) -> bool:
        """Whether every change counts."""
        return self.threshold == 0

    def threshold_of_input(self) -> float:
        """Threshold of the frame itself."""
        return self.threshold if self.input_threshold is None else self.input_threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerReport:
    """What a stream saved in one convolution or linear layer."""

    layer: str
    stage: str  # layers of one stage are computed together
    share_skipped: float  # of its output positions, over all frames so far


class StreamingNetwork(nn.Module):
    """What `wrap` returns: the module's output after every frame, with the state as a value.

    `plain` is the folded network itself, for single pictures and comparisons.
    """

    def __init__(self, module: nn.Module, config: RRMConfig | None = None) -> None:
        super().__init__()
        self.config = config or RRMConfig()
        self.plain = trace(module).to(memory_format=torch.channels_last)
        self._plans: dict[tuple[object, ...], Plan] = {}  # a function of the size, not of a stream

    def plan(self, height: int, width: int) -> Plan:
        """How the network is cut into stages for pictures of this size."""
        parameter = next(self.plain.parameters(), torch.empty(0))
        key = (height, width, parameter.device, parameter.dtype)
        if key not in self._plans:
            example = torch.zeros(
                1,
                self.config.in_channels,
                height,
                width,
                device=parameter.device,
                dtype=parameter.dtype,
            ).contiguous(memory_format=torch.channels_last)
            self._plans[key] = make_plan(self.plain, example, cells=self.config.cells)
        return self._plans[key]

    def init_state(self, batch_size: int, height: int, width: int) -> State:
        """State before the first frame, of the parameters' device and type.

        Leaves: `edge.NAME` (B, ...) the last used values, `scales` (B, E) their root mean squares
        at the last refresh, `work` (B, S) computed shares summed over frames, `frames` and `age`
        (B,) frames read and frames since the last refresh, `error` (B,) relative error of the
        output just before the last refresh, `gain` (B,) factor on the thresholds,
        `moving` and `wait` (B,) see `Row`.
        """
        plan = self.plan(height, width)
        parameter = next(self.plain.parameters(), torch.empty(0))
        device, floats = parameter.device, {"dtype": torch.float64, "device": parameter.device}
        state = {
            f"edge.{edge.name}": torch.zeros(
                batch_size, *edge.shape, device=device, dtype=parameter.dtype
            )
            for edge in plan.edges.values()
        }
        state["scales"] = torch.zeros(batch_size, len(plan.edges), **floats)
        state["work"] = torch.zeros(batch_size, len(plan.stages), **floats)
        state["error"] = torch.zeros(batch_size, **floats)
        state["gain"] = torch.ones(batch_size, **floats)
        state["frames"] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        for name in ("age", "moving", "wait"):
            state[name] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state

    @torch.no_grad()
    def step(self, frames: Tensor, state: State, *, consume: bool = False) -> tuple[Tensor, State]:
        """Read the next frames.

        Args:
            frames: (B, T, C, H, W), normalised as the module wants it, T >= 1.
            state: from `init_state` or the step before; it is left as it is, unless
            consume: the caller gives the state up, and its tensors may be written in place. This
                saves one copy of the maps that change, per call.

        Returns:
            The module's output after each frame, (B, T, ...), and the state after the last one.
            No gradient flows.

        Raises:
            FrameError, StateError: shapes that do not fit the network or each other.
        """
        if frames.ndim != 5 or 0 in frames.shape or frames.shape[2] != self.config.in_channels:
            raise FrameError(
                f"frames of shape {tuple(frames.shape)}: give (batch, time, "
                f"{self.config.in_channels}, height, width) with at least one frame"
            )
        plan = self.plan(*frames.shape[3:])
        check_state(plan, state, len(frames))
        outputs, rows = [], []
        for index in range(len(frames)):
            row = row_of(plan, state, index, owned=consume)
            results = []
            for frame in frames[index]:
                frame = frame[None].contiguous(memory_format=torch.channels_last)
                results.append(self._read_frame(plan, row, frame))
            outputs.append(torch.stack(results, dim=1))
            rows.append(row)
        return torch.cat(outputs), state_of(plan, rows, like=state)

    def forward(self, clip: Tensor) -> Tensor:
        """Output after the last frame of clip (B, T, C, H, W), from a zero state."""
        outputs, _ = self.step(clip, self.init_state(len(clip), *clip.shape[-2:]))
        return outputs[:, -1]

    def report(self, state: State) -> tuple[LayerReport, ...]:
        """Share of the work that was skipped, per layer, over all streams and frames so far."""
        source = next(node for node in self.plain.graph.nodes if node.op == "placeholder")
        plan = self.plan(*state[f"edge.{source.name}"].shape[-2:])
        frames = max(int(state["frames"].sum()), 1)
        work = state["work"].sum(0).tolist()
        return tuple(
            LayerReport(layer=layer, stage=stage.name, share_skipped=1 - computed / frames)
            for stage, computed in zip(plan.stages, work, strict=True)
            for layer in stage.layers
        )

    # --- One frame of one stream ------------------------------------------------------------------

    def _read_frame(self, plan: Plan, row: Row, frame: Tensor) -> Tensor:
        refresh_every = 0 if self.config.exact else self.config.refresh_every
        first = row.frames == 0
        due = bool(refresh_every) and row.age + 1 >= refresh_every
        row.frames += 1
        row.age += 1
        if row.wait and not due:
            row.wait -= 1
            for name in row.work:
                row.work[name] += 1
            return self.plain(frame)
        row.spent = 0.0
        all_new = False if first else self._read_differences(plan, row, frame)
        vain = all_new or row.spent > VAIN_SHARE * plan.cost
        row.moving = min(row.moving + 1, LONGEST_WAIT) if vain else 0
        row.wait = min(2 ** (row.moving - 1), LONGEST_WAIT) - 1 if vain else 0
        if first or due:
            if not all_new:
                stale = row.edges[plan.output]
                _read_whole(plan, row, frame)
                if not first:
                    self._learn_error(row, stale.double(), row.edges[plan.output].double())
            row.scales = {name: _rms(edge) for name, edge in row.edges.items()}
            row.age = 0
        # What is kept may be written in place by the next frame.
        return row.edges[plan.output].clone()

    def _learn_error(self, row: Row, stale: Tensor, fresh: Tensor) -> None:
        distance = torch.linalg.vector_norm(fresh - stale)
        row.error = float(distance / torch.linalg.vector_norm(fresh).clamp_min(1e-30))
        if self.config.target_error is not None:
            row.gain = _next_gain(row.gain, row.error, self.config.target_error)

    def _read_differences(self, plan: Plan, row: Row, frame: Tensor) -> bool:
        """Compute what the frame changed; True if that turned out to be everything."""
        edge = plan.edges[plan.input]
        height, width = edge.shape[1:]
        whole = Box(0, height, 0, width)
        still = self._still(row, edge, frame, whole)
        num_tiles = len(still) * len(still[0])
        if num_tiles - sum(map(sum, still)) >= self.config.dense_share * num_tiles:
            _read_whole(plan, row, frame)
            return True
        boxes = _boxes(still, edge.tile, whole)
        _write(row, edge.name, frame, boxes, origin=whole)
        changed = {edge.name: boxes}
        for stage in plan.stages:
            if not any(changed.get(name) for name in stage.inputs):
                continue
            if stage.is_local:
                changed[stage.output] = self._run_local(plan, stage, row, changed)
            else:
                changed[stage.output] = self._run_whole(plan, stage, row)
        return False

    def _run_whole(self, plan: Plan, stage: Stage, row: Row) -> list[Box]:
        """A stage of global layers: gates for what follows, or the output."""
        new = stage.run(*(row.edges[name] for name in stage.inputs))
        row.work[stage.name] += 1
        if not plan.edges[stage.output].is_exact:
            old = row.edges[stage.output]
            limit = self.config.threshold * row.gain * torch.linalg.vector_norm(old)
            if bool(torch.linalg.vector_norm(new - old) <= limit):
                return []
        row.edges[stage.output] = new
        row.owned.discard(stage.output)
        return GATE_CHANGED

    def _run_local(
        self, plan: Plan, stage: Stage, row: Row, changed: dict[str, list[Box]]
    ) -> list[Box]:
        """A stage of local layers, on the boxes that its inputs' changes reach."""
        edge = plan.edges[stage.output]
        whole = Box(0, stage.size[0], 0, stage.size[1])
        boxes = _reached(plan, stage, changed, whole)
        if len(boxes) > 1:
            boxes = merge_boxes(boxes, stage.cost)
        if sum(map(stage.cost, boxes)) >= stage.cost(whole):
            boxes = [whole]
        found: list[Box] = []
        for box in boxes:
            row.spent += stage.cost(box)
            patch = stage.patch(box)
            row.work[stage.name] += patch.area / whole.area
            if patch == whole:
                new = stage.run(*(row.edges[name] for name in stage.inputs))
            else:
                new = stage.run(
                    *(self._cut(plan, stage, row, name, patch) for name in stage.inputs)
                )
            if patch != box:
                top, left = box.top - patch.top, box.left - patch.left
                new = new[
                    :, :, top : top + box.bottom - box.top, left : left + box.right - box.left
                ]
            kept = [box]
            if not edge.is_exact:
                kept = _boxes(self._still(row, edge, new, box), edge.tile, box)
            if kept == [whole]:
                row.edges[edge.name] = new
                row.owned.add(edge.name)
            else:
                _write(row, edge.name, new, kept, origin=box)
            found += kept
        return found

    def _cut(self, plan: Plan, stage: Stage, row: Row, name: str, patch: Box) -> Tensor:
        edge = plan.edges[name]
        if not edge.is_map:
            return row.edges[name]
        box = stage.input_box(patch, name, (edge.shape[1], edge.shape[2]))
        return _crop(row.edges[name], box).contiguous(memory_format=torch.channels_last)

    def _still(self, row: Row, edge: Edge, new: Tensor, box: Box) -> list[list[bool]]:
        """Rows of tiles of `new`, which lies at `box` of the edge: near the used value or not.

        A value that is not a number is near nothing.
        """
        config, channels = self.config, edge.shape[0]
        difference = new - _crop(row.edges[edge.name], box)
        if config.exact:
            difference.abs_()  # its square, or its mean, may be too small for the format
            pool, limit = F.max_pool2d, 0.0
        else:
            difference.mul_(difference)
            pool = F.avg_pool2d
            share = config.threshold * edge.leniency
            if edge.is_input:
                share = config.threshold_of_input()
            limit = channels * (share * row.gain * row.scales[edge.name]) ** 2
        # Summed over channels as a matrix-vector product: many times faster than a reduction here.
        distance = torch.mv(difference.permute(0, 2, 3, 1).reshape(-1, channels), edge.ones)
        distance = distance.view(box.bottom - box.top, box.right - box.left)
        if edge.tile > 1:
            distance = pool(distance[None], edge.tile, ceil_mode=True)[0]
        return (distance <= limit).tolist()


def wrap(module: nn.Module, config: RRMConfig | None = None) -> StreamingNetwork:
    """A streaming network that computes on differences from a feed-forward one.

    Args:
        module: a network of Conv2d, Linear, BatchNorm, pooling, pointwise activations, add, mul,
            cat over channels, flatten and dropout, with one input (B, C, H, W) and one output. It
            is left as it is; its weights are copied.
        config: default: exact.

    Raises:
        UnsupportedModuleError: naming the layer that is not supported.
    """
    return StreamingNetwork(module, config)


def _reached(plan: Plan, stage: Stage, changed: dict[str, list[Box]], whole: Box) -> list[Box]:
    boxes: list[Box] = []
    for name in stage.inputs:
        found = changed.get(name)
        if found and not plan.edges[name].is_map:
            return [whole]  # a gate changed
        for box in found or ():
            reached = touched_box(box, *stage.reach[name], stage.size)
            if reached is not None:
                boxes.append(reached)
    return boxes


def _boxes(still: list[list[bool]], tile: int, origin: Box) -> list[Box]:
    """Boxes, in positions of the edge, around the tiles at `origin` that are not still."""
    return [
        Box(
            origin.top + cells.top * tile,
            min(origin.top + cells.bottom * tile, origin.bottom),
            origin.left + cells.left * tile,
            min(origin.left + cells.right * tile, origin.right),
        )
        for cells in boxes_of_mask(still, value=False)
    ]


def _read_whole(plan: Plan, row: Row, frame: Tensor) -> None:
    """Compute everything, as the plain network does."""
    row.edges[plan.input] = frame.clone(memory_format=torch.channels_last)
    for stage in plan.stages:
        row.edges[stage.output] = stage.run(*(row.edges[name] for name in stage.inputs))
        row.work[stage.name] += 1
    row.owned = set(row.edges)


def _write(row: Row, name: str, new: Tensor, boxes: list[Box], *, origin: Box) -> None:
    """Put `new`, whose first position lies at `origin`, into an edge at `boxes`."""
    if not boxes:
        return
    if name not in row.owned:
        row.edges[name] = row.edges[name].clone(memory_format=torch.channels_last)
        row.owned.add(name)
    target = row.edges[name]
    for box in boxes:
        inner = Box(
            box.top - origin.top,
            box.bottom - origin.top,
            box.left - origin.left,
            box.right - origin.left,
        )
        _crop(target, box).copy_(_crop(new, inner))


def _next_gain(gain: float, error: float, target: float) -> float:
    """Factor on the thresholds after a measured error: down fast, up slowly."""
    step = math.sqrt(target / max(error, 1e-12))
    return min(max(gain * min(max(step, 0.5), 1.25), 1 / GAIN_RANGE), GAIN_RANGE)


def _crop(edge: Tensor, box: Box) -> Tensor:
    return edge[:, :, box.top : box.bottom, box.left : box.right]


def _rms(edge: Tensor) -> float:
    return float(torch.linalg.vector_norm(edge.float())) / math.sqrt(edge.numel())
