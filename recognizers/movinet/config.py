"""MoViNet's configurations: the architectures A0 to A5 as tables, and what a variant switches.

Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition" (CVPR 2021,
arXiv 2103.11511), appendix; the tables below are those of the released networks.
"base" is the plain 3-D network; "stream" the causal one with stream buffers, whose 3-D depthwise
convolutions are factorised in a spatial and a temporal one, as released.
"""

from dataclasses import dataclass
from typing import Literal

from recognizers.errors import ConfigError

ConvType = Literal["3d", "2plus1d"]
SqueezeType = Literal["none", "2d", "3d", "2plus3d"]
Activation = Literal["swish", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]

SQUEEZE_RATIO = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockConfig:
    """One inverted bottleneck: expand, depthwise, squeeze-excite, project, skip."""

    in_channels: int
    expand_channels: int
    out_channels: int
    kernel: tuple[int, int]  # temporal extent, spatial extent (square)
    stride: int = 1  # spatial; time is never strided

    def __post_init__(self) -> None:
        if any(extent < 1 or extent % 2 == 0 for extent in self.kernel):
            raise ConfigError(f"kernel {self.kernel}: both extents must be odd and positive")
        if self.stride not in (1, 2):
            raise ConfigError(f"stride {self.stride}: use 1 or 2")

    @property
    def has_skip_projection(self) -> bool:
        """Whether the skip path needs a convolution, because the shape changes."""
        return self.stride != 1 or self.in_channels != self.out_channels


@dataclass(frozen=True, kw_only=True, slots=True)
class MoViNetConfig:
    """A MoViNet: its architecture, and the switches between the base and the streaming network."""

    num_classes: int = 600
    stem_channels: int
    stages: tuple[tuple[BlockConfig, ...], ...]
    head_channels: int
    hidden_channels: int = 2048
    causal: bool = True  # past frames only: CausalConv, cumulative average pooling
    conv_type: ConvType = "2plus1d"
    squeeze_type: SqueezeType = "2plus3d"  # pools over time, over space, or both side by side
    position_encoding: bool = False  # in the squeeze-excite; needed for stability from A3 on
    activation: Activation = "hard_swish"
    gate: Gate = "hard_sigmoid"
    dropout: float = 0.2
    stochastic_depth: float = 0.0  # drop rate of the last block; earlier ones in proportion
    norm_momentum: float = 0.1  # share of the new batch in the running statistics (TF: 0.01)

    def __post_init__(self) -> None:
        if self.num_classes < 1 or not self.stages or not all(self.stages):
            raise ConfigError(
                f"{self.num_classes} classes, stages of {[len(stage) for stage in self.stages]} "
                "blocks: give at least one class, one stage, and one block in every stage"
            )
        for name in ("dropout", "stochastic_depth"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: give a rate in [0, 1)")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} {getattr(self, name)!r}: choose from {', '.join(allowed)}"
                )
        channels = self.stem_channels
        for block in self.blocks:
            if block.in_channels != channels:
                raise ConfigError(
                    f"a block reads {block.in_channels} channels after {channels}: give it the "
                    "channels of the block before"
                )
            channels = block.out_channels

    @property
    def blocks(self) -> tuple[BlockConfig, ...]:
        """All blocks, first to last."""
        return tuple(block for stage in self.stages for block in stage)


_CHOICES = {
    "conv_type": ("3d", "2plus1d"),
    "squeeze_type": ("none", "2d", "3d", "2plus3d"),
    "activation": ("swish", "hard_swish"),
    "gate": ("sigmoid", "hard_sigmoid"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What the paper and the release say of one architecture, Kinetics-600."""

    resolution: int
    num_frames: int
    gflops: float  # per clip, a multiply-add counted once
    megaparameters: float
    checkpoint_megabytes: float  # of the base network, float32
    base_top1: float
    stream_top1: float


# One row a stage: output channels, then "temporal x spatial : expanded channels" of each block. The
# first block of a stage halves the picture, but for stage 3, which keeps it.
_K13, _K15, _K33, _K53 = (1, 3), (1, 5), (3, 3), (5, 3)
_Row = tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]
_STAGE_STRIDES = (2, 2, 2, 1, 2)
_HALF = (_K53, _K15, _K15, _K15, _K15, _K33)  # the opening that the last stages of A1 to A4 share

_ARCHITECTURES: dict[str, tuple[int, tuple[_Row, ...], int]] = {
    "a0": (
        8,
        (
            (8, (24,), (_K15,)),
            (32, (80, 80, 80), (_K33,) * 3),
            (56, (184, 112, 184), (_K53, _K33, _K33)),
            (56, (184,) * 4, (_K53, _K33, _K33, _K33)),
            (104, (384, 280, 280, 344), (_K53, _K15, _K15, _K15)),
        ),
        480,
    ),
    "a1": (
        16,
        (
            (16, (40, 40), (_K15, _K33)),
            (40, (96, 120, 96, 96), (_K33,) * 4),
            (64, (216, 128, 216, 168, 216), (_K53, *(_K33,) * 4)),
            (64, (216, 216, 216, 128, 128, 216), (_K53, _K33, _K33, _K33, _K15, _K33)),
            (136, (456, 360, 360, 360, 456, 456, 544), (*_HALF, _K13)),
        ),
        600,
    ),
    "a2": (
        16,
        (
            (16, (40, 40, 64), (_K15, _K33, _K33)),
            (40, (96, 120, 96, 96, 120), (_K33,) * 5),
            (72, (240, 160, 240, 192, 240), (_K53, *(_K33,) * 4)),
            (72, (240, 240, 240, 240, 144, 240), (_K53, _K33, _K33, _K33, _K15, _K33)),
            (144, (480, 384, 384, 480, 480, 480, 576), (*_HALF, _K13)),
        ),
        640,
    ),
    "a3": (
        16,
        (
            (16, (40, 40, 64, 40), (_K15, _K33, _K33, _K33)),
            (48, (112, 144, 112, 112, 144, 144), (_K33, _K33, _K33, _K15, _K33, _K33)),
            (80, (240, 152, 240, 192, 240), (_K53, *(_K33,) * 4)),
            (
                88,
                (264, 264, 264, 264, 160, 264, 264, 264),
                (_K53, _K33, _K33, _K33, _K15, _K33, _K33, _K33),
            ),
            (
                168,
                (560, 448, 448, 560, 560, 560, 448, 448, 560, 672),
                (*_HALF, _K15, _K15, _K33, _K13),
            ),
        ),
        744,
    ),
    "a4": (
        24,
        (
            (24, (64, 64, 96, 64, 96, 64), (_K15, *(_K33,) * 5)),
            (56, (168, 168, 136, 136, 168, 168, 168, 136, 136), (*(_K33,) * 7, _K15, _K33)),
            (96, (320, 160, 320, 192, 320, 160, 320, 256, 320), (_K53, *(_K33,) * 8)),
            (
                96,
                (320, 320, 320, 320, 192, 320, 320, 192, 320, 320),
                (_K53, _K33, _K33, _K33, _K15, *(_K33,) * 5),
            ),
            (
                192,
                (640, 512, 512, 640, 640, 640, 512, 512, 640, 768, 640, 640, 768),
                (*_HALF, *(_K15,) * 5, _K33, _K33),
            ),
        ),
        856,
    ),
    "a5": (
        24,
        (
            (24, (64, 64, 96, 64, 96, 64), (_K15, _K15, *(_K33,) * 4)),
            (64, (192, 152, 152, 152, 192, 192, 192, 152, 152, 192, 192), (_K53, *(_K33,) * 10)),
            (
                112,
                (376, 224, 376, 376, 296, 376, 224, 376, 376, 296, 376, 376, 376),
                (_K53, *(_K33,) * 12),
            ),
            (
                120,
                (376, 376, 376, 376, 224, 376, 376, 224, 376, 376, 376),
                (_K53, _K33, _K33, _K33, _K15, *(_K33,) * 6),
            ),
            (
                224,
                (
                    *(744, 744, 600, 600, 744, 744, 744, 896, 600),
                    *(600, 896, 744, 744, 896, 600, 600, 744, 744),
                ),
                (_K53, _K33, *(_K15,) * 4, _K33, *(_K15,) * 5, _K33, *(_K15,) * 4, _K33),
            ),
        ),
        992,
    ),
}

# GFLOPs and parameters: the paper. Checkpoint sizes and top-1: the release, whose networks from A2
# on are larger than the paper's.
PUBLISHED = {
    "a0": Published(
        resolution=172,
        num_frames=50,
        gflops=2.71,
        megaparameters=3.1,
        checkpoint_megabytes=12,
        base_top1=72.28,
        stream_top1=72.05,
    ),
    "a1": Published(
        resolution=172,
        num_frames=50,
        gflops=6.02,
        megaparameters=4.6,
        checkpoint_megabytes=18,
        base_top1=76.69,
        stream_top1=76.45,
    ),
    "a2": Published(
        resolution=224,
        num_frames=50,
        gflops=10.3,
        megaparameters=4.8,
        checkpoint_megabytes=20,
        base_top1=78.62,
        stream_top1=78.40,
    ),
    "a3": Published(
        resolution=256,
        num_frames=120,
        gflops=56.9,
        megaparameters=5.3,
        checkpoint_megabytes=29,
        base_top1=81.79,
        stream_top1=80.09,
    ),
    "a4": Published(
        resolution=290,
        num_frames=80,
        gflops=105,
        megaparameters=4.9,
        checkpoint_megabytes=44,
        base_top1=83.48,
        stream_top1=81.49,
    ),
    "a5": Published(
        resolution=320,
        num_frames=120,
        gflops=281,
        megaparameters=15.7,
        checkpoint_megabytes=72,
        base_top1=84.27,
        stream_top1=82.37,
    ),
}
ARCHITECTURES = tuple(_ARCHITECTURES)


def architecture(name: str, *, stream: bool, num_classes: int = 600) -> MoViNetConfig:
    """The configuration of a released network.

    Args:
        name: "a0" to "a5".
        stream: the causal network with (2+1)-D convolutions; else the 3-D base network.
        num_classes: of the classifier.
    """
    if name not in _ARCHITECTURES:
        raise ConfigError(f"no architecture {name!r}: choose from {', '.join(ARCHITECTURES)}")
    stem_channels, rows, head_channels = _ARCHITECTURES[name]
    stages = []
    channels = stem_channels
    for (out_channels, expansions, kernels), first_stride in zip(rows, _STAGE_STRIDES, strict=True):
        stage = []
        for index, (expand_channels, kernel) in enumerate(zip(expansions, kernels, strict=True)):
            stage.append(
                BlockConfig(
                    in_channels=channels,
                    expand_channels=expand_channels,
                    out_channels=out_channels,
                    kernel=kernel,
                    stride=first_stride if index == 0 else 1,
                )
            )
            channels = out_channels
        stages.append(tuple(stage))
    return MoViNetConfig(
        num_classes=num_classes,
        stem_channels=stem_channels,
        stages=tuple(stages),
        head_channels=head_channels,
        causal=stream,
        conv_type="2plus1d" if stream else "3d",
        squeeze_type="2plus3d" if stream else "3d",
        position_encoding=stream and name in ("a3", "a4", "a5"),
        activation="hard_swish" if stream else "swish",
        gate="hard_sigmoid" if stream else "sigmoid",
    )


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to value, at least `divisor`, at most 10% below value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
