"""The picture networks have the published sizes, and say no to what makes no sense."""

import pytest
import torch

from recognizers.cnn import (
    InvertedResidual,
    MobileNetV3Config,
    ResNetConfig,
    mobilenet_v3_large,
    resnet18,
    settle_batch_norm,
)
from recognizers.errors import ConfigError
from tests.recognizers.rrm_networks import small_mobilenet, small_resnet


@pytest.mark.parametrize(
    ("build", "parameters"), [(resnet18, 11_689_512), (mobilenet_v3_large, 5_483_032)]
)
def test_published_numbers_of_parameters(build, parameters):
    assert sum(value.numel() for value in build().parameters()) == parameters


@pytest.mark.parametrize("build", [small_resnet, small_mobilenet])
def test_any_picture_size_and_settled_norms(build):
    network = build()
    pictures = 3 + 5 * torch.randn(6, 3, 45, 38)
    settle_batch_norm(network, pictures)
    assert not network.training
    assert network(pictures).shape == (6, 5)
    convolution, norm = network.stem[0], network.stem[1]
    output = norm(convolution(pictures))
    torch.testing.assert_close(output.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    assert norm.momentum == 0.1


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="2 widths and 1 depths"):
        ResNetConfig(widths=(8, 8), depths=(1,))
    with pytest.raises(ConfigError, match="num_classes = 0"):
        ResNetConfig(num_classes=0)
    row = {"expanded": 8, "out": 8, "squeeze_excite": False, "activation": "relu"}
    with pytest.raises(ConfigError, match="kernel 4"):
        InvertedResidual(kernel=4, **row)
    with pytest.raises(ConfigError, match="activation 'swish'"):
        InvertedResidual(kernel=3, **(row | {"activation": "swish"}))
    with pytest.raises(ConfigError, match="no blocks"):
        MobileNetV3Config(blocks=())
    with pytest.raises(ConfigError, match="dropout 1"):
        MobileNetV3Config(blocks=(InvertedResidual(kernel=3, **row),), dropout=1)
