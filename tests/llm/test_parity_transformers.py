"""Our hybrid LLM against transformers' own NemotronH with the same random weights."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import NemotronHConfig, NemotronHForCausalLM

from timevlm.convert.checkpoint import Checkpoint, in_memory
from timevlm.convert.hybrid import convert_hybrid, load_hybrid
from timevlm.llm import HybridLM

TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}
CHUNK_SIZE = 8


@dataclass(frozen=True)
class Shape:
    """What differs between the models compared."""

    pattern: str
    n_groups: int
    kv_heads: int
    biases: bool = False
    conv_kernel: int = 4


SHAPES = [
    Shape("M", 1, 4),
    Shape("MM", 4, 4),
    Shape("*", 1, 1),
    Shape("-", 1, 4),
    Shape("M-*M-", 1, 2),
    Shape("M-*M-", 2, 4),
    Shape("M-*M-", 4, 1),
    Shape("*-MM*-", 2, 2, biases=True),
    Shape("-M*M", 8, 4, biases=True, conv_kernel=3),
]


def build(shape: Shape) -> tuple[NemotronHForCausalLM, HybridLM]:
    config = NemotronHConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        hybrid_override_pattern=shape.pattern,
        num_hidden_layers=len(shape.pattern),
        num_attention_heads=4,
        num_key_value_heads=shape.kv_heads,
        head_dim=12,
        mamba_num_heads=8,
        mamba_head_dim=8,
        ssm_state_size=16,
        mamba_n_groups=shape.n_groups,
        mamba_d_conv=shape.conv_kernel,
        mamba_chunk_size=CHUNK_SIZE,
        # The library clamps steps to at least this in its scan, but not in its single step.
        mamba_dt_min=1e-9,
        mamba_dt_limit=(0.0, float("inf")),
        use_bias=shape.biases,
        mlp_bias=shape.biases,
        attn_implementation="eager",
    )
    theirs = NemotronHForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("A_log"):
                parameter.uniform_(0.0, 2.5)
            elif name.endswith("dt_bias"):
                parameter.uniform_(-4.0, 0.0)
            elif parameter.ndim == 1:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.3)
            elif name.endswith("embeddings.weight"):
                parameter.normal_()
            else:  # half the usual scale: larger weights amplify rounding from layer to layer
                parameter.normal_(0.0, 0.5 * parameter[0].numel() ** -0.5)
    checkpoint = Checkpoint(in_memory(theirs.state_dict()), config.to_dict())
    return theirs, load_hybrid(*convert_hybrid(checkpoint))


def ids_of(batch: int, tokens: int) -> Tensor:
    return torch.randint(0, 61, (batch, tokens))


def read_in_chunks(lm: HybridLM, ids: Tensor, sizes: list[int]) -> Tensor:
    """Logits (B, L, V) of plain text read by `read_prompt`, then `read_text`."""
    state = lm.init_state(torch.zeros(ids.shape[0], dtype=torch.long))
    logits = []
    for part in ids.split(sizes, dim=1):
        read = lm.read_text if state.prompted else lm.read_prompt
        out = read(lm.embed(part), state)
        state = out.state
        logits.append(lm.logits(out.hidden))
    return torch.cat(logits, dim=1)


def by_id(shape: Shape) -> str:
    return f"{shape.pattern}-g{shape.n_groups}-kv{shape.kv_heads}"


@pytest.mark.parametrize("shape", SHAPES, ids=by_id)
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 37])
@torch.inference_mode()
def test_whole(shape, tokens):
    theirs, ours = build(shape)
    ids = ids_of(2, tokens)
    expected = theirs(ids, use_cache=False).logits
    torch.testing.assert_close(read_in_chunks(ours, ids, [tokens]), expected, **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES, ids=by_id)
@pytest.mark.parametrize("sizes", [[5, 20, 3], [8, 8, 12], [27, 1], [1] * 28])
@torch.inference_mode()
def test_chunked_and_step_by_step(shape, sizes):
    theirs, ours = build(shape)
    ids = ids_of(2, sum(sizes))
    expected = theirs(ids, use_cache=False).logits
    torch.testing.assert_close(read_in_chunks(ours, ids, sizes), expected, **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES[4:], ids=by_id)
@torch.inference_mode()
def test_their_decoding_with_a_cache(shape):
    theirs, ours = build(shape)
    ids = ids_of(2, 19)
    out = theirs(ids[:, :13], use_cache=True)
    logits = [out.logits]
    for i in range(13, 19):
        out = theirs(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
        logits.append(out.logits)
    mine = read_in_chunks(ours, ids, [13] + [1] * 6)
    torch.testing.assert_close(mine, torch.cat(logits, dim=1), **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES[4:], ids=by_id)
@torch.inference_mode()
def test_rows_of_different_length(shape):
    theirs, ours = build(shape)
    lengths = torch.tensor([11, 4, 8])
    ids = ids_of(3, 11)
    state = ours.init_state(torch.zeros(3, dtype=torch.long))
    out = ours.read_prompt(ours.embed(ids), state, lengths)
    more = ids_of(3, 5)
    after = ours.read_text(ours.embed(more), out.state)
    for row, length in enumerate(lengths.tolist()):
        alone = torch.cat([ids[row, :length], more[row]])[None]
        expected = theirs(alone, use_cache=False).logits[0]
        torch.testing.assert_close(
            ours.logits(out.hidden[row, :length]), expected[:length], **TOLERANCE
        )
        torch.testing.assert_close(ours.logits(after.hidden[row]), expected[length:], **TOLERANCE)


def test_gradients_agree():
    theirs, ours = build(Shape("M-*M-", 2, 2))
    ids = ids_of(2, 21)
    theirs(ids, use_cache=False).logits.square().mean().backward()
    ours.train()
    state = ours.init_state(torch.zeros(2, dtype=torch.long))
    ours.logits(ours.read_prompt(ours.embed(ids), state).hidden).square().mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = expected[name.replace("backbone.", "model.")]
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-5, rtol=1e-3)
