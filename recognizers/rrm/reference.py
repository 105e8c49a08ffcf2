"""The Recurrent Residual Module as published, dense and slow: the equation to test against.

Pan et al. (2018), section 3.2: every convolution and linear layer keeps its last input I and its
projection P, and

    P_t = P_{t-1} + F * (I_t - I_{t-1})        I_{t, next layer} = f(P_t)

with the bias in the first P alone. Exact on paper; in floating point each frame adds its rounding
error to P for good, which is why `network.py` computes changed regions anew instead.
"""

import torch
from torch import Tensor, fx, nn

from recognizers.base import State
from recognizers.rrm.trace import trace


class DifferenceNetwork(nn.Module):
    """`module` on differences, one frame at a time; state is a value, empty before frame one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.plain = trace(module)

    @torch.no_grad()
    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Output for frames (B, C, H, W) of B streams, and the state: per layer I and P."""
        interpreter = _Differences(self.plain, state)
        return interpreter.run(frame), interpreter.next_state


class _Differences(fx.Interpreter):
    def __init__(self, traced: fx.GraphModule, state: State) -> None:
        super().__init__(traced)
        self.state = state
        self.next_state: State = {}

    def call_module(
        self, target: str, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
    ) -> Tensor:
        layer = self.fetch_attr(target)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            # Kept inputs must stay what they were: nothing may be overwritten here.
            return layer(args[0].clone(), *args[1:])
        current = args[0]
        # A layer that serves in two places has a state in each.
        name = f"{target}.{sum(key.startswith(target + '.') for key in self.next_state) // 2}"
        if f"{name}.I" in self.state:
            difference = current - self.state[f"{name}.I"]
            projection = self.state[f"{name}.P"] + _without_bias(layer, difference)
        else:
            projection = layer(current)
        self.next_state[f"{name}.I"] = current.clone()
        self.next_state[f"{name}.P"] = projection.clone()
        return projection


def _without_bias(layer: nn.Conv2d | nn.Linear, difference: Tensor) -> Tensor:
    """F * difference, without the bias: it does not change from frame to frame."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(difference, layer.weight)
    return layer._conv_forward(difference, layer.weight, None)
