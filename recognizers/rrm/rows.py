"""One stream while it is advanced, taken out of the batched state and put back as a new one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recognizers.base import State
from recognizers.errors import StateError
from recognizers.rrm.stages import Plan


@dataclass(slots=True)
class Row:
    """What is known of one stream; its fields but `owned` and `spent` are the state's leaves."""

    edges: dict[str, Tensor]  # (1, *shape)
    owned: set[str]  # edges that nobody else holds and that may be written in place
    scales: dict[str, float]
    work: dict[str, float]
    frames: int
    age: int
    error: float
    gain: float
    moving: int  # frames in a row, of those looked at, where looking saved nothing; 8 at most
    wait: int  # frames to come that are not looked at
    spent: float = 0.0  # modelled cost of the frame in hand


def check_state(plan: Plan, state: State, batch_size: int) -> None:
    """StateError if a state is not of this plan and batch."""
    for edge in plan.edges.values():
        leaf = state.get(f"edge.{edge.name}")
        if leaf is None or tuple(leaf.shape) != (batch_size, *edge.shape):
            found = "is missing" if leaf is None else f"has shape {tuple(leaf.shape)}"
            raise StateError(
                f"state edge.{edge.name} {found}, the network wants "
                f"{(batch_size, *edge.shape)}: take a state from init_state of this network, batch "
                "and picture size"
            )


def row_of(plan: Plan, state: State, index: int, *, owned: bool) -> Row:
    """Stream `index` of a batched state; `owned`: its tensors may be written in place."""
    edges = {}
    for edge in plan.edges.values():
        leaf = state[f"edge.{edge.name}"][index : index + 1]
        # Files do not keep the layout; a copy is made only where it is another.
        edges[edge.name] = (
            leaf.contiguous(memory_format=torch.channels_last) if leaf.ndim == 4 else leaf
        )
    return Row(
        edges=edges,
        owned=set(edges) if owned else set(),
        scales=dict(zip(plan.edges, state["scales"][index].tolist(), strict=True)),
        work=dict(zip((s.name for s in plan.stages), state["work"][index].tolist(), strict=True)),
        frames=int(state["frames"][index]),
        age=int(state["age"][index]),
        error=float(state["error"][index]),
        gain=float(state["gain"][index]),
        moving=int(state["moving"][index]),
        wait=int(state["wait"][index]),
    )


def state_of(plan: Plan, rows: list[Row], *, like: State) -> State:
    """The batched state of advanced streams."""
    floats = {"dtype": torch.float64, "device": like["scales"].device}
    integers = {"dtype": torch.int64, "device": like["scales"].device}
    state = {
        f"edge.{name}": rows[0].edges[name]
        if len(rows) == 1
        else torch.cat([row.edges[name] for row in rows])
        for name in plan.edges
    }
    state["scales"] = torch.tensor([list(row.scales.values()) for row in rows], **floats)
    state["work"] = torch.tensor([list(row.work.values()) for row in rows], **floats)
    state["error"] = torch.tensor([row.error for row in rows], **floats)
    state["gain"] = torch.tensor([row.gain for row in rows], **floats)
    for name in ("frames", "age", "moving", "wait"):
        state[name] = torch.tensor([getattr(row, name) for row in rows], **integers)
    return state
