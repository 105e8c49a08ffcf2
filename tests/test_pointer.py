"""Times that are copied from the frames that an answer looks at."""

import pytest
import torch

from tests.helpers import tiny_config, tiny_vlm
from timevlm.errors import ModelError
from timevlm.llm.attention import attention_weights
from timevlm.pointer import KIND_SIZES, TimePointer
from timevlm.vision.times import NONE, timestamp_words

FIRST_IDS = (5, 120, 230)
VOCABULARY = 250


@pytest.fixture
def pointer() -> TimePointer:
    pointer = TimePointer(FIRST_IDS)
    with torch.no_grad():
        pointer.weight.copy_(torch.tensor([3.0, 5.0, 2.0]))
    return pointer


def pointed(seconds: list[float], looks: list[float], ids: list[int], weights: list[float]):
    """The slow twin, word by word: what is added to the logits before kinds are set right."""
    words = timestamp_words(torch.tensor(seconds, dtype=torch.float64)).tolist()
    added = torch.zeros(len(ids), VOCABULARY)
    for i, token in enumerate(ids):
        is_pair = FIRST_IDS[1] <= token < FIRST_IDS[1] + 100
        for look, (first, second, third, tenth) in zip(looks, words, strict=True):
            pair = third if is_pair else second
            added[i, FIRST_IDS[0] + first] += weights[0] * look
            if pair != NONE:
                added[i, FIRST_IDS[1] + pair] += weights[1] * look
            added[i, FIRST_IDS[2] + tenth] += weights[2] * look
    return added


@torch.inference_mode()
def test_words_that_are_looked_at_are_raised_and_kinds_keep_their_probability(pointer):
    seconds, looks = [7.5, 312.0, 45_678.9], [0.5, 0.3, 0.2]
    ids = [0, FIRST_IDS[0] + 4, FIRST_IDS[1] + 56, FIRST_IDS[2] + 1]
    logits = torch.randn(1, len(ids), VOCABULARY)
    words = timestamp_words(torch.tensor(seconds, dtype=torch.float64))[None].to(torch.uint8)
    attention = torch.tensor(looks).expand(1, len(ids), -1)
    found = pointer(logits, torch.tensor([ids]), attention, words)
    raised = logits + pointed(seconds, looks, ids, pointer.weight.tolist())
    for first, size in zip(FIRST_IDS, KIND_SIZES, strict=True):
        kind = slice(first, first + size)
        torch.testing.assert_close(
            found[..., kind].logsumexp(dim=-1), logits[..., kind].logsumexp(dim=-1)
        )
        torch.testing.assert_close(
            found[..., kind].softmax(dim=-1), raised[..., kind].softmax(dim=-1)
        )
        raised[..., kind] = found[..., kind]
    torch.testing.assert_close(found, raised)  # no other word has changed


@torch.inference_mode()
def test_without_weight_nothing_changes(pointer):
    pointer.weight.zero_()
    logits = torch.randn(2, 3, VOCABULARY)
    words = timestamp_words(torch.tensor([1.0, 250.0])).expand(2, -1, -1)
    looks = torch.rand(2, 3, 2)
    ids = torch.randint(VOCABULARY, (2, 3))
    torch.testing.assert_close(pointer(logits, ids, looks, words), logits)


@torch.inference_mode()
def test_weights_are_softmax_over_what_counts():
    mixer = tiny_vlm().model.llm.backbone.layers[4].mixer
    x, keys = torch.randn(2, 3, 32), torch.randn(2, 5, mixer.num_kv_heads, mixer.head_dim)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    weights = attention_weights(mixer, x, keys, valid)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3))
    assert not weights[1, :, 2:].any()
    alone = attention_weights(mixer, x[1:], keys[1:, :2], valid[1:, :2])
    torch.testing.assert_close(weights[1:, :, :2], alone)
    assert not attention_weights(mixer, x, keys, torch.zeros_like(valid)).any()


def test_frames_and_the_text_before_them_are_marked_with_their_time():
    model = tiny_vlm().model
    frame = model.config.frame_token_id
    seconds = torch.tensor([2.0, 312.5, 4.0])
    rows = torch.tensor([[9, frame, frame, 8, 9, frame, frame], [7, frame, frame, 0, 0, 0, 0]])
    marks = model.time_marks(rows, seconds)
    words = timestamp_words(seconds).to(torch.uint8)
    assert torch.equal(marks[0], words[[0, 0, 0, 1, 1, 1, 1]])
    assert torch.equal(marks[1, :3], words[[2, 2, 2]])


def test_a_model_that_cannot_point_is_refused():
    with pytest.raises(ModelError, match="must be three"):
        tiny_config(timestamp_token_ids=[1, 2])
    mamba_only = {**tiny_config().llm_config, "pattern": "M-M-", "transv": ()}
    with pytest.raises(ModelError, match="with attention; give None"):
        tiny_config(llm_config=mamba_only)
