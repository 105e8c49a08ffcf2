"""The "rrm" recognizer: a small picture network on differences, and running means over time.

Every frame goes through an inverted-residual network that computes only what changed since the
last frame; its feature vector joins running means with several time constants, and a small head
reads the vector and how far it is from each mean. So the picture network says what is seen, the
means what was seen before, and the difference that something happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from recognizers.base import State, StreamingRecognizer, register
from recognizers.cnn import InvertedResidual, MobileNetV3, MobileNetV3Config
from recognizers.errors import ConfigError, StateError
from recognizers.rrm.network import LayerReport, RRMConfig, StreamingNetwork


def _row(kernel: int, expanded: int, out: int, stride: int) -> InvertedResidual:
    return InvertedResidual(
        kernel=kernel,
        expanded=expanded,
        out=out,
        # A gate ties every position to every other, which is what differences must avoid.
        squeeze_excite=False,
        activation="hardswish",
        stride=stride,
    )


TINY_BLOCKS = (
    _row(3, 48, 24, 2),
    _row(3, 72, 24, 1),
    _row(3, 96, 48, 2),
    _row(3, 144, 48, 1),
    _row(3, 192, 96, 2),
    _row(3, 288, 96, 1),
    _row(3, 288, 96, 1),
)


@dataclass(frozen=True, kw_only=True)
class RRMRecognizerConfig:
    """Sizes of the recognizer, and how its picture network skips."""

    num_classes: int = 8
    stem_width: int = 16
    blocks: tuple[InvertedResidual, ...] = TINY_BLOCKS
    features: int = 192  # of one frame
    hidden: int = 192  # of the head
    decays: tuple[float, ...] = (0.5, 0.9)  # of the running means, per frame
    dropout: float = 0.1
    threshold: float = 0.0  # see RRMConfig; 0: exact
    refresh_every: int = 120  # frames

    def __post_init__(self) -> None:
        if min(self.num_classes, self.stem_width, self.features, self.hidden) < 1:
            raise ConfigError(
                f"num_classes {self.num_classes}, stem_width {self.stem_width}, features "
                f"{self.features}, hidden {self.hidden}: each must be 1 or more"
            )
        if not self.decays or any(not 0 < decay < 1 for decay in self.decays):
            raise ConfigError(f"decays {self.decays}: give at least one, each in (0, 1)")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout}: give a share in [0, 1)")
        self.differences()

    def differences(self) -> RRMConfig:
        """How the picture network decides what to compute."""
        return RRMConfig(threshold=self.threshold, refresh_every=self.refresh_every)

    def network(self) -> MobileNetV3Config:
        """The picture network: its classifier makes the features."""
        return MobileNetV3Config(
            num_classes=self.features,
            stem_width=self.stem_width,
            blocks=self.blocks,
            last_width=2 * self.features,
            head_width=0,
            dropout=0.0,
        )


class RRMRecognizer(StreamingRecognizer):
    """A picture network on differences with running means; see the module's docstring.

    In training mode `step` runs the picture network as it is, on all frames at once and with
    gradients, and its state holds the running means alone in use; in eval mode it runs on
    differences and no gradient flows into it. The folded network is made at the first step after
    `eval()`, `load_state_dict` or a move to another device or type; after changing weights by hand
    in eval mode, call `eval()` again.
    """

    family: ClassVar[str] = "rrm"
    config_class: ClassVar[type] = RRMRecognizerConfig
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, config: RRMRecognizerConfig, labels: Sequence[str] | None = None) -> None:
        super().__init__(config, labels)
        self.network = MobileNetV3(config.network())
        width = config.features * (1 + len(config.decays))
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.hidden),
            nn.Hardswish(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.num_classes),
        )
        self._forget()
        self.register_load_state_dict_post_hook(_forget_streaming)

    @property
    def streaming(self) -> StreamingNetwork:
        """The picture network on differences, made from the weights as they are now."""
        if not self._streaming:
            self._streaming.append(StreamingNetwork(self.network, self.config.differences()))
        return self._streaming[0]

    def train(self, mode: bool = True) -> Self:
        """Switch modes; the folded network is made anew when it is next needed."""
        self._forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._forget()
        return super()._apply(fn, recurse)

    def _forget(self) -> None:
        # A list, so that the folded copies are no submodule and no part of the state dict.
        self._streaming: list[StreamingNetwork] = []

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """State before the first frame: leaves of the picture network, `means`, `count`.

        `device` and `dtype`, if given, must be the parameters'.
        """
        for name, asked, own in (
            ("device", device and torch.device(device).type, self.device.type),
            ("dtype", dtype, self.dtype),
        ):
            if asked is not None and asked != own:
                raise StateError(f"{name} {asked} is not the parameters' ({own}): move the model")
        state = {
            f"network.{name}": leaf
            for name, leaf in self.streaming.init_state(batch_size, height, width).items()
        }
        shape = (batch_size, len(self.config.decays), self.config.features)
        state["means"] = torch.zeros(shape, device=self.device, dtype=self.dtype)
        state["count"] = torch.zeros(batch_size, device=self.device, dtype=torch.int64)
        return state

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, T, K) after each of frames (B, T, 3, H, W), and the state after the last."""
        self.check_frames(frames)
        if "means" not in state or len(state["means"]) != len(frames):
            raise StateError(
                f"the state does not fit a batch of {len(frames)}: take one from init_state"
            )
        frames = self.normalize(frames)
        inner = {
            name.removeprefix("network."): leaf
            for name, leaf in state.items()
            if name.startswith("network.")
        }
        if self.training:
            features = self.network(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        else:
            features, inner = self.streaming.step(frames, inner)
        logits, means, count = self._pool(features, state["means"], state["count"])
        state = {f"network.{name}": leaf for name, leaf in inner.items()}
        return logits, state | {"means": means, "count": count}

    def _pool(self, features: Tensor, means: Tensor, count: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, T, K), means (B, D, F) and count (B,) after features (B, T, F)."""
        decays = torch.tensor(self.config.decays, device=means.device, dtype=means.dtype)[:, None]
        rows = []
        for feature in features.unbind(1):
            feature = feature[:, None]  # (B, 1, F)
            # Before the first frame there is no mean: it starts at the first frame's features.
            first = (count == 0)[:, None, None]
            before = torch.where(first, feature, means)
            rows.append(torch.cat([feature, feature - before], dim=1).flatten(1))
            means = decays * before + (1 - decays) * feature
            count = count + 1
        return self.head(torch.stack(rows, dim=1)), means, count

    def report(self, state: State) -> tuple[LayerReport, ...]:
        """Share of the work that the picture network skipped, per layer."""
        return self.streaming.report(
            {
                name.removeprefix("network."): leaf
                for name, leaf in state.items()
                if name.startswith("network.")
            }
        )

    @classmethod
    def config_from_dict(cls, fields: dict[str, Any]) -> RRMRecognizerConfig:
        """The config from its JSON; blocks become `InvertedResidual` again."""
        blocks = tuple(InvertedResidual(**row) for row in fields["blocks"])
        return super().config_from_dict(fields | {"blocks": blocks})


def _forget_streaming(model: nn.Module, incompatible: object) -> None:
    del incompatible
    if isinstance(model, RRMRecognizer):
        model._forget()


register("rrm-tiny", "rrm", RRMRecognizerConfig(threshold=0.02))
register("rrm-tiny-exact", "rrm", RRMRecognizerConfig())
