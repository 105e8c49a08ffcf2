"""The embedded model begins from nothing, or from what a training wrote."""

import pytest
import torch

from tests.helpers import save_tiny
from timevlm.errors import ModelError
from timevlm.training.nano import build_nano, export_nano


def test_an_exported_nano_can_be_trained_further(tmp_path):
    torch.manual_seed(3)
    model, processor = build_nano()
    export_nano(model, processor, tmp_path / "export")
    again, same = build_nano(tmp_path / "export")
    assert same.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    expected = model.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name].half().float()), name
        assert tensor.dtype == torch.float32
    assert all(p.requires_grad for p in again.parameters())


def test_a_start_must_be_a_model_that_this_version_trains(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        build_nano(tmp_path)
    with pytest.raises(ModelError, match="words"):
        build_nano(save_tiny(tmp_path / "tiny"))
