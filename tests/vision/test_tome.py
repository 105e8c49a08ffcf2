"""Token merging: the published numbers, a twin that reads like the definition, and the laws."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.conftest import golden_files
from timevlm.errors import ModelError
from timevlm.vision.projector import MLPProjector
from timevlm.vision.tome import (
    bipartite_soft_matching,
    merge_rounds,
    merge_tokens,
    similarity_metric,
)


def load_seeded(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_seeded", folder / "seeded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slow_merge(x: Tensor, keep: int, heads: int) -> tuple[Tensor, Tensor]:
    """One row, x (T, C), one token after the other."""
    tokens = [(row.clone(), 1.0) for row in x]
    while len(tokens) > keep:
        r = min(len(tokens) - keep, len(tokens) // 2)
        metric = [sum(value.chunk(heads)) / heads for value, _ in tokens]
        even, odd = range(0, len(tokens), 2), range(1, len(tokens), 2)
        best = {}
        for i in even:
            likeness = [
                float(torch.cosine_similarity(metric[i], metric[j], dim=0, eps=1e-12)) for j in odd
            ]
            best[i] = (max(likeness), odd[likeness.index(max(likeness))])
        ranked = sorted(even, key=lambda i: -best[i][0])
        sums = {j: (tokens[j][0] * tokens[j][1], tokens[j][1]) for j in odd}
        for i in ranked[:r]:
            total, size = sums[best[i][1]]
            sums[best[i][1]] = (total + tokens[i][0] * tokens[i][1], size + tokens[i][1])
        means = [(total / size, size) for total, size in sums.values()]
        tokens = [tokens[i] for i in ranked[r:]] + means
    return torch.stack([value for value, _ in tokens]), torch.tensor([s for _, s in tokens])


@pytest.mark.parametrize("path", golden_files("tome"))
def test_published_numbers(path):
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    merged, sizes = merge_tokens(tensors["x"], int(metadata["keep"]), int(metadata["heads"]))
    torch.testing.assert_close(merged, tensors["merged"], atol=2e-5, rtol=0)
    assert torch.equal(sizes.sum(1), torch.full((len(sizes),), float(tensors["x"].shape[1])))
    shapes = json.loads(metadata["shapes"])
    weights = load_seeded(path.parent).seeded_state_dict(shapes)
    llm_dim, vision_dim = shapes["projector.0.weight"]
    projector = MLPProjector(vision_dim, llm_dim)
    projector.load_state_dict({k.removeprefix("projector."): v for k, v in weights.items()})
    torch.testing.assert_close(projector(merged), tensors["projected"], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("tokens", "keep", "heads"),
    [(36, 16, 4), (49, 16, 2), (17, 3, 1), (8, 4, 8), (5, 4, 1), (3, 1, 2), (2, 1, 1), (30, 29, 2)],
)
def test_equals_slow_twin(tokens, keep, heads):
    x = torch.randn(3, tokens, 16)
    merged, sizes = merge_tokens(x, keep, heads)
    for row, one, size in zip(x, merged, sizes, strict=True):
        slow, slow_size = slow_merge(row, keep, heads)
        torch.testing.assert_close(one, slow, atol=1e-5, rtol=1e-5)
        assert torch.equal(size, slow_size)


@pytest.mark.parametrize("keep", [36, 37, 100])
def test_keeping_all_is_the_identity(keep):
    x = torch.randn(2, 36, 8)
    merged, sizes = merge_tokens(x, keep, 4)
    assert torch.equal(merged, x)
    assert torch.equal(sizes, torch.ones(2, 36))


@pytest.mark.parametrize("keep", [1, 2, 7, 16, 24, 35])
def test_sizes_and_mass_are_kept(keep):
    x = torch.randn(4, 36, 32)
    merged, sizes = merge_tokens(x, keep, 4)
    assert merged.shape == (4, keep, 32)
    assert sizes.shape == (4, keep)
    assert torch.equal(sizes.sum(1), torch.full((4,), 36.0))
    assert sizes.min() >= 1
    torch.testing.assert_close((merged * sizes[..., None]).sum(1), x.sum(1), atol=1e-4, rtol=1e-4)


def test_a_row_equals_itself_alone_and_rows_permute():
    x = torch.randn(5, 49, 32)
    merged, sizes = merge_tokens(x, 16, 4)
    for i in range(5):
        alone, alone_sizes = merge_tokens(x[i : i + 1], 16, 4)
        torch.testing.assert_close(alone[0], merged[i], atol=1e-6, rtol=1e-6)
        assert torch.equal(alone_sizes[0], sizes[i])
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled, shuffled_sizes = merge_tokens(x[order], 16, 4)
    torch.testing.assert_close(shuffled, merged[order], atol=1e-6, rtol=1e-6)
    assert torch.equal(shuffled_sizes, sizes[order])


def test_unmerge_puts_every_token_back():
    x = torch.randn(2, 12, 6)
    merge, unmerge = bipartite_soft_matching(x, 4)
    merged = merge(x)
    assert merged.shape == (2, 8, 6)
    back = unmerge(merged)
    assert back.shape == x.shape
    counts = unmerge(merge(torch.ones(2, 12, 1)))
    alone = counts[..., 0] == 1
    assert 0 < int(alone.sum()) < alone.numel()
    assert torch.equal(back[alone], x[alone])
    # A source token and the token it went to read the same sum.
    torch.testing.assert_close((back / counts).sum(1), x.sum(1), atol=1e-5, rtol=1e-5)


def test_merging_nothing_only_reorders():
    x = torch.randn(2, 7, 6)
    merge, unmerge = bipartite_soft_matching(x, 0)
    assert merge(x).shape == x.shape
    assert torch.equal(unmerge(merge(x)), x)


def test_equal_and_zero_tokens_stay_finite():
    x = torch.zeros(2, 20, 8, requires_grad=True)
    merged, sizes = merge_tokens(x, 5, 2)
    assert torch.equal(merged, torch.zeros(2, 5, 8))
    assert torch.equal(sizes.sum(1), torch.full((2,), 20.0))
    merged.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gradient_reaches_every_token():
    x = torch.randn(2, 36, 8, requires_grad=True)
    merged, sizes = merge_tokens(x, 16, 4)
    (merged * sizes[..., None]).sum().backward()
    # The size-weighted sum of the outputs is the plain sum of the inputs.
    torch.testing.assert_close(x.grad, torch.ones_like(x), atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_its_type_and_counts():
    x = torch.randn(1, 729, 32)
    merged, sizes = merge_tokens(x.bfloat16(), 2, 4)
    assert merged.dtype == torch.bfloat16
    assert float(sizes.sum()) == 729.0


def test_rounds_halve_until_done():
    assert merge_rounds(196, 16) == [98, 49, 24, 9]
    assert merge_rounds(729, 16) == [364, 182, 91, 46, 23, 7]
    assert merge_rounds(16, 16) == []


def test_refusals_name_the_value():
    x = torch.randn(1, 6, 10)
    with pytest.raises(ModelError, match="keep 0"):
        merge_tokens(x, 0, 2)
    with pytest.raises(ModelError, match="3 head slices do not divide 10"):
        merge_tokens(x, 2, 3)
    with pytest.raises(ModelError, match="cannot merge 4 of 6"):
        bipartite_soft_matching(similarity_metric(x, 2), 4)
