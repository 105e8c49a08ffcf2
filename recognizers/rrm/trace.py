"""A module becomes a graph of a few kinds of layers that the streaming network understands.

`trace` follows the module's forward with torch.fx, folds every batch norm into the convolution or
linear layer before it, drops what does nothing at inference, and writes functions and methods as
the modules they stand for. What is left is a graph whose every node is of one `Kind`; anything
else is refused by name.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from recognizers.errors import RecognizerError


class UnsupportedModuleError(RecognizerError):
    """The network holds something that cannot be computed region by region; names it."""


class Kind(Enum):
    """What a node reads to make one position of its output."""

    INPUT = "input"
    WINDOW = "window"  # a window of positions: convolution, pooling
    POINT = "point"  # the same position: activations, batch norm left unfolded
    JOIN = "join"  # the same position of several maps, or of a map and a gate
    GLOBAL = "global"  # everything: global pooling, flatten, linear
    OUTPUT = "output"


WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
POINTS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.GELU,
    nn.BatchNorm2d,
)
GLOBALS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Linear, nn.BatchNorm1d)
NOTHING_AT_INFERENCE = (nn.Identity, nn.Dropout, nn.Dropout2d)
JOINS: dict[Any, Callable[..., Tensor]] = {
    operator.add: operator.add,
    operator.iadd: operator.add,
    torch.add: operator.add,
    "add": operator.add,
    "add_": operator.add,
    operator.mul: operator.mul,
    operator.imul: operator.mul,
    torch.mul: operator.mul,
    "mul": operator.mul,
    "mul_": operator.mul,
}
CONCATENATIONS = (torch.cat, torch.concat)

# Functions and methods, as the module that does the same and the names of its further arguments.
_POOL = ("kernel_size", "stride", "padding")
FUNCTIONS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
    F.relu: (nn.ReLU, ()),
    torch.relu: (nn.ReLU, ()),
    "relu": (nn.ReLU, ()),
    "relu_": (nn.ReLU, ()),
    F.relu6: (nn.ReLU6, ()),
    F.leaky_relu: (nn.LeakyReLU, ("negative_slope",)),
    F.hardswish: (nn.Hardswish, ()),
    F.hardsigmoid: (nn.Hardsigmoid, ()),
    F.silu: (nn.SiLU, ()),
    F.sigmoid: (nn.Sigmoid, ()),
    torch.sigmoid: (nn.Sigmoid, ()),
    "sigmoid": (nn.Sigmoid, ()),
    torch.tanh: (nn.Tanh, ()),
    F.tanh: (nn.Tanh, ()),
    "tanh": (nn.Tanh, ()),
    F.gelu: (nn.GELU, ()),
    F.max_pool2d: (nn.MaxPool2d, (*_POOL, "dilation", "ceil_mode")),
    F.avg_pool2d: (
        nn.AvgPool2d,
        (*_POOL, "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    F.adaptive_max_pool2d: (nn.AdaptiveMaxPool2d, ("output_size",)),
    F.dropout: (nn.Identity, ("p",)),
    torch.flatten: (nn.Flatten, ("start_dim", "end_dim")),
    "flatten": (nn.Flatten, ("start_dim", "end_dim")),
}
IGNORED_ARGUMENTS = {"inplace", "training", "return_indices"}


def trace(module: nn.Module) -> fx.GraphModule:
    """The module's graph for inference: batch norms folded, one input, one output, eval mode.

    The module itself is left as it is; parameters are copied.

    Raises:
        UnsupportedModuleError: naming the layer, function or method that is not supported, or
            why the forward cannot be followed.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
    # A single layer is followed as one, not into its own forward.
    if type(module) in (*WINDOWS, *POINTS, *GLOBALS):
        copied = nn.Sequential(copied).eval()
    try:
        traced = fx.symbolic_trace(copied)
    except (fx.proxy.TraceError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedModuleError(
            f"{type(module).__name__} cannot be traced ({reason}): its forward must take one "
            "tensor and must not branch or loop on tensor values"
        ) from error
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise UnsupportedModuleError(
            f"{type(module).__name__} takes {len(inputs)} inputs: wrap a network of one"
        )
    _name_functions_as_modules(traced)
    _drop_what_does_nothing(traced)
    _fold_batch_norms(traced)
    _own_modules(traced)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    for node in traced.graph.nodes:
        kind_of(traced, node)
    return traced


def kind_of(traced: fx.GraphModule, node: fx.Node) -> Kind:
    """Kind of a node. UnsupportedModuleError names what is of none."""
    if node.op == "placeholder":
        return Kind.INPUT
    if node.op == "output":
        if not isinstance(node.args[0], fx.Node):
            raise UnsupportedModuleError("the network must return one tensor, not a collection")
        return Kind.OUTPUT
    if node.op == "call_function" and node.target in (operator.add, operator.mul, torch.cat):
        return Kind.JOIN if len(tensor_inputs(node)) > 1 else Kind.POINT
    if node.op != "call_module":
        raise UnsupportedModuleError(
            f"{_spoken(node.target)} (node {node.name}) is not supported: use Conv2d, Linear, "
            "BatchNorm, pooling, a pointwise activation, add, mul, cat over channels or flatten"
        )
    layer = traced.get_submodule(str(node.target))
    for kind, types in ((Kind.WINDOW, WINDOWS), (Kind.POINT, POINTS), (Kind.GLOBAL, GLOBALS)):
        if type(layer) in types:
            if kind is Kind.WINDOW:
                window_of(layer)
            return kind
    raise UnsupportedModuleError(
        f"{type(layer).__name__} ({node.target}) is not supported: supported layers are "
        + ", ".join(kind.__name__ for kind in (*WINDOWS, *POINTS, *GLOBALS))
    )


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """Nodes that a node reads, in order, repeats included."""
    if node.target is torch.cat:
        return list(node.args[0])
    return [argument for argument in node.args if isinstance(argument, fx.Node)]


def window_of(layer: nn.Module) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(stride, positions before, positions after) that one output reads, for rows and columns.

    Output i reads the inputs from i * stride - before to i * stride + after, both included.
    """
    name = type(layer).__name__
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise UnsupportedModuleError(
            f"{name} with padding_mode {layer.padding_mode!r} is not supported: use 'zeros'"
        )
    dilation = _pair(getattr(layer, "dilation", 1))
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    padding = layer.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        if any(d * (k - 1) % 2 for d, k in zip(dilation, kernel, strict=True)):
            raise UnsupportedModuleError(
                f"{name} with padding 'same' and an even window is not supported: pad explicitly"
            )
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    if getattr(layer, "return_indices", False):
        raise UnsupportedModuleError(f"{name} with return_indices is not supported: leave it out")
    rows, columns = (
        (s, p, d * (k - 1) - p)
        for s, p, d, k in zip(stride, _pair(padding), dilation, kernel, strict=True)
    )
    return rows, columns


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _spoken(target: Any) -> str:
    if isinstance(target, str):
        return f"method or attribute {target!r}"
    return f"function {getattr(target, '__name__', str(target))!r}"


def _name_functions_as_modules(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        if node.target in CONCATENATIONS:
            _check_concatenation(node)
        elif node.target in JOINS:
            _check_join(node)
            node.op, node.target = "call_function", JOINS[node.target]
        elif node.target in FUNCTIONS or node.target in ("mean", torch.mean):
            _insert_module(traced, node, _module_for(node))


def _check_concatenation(node: fx.Node) -> None:
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if axis not in (1, -3):
        raise UnsupportedModuleError(
            f"cat over axis {axis} (node {node.name}) is not supported: join over channels, dim=1"
        )
    parts = node.args[0] if node.args else node.kwargs["tensors"]
    node.target, node.args, node.kwargs = torch.cat, (list(parts), 1), {}


def _check_join(node: fx.Node) -> None:
    numbers = all(isinstance(argument, fx.Node | int | float) for argument in node.args)
    if len(node.args) != 2 or node.kwargs or not numbers:
        raise UnsupportedModuleError(
            f"{_spoken(node.target)} (node {node.name}) is supported for two tensors, or a tensor "
            "and a number, and without further arguments"
        )


def _module_for(node: fx.Node) -> nn.Module:
    if node.target in ("mean", torch.mean):
        return _global_mean(node)
    module_type, names = FUNCTIONS[node.target]
    given = dict(zip(names, node.args[1:], strict=False))
    given |= {k: v for k, v in node.kwargs.items() if k not in (*IGNORED_ARGUMENTS, "input")}
    if module_type is nn.Identity:
        return nn.Identity()
    if module_type is nn.Flatten:
        given = {"start_dim": 0} | given  # the function's default, the module's is 1
    unknown = given.keys() - set(names)
    if unknown or any(isinstance(value, fx.Node) for value in given.values()):
        raise UnsupportedModuleError(
            f"{_spoken(node.target)} (node {node.name}) has arguments that depend on a tensor or "
            "are not known: give plain numbers"
        )
    return module_type(**given)


def _global_mean(node: fx.Node) -> nn.Module:
    names = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | dict(node.kwargs)
    axes = names.get("dim")
    if not isinstance(axes, list | tuple) or {axis % 4 for axis in axes} != {2, 3}:
        raise UnsupportedModuleError(
            f"mean over {axes} (node {node.name}) is not supported: take it over dims (2, 3)"
        )
    pool = nn.AdaptiveAvgPool2d(1)
    return pool if names.get("keepdim") else nn.Sequential(pool, nn.Flatten())


def _insert_module(traced: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    source = node.args[0] if node.args else node.kwargs["input"]
    layers = list(layer) if isinstance(layer, nn.Sequential) else [layer]
    with traced.graph.inserting_before(node):
        for index, part in enumerate(layers):
            name = f"traced_{node.name}_{index}"
            traced.add_module(name, part.eval())
            source = traced.graph.call_module(name, (source,))
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


def _drop_what_does_nothing(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(
            traced.get_submodule(str(node.target)), NOTHING_AT_INFERENCE
        ):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _fold_batch_norms(traced: fx.GraphModule) -> None:
    folds = {
        (nn.Conv2d, nn.BatchNorm2d): fuse_conv_bn_eval,
        (nn.Linear, nn.BatchNorm1d): fuse_linear_bn_eval,
    }
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node):
            continue
        if source.op != "call_module" or len(source.users) > 1:
            continue
        before = traced.get_submodule(str(source.target))
        norm = traced.get_submodule(str(node.target))
        fold = folds.get((type(before), type(norm)))
        if fold is None or norm.running_mean is None:
            continue
        # A module of its own: the convolution may serve in another place, with another norm.
        name = f"folded_{source.name}"
        traced.add_module(name, fold(before, norm))
        source.target = name
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()


def _own_modules(traced: fx.GraphModule) -> None:
    """Activations write in place only where nobody else reads what they overwrite."""
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        layer = traced.get_submodule(str(node.target))
        if not hasattr(layer, "inplace"):
            continue
        source = node.args[0]
        fresh = source.op != "placeholder" and len(source.users) == 1
        if source.op == "call_module":  # flatten gives a view
            fresh &= not isinstance(traced.get_submodule(str(source.target)), nn.Flatten)
        layer = copy.copy(layer)
        layer.inplace = fresh
        name = f"own_{node.name}"
        traced.add_module(name, layer)
        node.target = name
