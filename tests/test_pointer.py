"""Times that are copied from the frames looked at, and orders that follow from when that was."""

import pytest
import torch

from tests.helpers import (
    check_answer_rests_on,
    random_pixels,
    tiny_config,
    tiny_model,
    tiny_processor,
    tiny_vlm,
)
from timevlm.errors import ModelError
from timevlm.llm.attention import attention_looks
from timevlm.pointer import (
    GAIN,
    KIND_SIZES,
    NEAR,
    OrderPointer,
    TimePointer,
    asked_words,
    asking_tokens,
    more_than_others,
    when_seen,
)
from timevlm.vision.times import NONE, timestamp_words, written_seconds

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
def test_looks_are_softmax_over_what_counts():
    mixer = tiny_vlm().model.llm.backbone.layers[4].mixer
    x, keys = torch.randn(2, 3, 32), torch.randn(2, 5, 2, mixer.num_kv_heads, mixer.head_dim)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    shares, matches, values = attention_looks(mixer, x, keys, valid)
    assert torch.equal(values, keys[:, :, 1].flatten(2))
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(2, 3))
    assert not shares[1, :, 2:].any()
    alone = attention_looks(mixer, x[1:], keys[1:, :2], valid[1:, :2])
    torch.testing.assert_close(shares[1:, :, :2], alone.shares)
    torch.testing.assert_close(matches[1:], alone.matches)
    # A key that fits twice as well matches twice as well.
    better = attention_looks(mixer, 2 * x, keys, valid).matches
    torch.testing.assert_close(better, 2 * matches)
    nothing = attention_looks(mixer, x, keys, torch.zeros_like(valid))
    assert not nothing.shares.any()
    assert not nothing.matches.any()


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
    with pytest.raises(ModelError, match="need timestamp_token_ids"):
        tiny_config(timestamp_token_ids=None)
    mamba_only = {**tiny_config().llm_config, "pattern": "M-M-", "transv": ()}
    with pytest.raises(ModelError, match="with attention; give None"):
        tiny_config(llm_config=mamba_only)


def test_written_times_are_read_back():
    seconds = torch.tensor([0.0, 7.5, 99.9, 100.0, 312.2, 10_000.0, 45_678.9], dtype=torch.float64)
    words = timestamp_words(seconds).to(torch.uint8)
    torch.testing.assert_close(written_seconds(words), seconds)


NAMED = [11, 7, 30]


def later(ids: list[int], looks: torch.Tensor, seconds: list[float]) -> list[float]:
    """The slow twin: of each named word, when it looked in the mean, less the mean of all words."""
    start, end = min(seconds), max(seconds)
    when = {}
    for token, row in zip(ids, looks.tolist(), strict=True):
        if token in NAMED:
            places = [(t - start) / (end - start) for t in seconds]
            when[token] = sum(w * p for w, p in zip(row, places, strict=True))
    mean = sum(when.values()) / max(1, len(when))
    return [when[token] - mean if token in when else 0.0 for token in NAMED]


@torch.inference_mode()
@pytest.mark.parametrize("ids", [[3, 7, 4, 11, 5], [7, 11, 4, 7, 5], [30, 3, 3, 3, 3], [3] * 5])
def test_lateness_is_when_the_words_of_the_question_looked(ids):
    def lateness(ids, looks, words, asks):
        when = when_seen(looks, words, torch.tensor([3]))
        return more_than_others(when[..., None], asked_words(ids, NAMED, asks)).squeeze(-1)

    seconds = [95.0, 312.5, 1000.0]
    looks = torch.rand(1, 5, 3).softmax(dim=-1)
    words = timestamp_words(torch.tensor(seconds, dtype=torch.float64))[None]
    asks = torch.ones(1, 5, dtype=torch.bool)
    found = lateness(torch.tensor([ids]), looks, words, asks)
    torch.testing.assert_close(found[0], torch.tensor(later(ids, looks[0], seconds)))
    # What is padded, or comes after the question, changes nothing.
    padded = torch.nn.functional.pad(words, (0, 0, 0, 2)), torch.nn.functional.pad(looks, (0, 2))
    longer = torch.tensor([[*ids, 11, 30]]), torch.cat([padded[1], torch.rand(1, 2, 5)], dim=1)
    asks = torch.nn.functional.pad(asks, (0, 2))
    torch.testing.assert_close(lateness(*longer, padded[0], asks), found)


@pytest.mark.parametrize(
    ("ids", "num_asked", "expected"),
    [
        ([7, 8, 9, 5], 3, [1, 1, 1, 0]),
        ([7, 2, 9, 5], 4, [0, 0, 1, 1]),  # 2 opens a turn
        ([2, 7, 2, 9, 9], 5, [0, 0, 0, 1, 1]),
        ([7, 8, 2, 9], 2, [1, 1, 0, 0]),  # after the prompt
    ],
)
def test_only_the_last_turn_asks(ids, num_asked, expected):
    asks = asking_tokens(torch.tensor([ids]), torch.tensor([num_asked]), 2)
    assert asks.long().tolist() == [expected]


@torch.inference_mode()
def test_later_things_are_raised_and_named_words_keep_their_probability():
    pointer = OrderPointer(NAMED, 8)
    pointer.weight.normal_()
    logits, hidden = torch.randn(1, 4, 40), torch.randn(1, 4, 8)
    lateness = torch.tensor([[0.3, -0.3, 0.0]])
    found = pointer(logits, hidden, lateness)
    weight = GAIN * (hidden @ pointer.weight)[..., None]
    raised = logits[..., NAMED] + weight * lateness / (lateness.abs() + NEAR)
    named = found[..., NAMED]
    torch.testing.assert_close(named.softmax(dim=-1), raised.softmax(dim=-1))
    torch.testing.assert_close(named.logsumexp(dim=-1), logits[..., NAMED].logsumexp(dim=-1))
    others = [i for i in range(40) if i not in NAMED]
    assert torch.equal(found[..., others], logits[..., others])


@torch.inference_mode()
def test_an_answer_knows_the_order_that_its_question_found():
    model = tiny_model()
    asked = "Which comes first, the red circle or the blue star?", "the blue star"
    state = check_answer_rests_on(model.order.weight, model, *asked)
    assert int((state.lateness != 0).sum()) == 4


@torch.inference_mode()
def test_what_was_asked_earlier_in_a_chat_is_not_compared():
    processor, model = tiny_processor(), tiny_model()
    video = {"pixel_values_videos": random_pixels(6), "frame_seconds": torch.arange(6.0)}
    before = [*processor.prefix_ids(), *processor.video_ids(range(6))[0]]

    def named(history) -> set[int]:
        prompt = processor.prompt_ids("Is the red circle before the star?", history)
        state = model(input_ids=torch.tensor([before + prompt]), **video).state
        return set(state.lateness[0].nonzero().squeeze(1).tolist())

    alone = named([])
    assert len(alone) == 3
    assert named([("Is the blue ring before the heart?", "yes")]) == alone
