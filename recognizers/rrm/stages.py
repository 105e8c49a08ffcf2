"""The traced graph is cut into stages; each can be computed whole or on a box of its output.

Between stages lie edges: maps (1, C, H, W) or, after global pooling, vectors, of which the stream
keeps the last used value. A stage of local layers (convolutions, pooling, activations, joins) can
compute any box of its output from a patch of its inputs: the patch is the box with the stage's
reach around it, cut where the picture ends, and run through the layers as they are, own padding
included. Positions near a cut are wrong and lie outside the box; at the picture's border the own
padding is just right. A stage of global layers is always computed whole.

Where to cut: at every map that a global layer reads or that two stages read, and between two
convolutions of windows at the narrowest point where a single tensor is alive, unless what lies
before is so small that calls would be its cost. So a residual block or one or two inverted
residual blocks are one stage, and their wide inner maps are never kept.
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from recognizers.errors import FrameError
from recognizers.rrm.regions import SAME, Axis, Box
from recognizers.rrm.trace import Kind, UnsupportedModuleError, kind_of, tensor_inputs, window_of

# The cost model counts in multiply-adds of a large convolution, about 48 per nanosecond on the
# AVX2 core it was fitted on; only ratios matter. An operation's call, an element written by a
# pointwise layer, a weight brought into the kernel's layout, a multiply-add of a depthwise filter.
CALL, ELEMENT, WEIGHT, DEPTHWISE = 300_000.0, 10.0, 20.0, 3.0
REGION_CALLS = 20  # calls around a stage's run: cutting out, comparing, writing back
SMALL_STAGE = 25e6  # cost of a whole stage below which the next block joins it: mostly calls
# The finer a map, the more of its positions are averaged on the way to the output, so the less a
# change in one tile moves it: thresholds grow with the tile's side. Measured with `bench_rrm.py`:
# at equal error this is a fifth faster than one threshold for all.
FINE_LENIENCY = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """A tensor between stages, of which the stream keeps the last used value."""

    name: str
    shape: tuple[int, ...]  # without the batch: (C, H, W), or (K,) and the like
    is_map: bool
    is_input: bool
    tile: int  # side of the squares in which change is told apart, positions
    is_exact: bool  # no threshold: nothing that is computed on the way to the output
    leniency: float  # factor on the threshold
    ones: Tensor  # (C,): sums over channels are products with it


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Layers between edges."""

    name: str
    layers: tuple[str, ...]  # names of its convolutions and linear layers
    inputs: tuple[str, ...]  # edges, in the order in which `run` takes them
    output: str
    run: fx.GraphModule
    is_local: bool  # a box of the output can be computed alone
    # What follows is for local stages.
    reach: dict[str, tuple[Axis, Axis]] = field(default_factory=dict)  # per map input: rows, cols
    margin: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))  # of patches, output units
    size: tuple[int, int] = (1, 1)  # of the output
    work: float = 0.0  # cost of one output position
    overhead: float = 0.0  # cost of one run, however small

    def patch(self, box: Box) -> Box:
        """The outputs that a run for `box` computes: the box and the margin that goes wrong."""
        (before_rows, after_rows), (before_columns, after_columns) = self.margin
        return Box(
            max(box.top - before_rows, 0),
            min(box.bottom + after_rows, self.size[0]),
            max(box.left - before_columns, 0),
            min(box.right + after_columns, self.size[1]),
        )

    def cost(self, box: Box) -> float:
        """Modelled cost of computing `box`."""
        return self.work * self.patch(box).area + self.overhead

    def input_box(self, patch: Box, name: str, size: tuple[int, int]) -> Box:
        """The positions of map input `name`, of `size`, that make the outputs `patch`."""
        rows, columns = self.reach[name]
        top, left = patch.top * rows.stride, patch.left * columns.stride
        # At the picture's end everything is taken: a last partial window belongs to it.
        ends_below, ends_right = patch.bottom == self.size[0], patch.right == self.size[1]
        bottom = size[0] if ends_below else min(patch.bottom * rows.stride, size[0])
        right = size[1] if ends_right else min(patch.right * columns.stride, size[1])
        return Box(top, bottom, left, right)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Stages of a network for one picture size, in the order in which they run."""

    input: str
    output: str
    edges: dict[str, Edge]
    stages: tuple[Stage, ...]
    cost: float  # of all local stages as the plain network runs them


def make_plan(traced: fx.GraphModule, example: Tensor, *, cells: int) -> Plan:
    """Cut a traced network into stages for pictures of the example's shape (1, C, H, W).

    Args:
        traced: what `trace.trace` returned.
        example: zeros of the pictures' shape, device and type.
        cells: tiles along the longer side of a map, at most.

    Raises:
        FrameError: the network cannot read pictures of this size.
        UnsupportedModuleError: layers join in a way that has no box-wise form.
    """
    try:
        with torch.no_grad():
            ShapeProp(traced).propagate(example)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise FrameError(
            f"pictures of shape {tuple(example.shape[1:])} do not fit the network ({reason}): "
            "give a size that it can read"
        ) from error
    nodes = [node for node in traced.graph.nodes if node.op != "output"]
    kinds = {node: kind_of(traced, node) for node in nodes}
    output = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    maps = _map_nodes(nodes, kinds)
    kept = _kept_nodes(nodes, maps, kinds, traced)
    kept |= {nodes[0], output}
    to_output = _global_tail(output, maps)
    kept |= _pooled(traced, nodes, kinds) - to_output
    while more := _recomputed(kept):
        kept |= more
    edges = {}
    for node in nodes:
        if node not in kept:
            continue
        tile = max(1, -(-max(_shape(node)[1:]) // cells)) if node in maps else 1
        edges[node.name] = Edge(
            name=node.name,
            shape=_shape(node),
            is_map=node in maps,
            is_input=node is nodes[0],
            is_exact=node in to_output,
            tile=tile,
            leniency=FINE_LENIENCY * tile if tile > 1 else 1.0,
            ones=example.new_ones(_shape(node)[0]),
        )
    stages = tuple(
        _make_stage(traced, node, kept, maps, kinds) for node in nodes if node in kept - {nodes[0]}
    )
    cost = sum(
        stage.work * stage.size[0] * stage.size[1] + stage.overhead - REGION_CALLS * CALL
        for stage in stages
        if stage.is_local
    )
    return Plan(input=nodes[0].name, output=output.name, edges=edges, stages=stages, cost=cost)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape[1:])


def _map_nodes(nodes: list[fx.Node], kinds: dict[fx.Node, Kind]) -> set[fx.Node]:
    """Nodes whose output is a map that can be computed box by box."""
    maps: set[fx.Node] = set()
    for node in nodes:
        sources = tensor_inputs(node)
        local = [source for source in sources if source in maps]
        if kinds[node] is Kind.INPUT or (local and kinds[node] in (Kind.WINDOW, Kind.POINT)):
            maps.add(node)
        elif local and kinds[node] is Kind.JOIN:
            gates = [source for source in sources if source not in maps]
            if any(len(_shape(gate)) != 3 or _shape(gate)[1:] != (1, 1) for gate in gates):
                raise UnsupportedModuleError(
                    f"node {node.name} joins a map and a tensor that is neither a map of its size "
                    "nor a gate of one value per channel: this has no form per region"
                )
            if len({_shape(source)[1:] for source in local}) > 1:
                raise UnsupportedModuleError(
                    f"node {node.name} joins maps of different sizes: this has no form per region"
                )
            maps.add(node)
    return maps


def _kept_nodes(
    nodes: list[fx.Node],
    maps: set[fx.Node],
    kinds: dict[fx.Node, Kind],
    traced: fx.GraphModule,
) -> set[fx.Node]:
    """Maps that global layers read, vectors that gate maps, and the cuts between convolutions."""
    kept = {
        node
        for node in nodes
        for user in node.users
        if user.op != "output" and (node in maps) != (user in maps)
    }
    position = {node: index for index, node in enumerate(nodes)}
    last_use = {
        node: max((position[user] for user in node.users if user in position), default=len(nodes))
        for node in nodes
    }
    narrowest: fx.Node | None = None
    has_window, work = False, 0.0
    for index, node in enumerate(nodes):
        if node not in maps:
            continue
        if _is_windowed_convolution(traced, node, kinds):
            if has_window and narrowest is not None and work > SMALL_STAGE:
                kept.add(narrowest)
                work = 0.0
            has_window, narrowest = True, None
        work += _node_cost(traced, node)[0]
        if node in kept:
            has_window, narrowest, work = False, None, 0.0
            continue
        alone = all(last_use[before] <= index for before in nodes[:index])
        if alone and (narrowest is None or _numel(node) <= _numel(narrowest)):
            narrowest = node
    return kept


def _global_tail(output: fx.Node, maps: set[fx.Node]) -> set[fx.Node]:
    """The output and the global layers that it alone is made of, back to the last map."""
    tail: set[fx.Node] = set()
    frontier = [output]
    while frontier:
        node = frontier.pop()
        if node not in tail and (node is output or node not in maps):
            tail.add(node)
            frontier.extend(tensor_inputs(node))
    return tail


def _pooled(
    traced: fx.GraphModule, nodes: list[fx.Node], kinds: dict[fx.Node, Kind]
) -> set[fx.Node]:
    """Globally pooled vectors: while these hold still, what a gate makes of them can be spared."""
    pools = nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d
    return {
        node
        for node in nodes
        if kinds[node] is Kind.GLOBAL and isinstance(traced.get_submodule(str(node.target)), pools)
    }


def _is_windowed_convolution(
    traced: fx.GraphModule, node: fx.Node, kinds: dict[fx.Node, Kind]
) -> bool:
    if kinds[node] is not Kind.WINDOW:
        return False
    layer = traced.get_submodule(str(node.target))
    return isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1


def _numel(node: fx.Node) -> int:
    return node.meta["tensor_meta"].shape.numel()


def _closure(node: fx.Node, kept: set[fx.Node]) -> list[fx.Node]:
    """The node and what it is made of, back to the kept nodes before it, in running order."""
    found: dict[fx.Node, None] = {}
    frontier = [node]
    while frontier:
        current = frontier.pop()
        if current in found or (current in kept and current is not node):
            continue
        found[current] = None
        frontier.extend(tensor_inputs(current))
    order = {other: index for index, other in enumerate(node.graph.nodes)}
    return sorted(found, key=order.__getitem__)


def _recomputed(kept: set[fx.Node]) -> set[fx.Node]:
    """Nodes that several stages would compute, as far as their outputs leave that common part."""
    shared: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    for node in kept:
        inner = set(_closure(node, kept)) - {node}
        shared |= inner & seen
        seen |= inner
    return {node for node in shared if any(user not in shared for user in node.users)}


def _make_stage(
    traced: fx.GraphModule,
    output: fx.Node,
    kept: set[fx.Node],
    maps: set[fx.Node],
    kinds: dict[fx.Node, Kind],
) -> Stage:
    inner = _closure(output, kept)
    inputs = list(
        dict.fromkeys(source for node in inner for source in tensor_inputs(node) if source in kept)
    )
    run = _subgraph(traced, inner, inputs)
    layers = tuple(
        str(node.target).removeprefix("folded_")
        for node in inner
        if node.op == "call_module"
        and isinstance(traced.get_submodule(str(node.target)), nn.Conv2d | nn.Linear)
    )
    common = {
        "name": output.name,
        "layers": layers,
        "inputs": tuple(node.name for node in inputs),
        "output": output.name,
        "run": run,
        "is_local": output in maps,
    }
    if output not in maps:
        return Stage(**common)
    reach = _reach(traced, inner, [node for node in inputs if node in maps], kinds)
    margin = tuple(
        (
            max(-(-axes[axis].before // axes[axis].stride) for axes in reach.values()),
            max(-(-(axes[axis].after + 1) // axes[axis].stride) - 1 for axes in reach.values()),
        )
        for axis in (0, 1)
    )
    height, width = _shape(output)[1:]
    costs = [_node_cost(traced, node) for node in inner]
    return Stage(
        **common,
        reach={node.name: axes for node, axes in reach.items()},
        margin=margin,
        size=(height, width),
        work=sum(work for work, _ in costs) / (height * width),
        overhead=REGION_CALLS * CALL + sum(overhead for _, overhead in costs),
    )


def _subgraph(
    traced: fx.GraphModule, inner: list[fx.Node], inputs: list[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in inner:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    result = copies[inner[-1]]
    if inner[-1].op == "call_module" and isinstance(
        traced.get_submodule(str(inner[-1].target)), nn.Flatten
    ):
        result = graph.call_method("clone", (result,))  # an edge is never a view of another
    graph.output(result)
    run = fx.GraphModule(traced, graph)
    for node in inner:
        if node.op != "call_module" or node.args[0] not in inputs:
            continue
        layer = run.get_submodule(str(node.target))
        if getattr(layer, "inplace", False):  # an edge is kept: never overwrite it
            layer = copy.copy(layer)
            layer.inplace = False
            run.add_submodule(str(node.target), layer)
    return run


def _reach(
    traced: fx.GraphModule,
    inner: list[fx.Node],
    inputs: list[fx.Node],
    kinds: dict[fx.Node, Kind],
) -> dict[fx.Node, tuple[Axis, Axis]]:
    """What one position of the stage's output reads of each map input."""
    reach: dict[fx.Node, tuple[Axis, Axis]] = {inner[-1]: (SAME, SAME)}
    for node in reversed(inner):
        if node not in reach:
            continue
        window = (SAME, SAME)
        if kinds[node] is Kind.WINDOW:
            rows, columns = window_of(traced.get_submodule(str(node.target)))
            window = (Axis(*rows), Axis(*columns))
        axes = tuple(outer.then(own) for outer, own in zip(reach[node], window, strict=True))
        for source in tensor_inputs(node):
            if source not in inner and source not in inputs:
                continue
            known = reach.get(source, axes)
            if any(old.stride != new.stride for old, new in zip(known, axes, strict=True)):
                raise UnsupportedModuleError(
                    f"node {node.name} reads {source.name} at two scales: this has no form per "
                    "region"
                )
            reach[source] = tuple(
                Axis(old.stride, max(old.before, new.before), max(old.after, new.after))
                for old, new in zip(known, axes, strict=True)
            )
    return {node: reach[node] for node in inputs}


def _node_cost(traced: fx.GraphModule, node: fx.Node) -> tuple[float, float]:
    """(cost of all positions, cost of a call however small) of one layer."""
    elements = _numel(node)
    work, overhead = ELEMENT * elements, CALL
    layer = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d):
        weights = layer.weight.numel()
        depthwise = layer.groups == layer.in_channels > 1
        work += elements * weights / layer.out_channels * (DEPTHWISE if depthwise else 1.0)
        overhead += WEIGHT * weights
    elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        kernel = layer.kernel_size
        area = kernel * kernel if isinstance(kernel, int) else kernel[0] * kernel[1]
        work += elements * area * DEPTHWISE
    return work, overhead
