"""Feed-forward picture networks built from a config: residual (ResNet) and inverted residual
(MobileNetV3).

They are what `recognizers.rrm.wrap` is measured on and what the RRM recognizer is made of. Layers
come in the published order and sizes, so `resnet18()` and `mobilenet_v3_large()` have the published
numbers of parameters; module names are our own.

Sources: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.1, table 1;
Howard et al., "Searching for MobileNetV3" (2019), section 5, tables 1 and 2.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from recognizers.errors import ConfigError

Activation = Literal["relu", "hardswish"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A residual network of basic blocks (two 3x3 convolutions)."""

    num_classes: int = 1000
    in_channels: int = 3
    stem_width: int = 64  # channels of the first 7x7 convolution
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage
    depths: tuple[int, ...] = (2, 2, 2, 2)  # blocks of each stage

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ConfigError(
                f"{len(self.widths)} widths and {len(self.depths)} depths: give one of each per "
                "stage, at least one stage"
            )
        _check_positive(self, "num_classes", "in_channels", "stem_width", "widths", "depths")


@dataclass(frozen=True, kw_only=True)
class InvertedResidual:
    """One row of MobileNetV3's tables."""

    kernel: int  # of the depthwise convolution
    expanded: int  # channels of the depthwise convolution
    out: int  # channels of the block's output
    squeeze_excite: bool
    activation: Activation
    stride: int = 1

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0 or self.stride not in (1, 2):
            raise ConfigError(
                f"kernel {self.kernel}, stride {self.stride}: give an odd kernel, stride 1 or 2"
            )
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation {self.activation!r}: give one of {', '.join(ACTIVATIONS)}"
            )
        _check_positive(self, "kernel", "expanded", "out")


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config:
    """A network of inverted residual blocks with squeeze-and-excitation."""

    blocks: tuple[InvertedResidual, ...]
    num_classes: int = 1000
    in_channels: int = 3
    stem_width: int = 16
    last_width: int = 960  # channels of the last 1x1 convolution
    head_width: int = 1280  # channels of the hidden layer of the classifier; 0: none
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ConfigError("no blocks: give at least one")
        if not 0 <= self.dropout < 1 or self.head_width < 0:
            raise ConfigError(
                f"dropout {self.dropout}, head_width {self.head_width}: dropout is in [0, 1), "
                "head_width 0 or more"
            )
        _check_positive(self, "num_classes", "in_channels", "stem_width", "last_width")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number < 1 for number in numbers):
            raise ConfigError(f"{name} = {value}: must be 1 or more")


class ConvNorm(nn.Sequential):
    """Convolution with "same" padding, batch norm and, if named, an activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = None,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(out_channels),
        ]
        if activation is not None:
            layers.append(ACTIVATIONS[activation](inplace=True))
        super().__init__(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., figure 5, left)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(in_channels, out_channels, 3, stride=stride, activation="relu")
        self.second = ConvNorm(out_channels, out_channels, 3)
        plain = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if plain else ConvNorm(in_channels, out_channels, 1, stride=stride)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        return self.activation(self.second(self.first(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """Pictures (B, C, H, W) to class logits (B, K)."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(config.in_channels, config.stem_width, 7, stride=2, activation="relu")
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        channels = config.stem_width
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.num_classes)
        )
        _initialize(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Class logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.blocks(self.pool(self.stem(pictures))))


class SqueezeExcite(nn.Module):
    """A gate per channel from the mean over all positions (Howard et al., section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _multiple_of_8(channels / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), each channel scaled by its gate in [0, 1]."""
        return x * self.gate(x)


class InvertedResidualBlock(nn.Module):
    """Widen (1x1), filter each channel (depthwise), gate, narrow (1x1), around a shortcut."""

    def __init__(self, in_channels: int, row: InvertedResidual) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(ConvNorm(in_channels, row.expanded, 1, activation=row.activation))
        layers.append(
            ConvNorm(
                row.expanded,
                row.expanded,
                row.kernel,
                stride=row.stride,
                groups=row.expanded,
                activation=row.activation,
            )
        )
        if row.squeeze_excite:
            layers.append(SqueezeExcite(row.expanded))
        layers.append(ConvNorm(row.expanded, row.out, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = row.stride == 1 and in_channels == row.out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV3(nn.Module):
    """Pictures (B, C, H, W) to class logits (B, K)."""

    def __init__(self, config: MobileNetV3Config) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(
            config.in_channels, config.stem_width, 3, stride=2, activation="hardswish"
        )
        blocks: list[nn.Module] = []
        channels = config.stem_width
        for row in config.blocks:
            blocks.append(InvertedResidualBlock(channels, row))
            channels = row.out
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNorm(channels, config.last_width, 1, activation="hardswish")
        head: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        width = config.last_width
        if config.head_width:
            head += [nn.Linear(width, config.head_width), nn.Hardswish(inplace=True)]
            head.append(nn.Dropout(config.dropout))
            width = config.head_width
        self.head = nn.Sequential(*head, nn.Linear(width, config.num_classes))
        _initialize(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Class logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.last(self.blocks(self.stem(pictures))))


def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18 of He et al., table 1: 11,689,512 parameters at 1000 classes."""
    return ResNet(ResNetConfig(num_classes=num_classes))


def mobilenet_v3_large(num_classes: int = 1000) -> MobileNetV3:
    """MobileNetV3-Large 1.0 of Howard et al., table 1: 5.48 million parameters at 1000 classes."""
    rows: list[tuple[int, int, int, bool, Activation, int]] = [
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, "hardswish", 2),
        (3, 200, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 480, 112, True, "hardswish", 1),
        (3, 672, 112, True, "hardswish", 1),
        (5, 672, 160, True, "hardswish", 2),
        (5, 960, 160, True, "hardswish", 1),
        (5, 960, 160, True, "hardswish", 1),
    ]
    blocks = tuple(
        InvertedResidual(
            kernel=kernel,
            expanded=expanded,
            out=out,
            squeeze_excite=squeeze_excite,
            activation=activation,
            stride=stride,
        )
        for kernel, expanded, out, squeeze_excite, activation, stride in rows
    )
    return MobileNetV3(MobileNetV3Config(num_classes=num_classes, blocks=blocks))


def settle_batch_norm(network: nn.Module, pictures: Tensor) -> None:
    """Set every batch norm's statistics from pictures (B, C, H, W), in place; leaves eval mode on.

    A network of fresh weights whose batch norms still hold mean 0 and variance 1 lets its signal
    die out or blow up with depth, and then says nothing about a trained one.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches seen
        norm.train()
    with torch.no_grad():
        network(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _multiple_of_8(channels: float) -> int:
    # The published rounding: to the nearest multiple of 8, never more than a tenth down.
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _initialize(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
