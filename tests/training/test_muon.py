"""Muon: its iteration against the exact factor, its Adam against torch's."""

import pytest
import torch

from timevlm.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32), (3, 24, 40)])
def test_the_update_keeps_directions_and_evens_out_lengths(shape):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(*shape[:-2], shape[-2], 16, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(*shape[:-2], shape[-1], 16, generator=generator))
    lengths = torch.linspace(0.1, 1.0, 16)
    out = orthogonalized(5e3 * (left * lengths) @ right.mT)
    # In the matrix's own directions the result is diagonal, with every length near one.
    seen = left.mT @ out @ right
    diagonal = seen.diagonal(dim1=-2, dim2=-1)
    assert (diagonal > 0.6).all()
    assert (diagonal < 1.25).all()
    torch.testing.assert_close(seen, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    torch.testing.assert_close(left @ seen @ right.mT, out, atol=1e-4, rtol=0)


def test_a_zero_gradient_moves_nothing():
    assert not orthogonalized(torch.zeros(4, 6)).any()


def test_other_parameters_take_adamw_steps():
    generator = torch.Generator().manual_seed(1)
    ours = torch.randn(5, 7, generator=generator).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    settings = {"lr": 0.01, "weight_decay": 0.1}
    mine = Muon([{"params": [ours], "is_matrix": False, **settings}], lr=0.01)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.98), **settings)
    for _ in range(5):
        gradient = torch.randn(5, 7, generator=generator)
        for parameter, optimizer in ((ours, mine), (theirs, reference)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_matrices_must_be_matrices():
    with pytest.raises(ValueError, match="not 2-D"):
        Muon([{"params": [torch.zeros(3, requires_grad=True)], "is_matrix": True}], lr=0.01)


def test_a_step_is_as_long_as_adams_typical_one():
    weight = torch.zeros(64, 256, requires_grad=True)
    optimizer = Muon([{"params": [weight], "is_matrix": True}], lr=1.0)
    weight.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(2))
    optimizer.step()
    assert 0.1 < float(weight.detach().square().mean().sqrt()) < 0.3
