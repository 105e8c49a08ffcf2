"""Ensembles of MoViNets: over time at half the frame rate each, or side by side.

Kondratyuk et al. (2021), section 3.3. Temporal ensemble: two networks trained on their own read the
stream at half its rate, offset by one frame, and their logits are averaged before the softmax: the
accuracy of more computation at the same number of operations. A6 is A4 and A5 side by side.

Member m of M reads the frames t with t mod stride == m mod stride, t counted in each stream: stride
2 with two members is the temporal ensemble, stride 1 gives every frame to every member. Until a
member has read a frame the mean is over the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from recognizers.base import State, StreamingRecognizer, select_rows
from recognizers.errors import ConfigError
from recognizers.movinet.config import MoViNetConfig
from recognizers.movinet.model import MoViNet, MoViNetRecognizer

NUM_FRAMES = "num_frames"


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """Which MoViNets, and which frames each of them reads."""

    num_classes: int = 600  # of every member, whatever its own config says
    members: tuple[MoViNetConfig, ...]
    stride: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= len(self.members):
            raise ConfigError(
                f"stride {self.stride} with {len(self.members)} members: some frames would have no "
                "reader, use a stride from 1 to the number of members"
            )
        if len({member.causal for member in self.members}) > 1:
            raise ConfigError("base and stream members in one ensemble: use one kind")


class MoViNetEnsemble(StreamingRecognizer):
    """Mean logits of several MoViNets."""

    family = "movinet-ensemble"
    config_class = EnsembleConfig
    config: EnsembleConfig

    def __init__(
        self,
        config: EnsembleConfig,
        labels: Sequence[str] | None = None,
        members: Sequence[MoViNetRecognizer] | None = None,
    ) -> None:
        """Members are built from the config, or given (trained, or fused)."""
        super().__init__(config, labels)
        if members is None:
            members = [
                MoViNet(replace(member, num_classes=config.num_classes))
                for member in config.members
            ]
        self.members = nn.ModuleList(members)

    @classmethod
    def config_from_dict(cls, fields: dict) -> EnsembleConfig:
        """The config from its JSON."""
        members = tuple(MoViNet.config_from_dict(member) for member in fields["members"])
        return EnsembleConfig(**{**fields, "members": members})

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """State before the first frame.

        Returns:
            "num_frames" (B,); for member M "members.M.logits" (B, K), its last ones, and its own
            state under "members.M.".
        """
        device = device or self.device
        state = {NUM_FRAMES: torch.zeros(batch_size, dtype=torch.int64, device=device)}
        shape = (batch_size, self.config.num_classes)
        for index, member in enumerate(self.members):
            state[f"members.{index}.logits"] = torch.zeros(shape, device=device, dtype=dtype)
            own = member.init_state(batch_size, height, width, device=device, dtype=dtype)
            state |= {f"members.{index}.{name}": leaf for name, leaf in own.items()}
        return state

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Mean logits (B, T, K) after each frame, and the state after the last one."""
        self.check_frames(frames)
        counts = state[NUM_FRAMES]
        new_state = {NUM_FRAMES: counts + frames.shape[1]}
        times = counts[:, None] + torch.arange(frames.shape[1], device=counts.device)
        total = readers = 0
        for index, member in enumerate(self.members):
            prefix = f"members.{index}."
            own = {
                name.removeprefix(prefix): leaf
                for name, leaf in state.items()
                if name.startswith(prefix)
            }
            offset = index % self.config.stride
            logits, own = self._member_step(member, frames, times % self.config.stride, offset, own)
            new_state |= {prefix + name: leaf for name, leaf in own.items()}
            has_read = (times >= offset)[..., None]
            total = total + logits * has_read
            readers = readers + has_read
        return total / readers, new_state

    def _member_step(
        self, member: nn.Module, frames: Tensor, phases: Tensor, offset: int, own: State
    ) -> tuple[Tensor, State]:
        """The member's last logits after every frame (B, T, K), and its state.

        Streams of one phase read the same positions of the chunk, so they go as one batch.
        """
        length, stride = frames.shape[1], self.config.stride
        held = own["logits"][:, None].expand(-1, length, -1).clone()
        new = {name: leaf.clone() for name, leaf in own.items()}
        network = {name: leaf for name, leaf in own.items() if name != "logits"}
        for phase in phases[:, 0].unique().tolist():
            rows = (phases[:, 0] == phase).nonzero()[:, 0]
            first = (offset - phase) % stride
            if first >= length:
                continue
            logits, state = member.step(frames[rows, first::stride], select_rows(network, rows))
            # Each output stays until the member's next frame.
            positions = torch.arange(length - first, device=frames.device) // stride
            held[rows, first:] = logits[:, positions].to(held.dtype)
            new["logits"][rows] = logits[:, -1].to(held.dtype)
            for name, leaf in state.items():
                new[name][rows] = leaf
        return held, new

    def forward(self, clip: Tensor) -> Tensor:
        """Mean logits (B, K) of a whole clip (B, T, 3, H, W), base or stream members."""
        self.check_frames(clip)
        stride = self.config.stride
        logits = [
            member(clip[:, index % stride :: stride])
            for index, member in enumerate(self.members)
            if clip.shape[1] > index % stride
        ]
        return torch.stack(logits).mean(dim=0)


def temporal_ensemble(first: MoViNetRecognizer, second: MoViNetRecognizer) -> MoViNetEnsemble:
    """Two trained networks at half rate each, offset by one frame; labels are the first's."""
    config = EnsembleConfig(
        num_classes=first.config.num_classes, members=(first.config, second.config), stride=2
    )
    if second.config.num_classes != config.num_classes:
        raise ConfigError(
            f"{config.num_classes} and {second.config.num_classes} classes: members of an ensemble "
            "need the same"
        )
    return MoViNetEnsemble(config, first.labels, (first, second))
