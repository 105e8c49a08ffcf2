"""Networks of every kind of layer and join that RRM knows, and videos in which a little moves."""

import operator

import torch
import torch.nn.functional as F
from torch import nn

from recognizers.cnn import (
    InvertedResidual,
    MobileNetV3,
    MobileNetV3Config,
    ResNet,
    ResNetConfig,
    settle_batch_norm,
)


class Inception(nn.Module):
    """Branches of several reaches, joined over channels; a picture comes out, not a vector."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(8, 4, 1),
                nn.Conv2d(8, 4, (1, 5), padding=(0, 2)),
                nn.Sequential(nn.Conv2d(8, 4, 3, padding=2, dilation=2), nn.ReLU6()),
                nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(8, 4, 1)),
            ]
        )
        self.last = nn.Conv2d(16, 5, 3, padding="same", groups=1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.last(torch.cat([branch(x) for branch in self.branches], dim=1))


class Functional(nn.Module):
    """Functions, methods, numbers, in-place sums, unpadded convolutions, partial last windows."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.third = nn.Conv2d(8, 12, 4, stride=3, padding=1)
        self.linear = nn.Linear(12, 7)

    def forward(self, x):
        x = F.hardswish(self.norm(self.first(x * 0.5 + 0.1)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        y = F.silu(self.second(x))
        y += x
        y = F.avg_pool2d(F.leaky_relu(y, 0.2), 2, ceil_mode=True, count_include_pad=False)
        gate = y.mean((2, 3), keepdim=True).sigmoid()
        y = torch.mul(y, gate)
        y = self.third(y).relu()
        y = F.dropout(F.adaptive_avg_pool2d(y, 1), 0.5, self.training)
        return self.linear(torch.flatten(y, 1))


class PreActivation(nn.Module):
    """Normalise and activate before the convolution: what is kept must not be overwritten."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.convolutions = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.stem(x)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = operator.add(x, convolution(self.activation(norm(x))))
        return self.activation(x).flatten(1)


class Shared(nn.Module):
    """One convolution that serves twice, with a batch norm of its own each time."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.shared = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for norm in self.norms:
            x = norm(self.shared(x)) + x
        return x


def _row(kernel, expanded, out, squeeze_excite, stride):
    return InvertedResidual(
        kernel=kernel,
        expanded=expanded,
        out=out,
        squeeze_excite=squeeze_excite,
        activation="hardswish",
        stride=stride,
    )


def small_resnet():
    return ResNet(ResNetConfig(num_classes=5, stem_width=8, widths=(8, 12, 16), depths=(1, 2, 1)))


def small_mobilenet():
    rows = (
        _row(3, 8, 8, False, 1),
        _row(3, 16, 12, True, 2),
        _row(5, 24, 12, True, 1),
        _row(5, 24, 12, True, 1),
        _row(3, 36, 16, False, 2),
        _row(3, 36, 16, True, 1),
    )
    return MobileNetV3(
        MobileNetV3Config(num_classes=5, stem_width=8, blocks=rows, last_width=32, head_width=16)
    )


NETWORKS = {
    "resnet": small_resnet,
    "mobilenet": small_mobilenet,
    "inception": Inception,
    "functional": Functional,
    "preactivation": PreActivation,
    "shared": Shared,
}


def network(name, seed=0):
    """One of NETWORKS in eval mode, its batch norms settled on noise."""
    torch.manual_seed(seed)
    built = NETWORKS[name]()
    settle_batch_norm(built, torch.randn(8, 3, 64, 64))
    return built


def video(num_frames, height, width, *, batch_size=1, seed=0):
    """(B, T, 3, H, W): still noise in which a square and, further off, a dot move; one still frame.

    Frame 5, if there is one, is new all over.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(batch_size, 1, 3, height, width, generator=generator)
    frames = frames.repeat(1, num_frames, 1, 1, 1)
    for row in range(batch_size):
        for time in range(num_frames):
            moment = max(time - (time == 3), 0)  # frame 3 is frame 2 again
            top, left = (3 * moment + 7 * row) % (height - 8), (5 * moment) % (width - 8)
            frames[row, time, :, top : top + 8, left : left + 8] = 1.5
            frames[row, time, :, height - 1 - moment % 4, width - 2] = -2.0
    if num_frames > 5:
        frames[:, 5] = torch.randn(batch_size, 3, height, width, generator=generator)
    return frames
