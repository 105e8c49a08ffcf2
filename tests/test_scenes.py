"""How long scenes last and how many lie between things, by the scenes of vision tokens."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import check_answer_rests_on, tiny_config, tiny_model, tiny_processor
from timevlm.errors import ModelError
from timevlm.llm.attention import Looks
from timevlm.pointer import asked_words
from timevlm.scenes import ScenePointer, Scenes, seconds_around
from timevlm.training.kinds import FULL
from timevlm.training.nano import build_config, build_processor
from timevlm.vision.times import timestamp_words

ORDINALS, NUMBERS, NAMED = [5, 6, 7], [20, 21, 22, 23], [11, 12, 30]
HIDDEN_SIZE, VOCABULARY = 8, 40
SECONDS = [3.0, 3.0, 4.0, 6.0, 6.0, 10.0, 15.0]
SCENES = [0, 0, 0, 1, 3, 1, 2]  # of each token; 3: none
LATE_CLOCK = 30_000.0


@pytest.fixture
def pointer() -> ScenePointer:
    """Reads the scene from which of four values is the largest."""
    pointer = ScenePointer(ORDINALS, NUMBERS, 4, HIDDEN_SIZE)
    with torch.no_grad():
        pointer.read.weight.copy_(20.0 * torch.eye(4))
        pointer.read.bias.zero_()
        pointer.length_weight[0] = pointer.count_weight[1] = 1.0
    return pointer


def marks_of(seconds: list[float], padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    words = timestamp_words(torch.tensor(seconds, dtype=torch.float64) + LATE_CLOCK)[None]
    return F.pad(words, (0, 0, 0, padding)), torch.tensor([len(seconds)])


def test_times_stand_for_the_time_around_them():
    marks, count = marks_of(SECONDS, padding=2)
    expected = [0.0, 0.5, 1.5, 1.0, 2.0, 4.5, 2.5, 0.0, 0.0]
    torch.testing.assert_close(seconds_around(marks, count)[0], torch.tensor(expected))
    assert sum(expected) == SECONDS[-1] - SECONDS[0]


@torch.inference_mode()
@pytest.mark.parametrize("padding", [0, 3])
def test_scenes_are_measured_and_counted(pointer, padding):
    """The first scene lasts 2 s, the second 5.5 s, the third 2.5 s, and no scene 2 s."""
    values = F.pad(F.one_hot(torch.tensor(SCENES), 4).float(), (0, 0, 0, padding))[None]
    ids = torch.tensor([[11, 3, 30, 4, 12]])
    asks = torch.tensor([[True, True, True, True, False]])
    looks = torch.zeros(1, 5, len(SECONDS) + padding)
    looks[0, 0, 2] = 1.0  # the first named thing is in the first scene
    looks[0, 2, 6] = 1.0  # the last one in the third
    stands = asked_words(ids, NAMED, asks)
    looks = Looks(looks, torch.zeros(1, 5), values)
    found = pointer.watch(stands, looks, marks_of(SECONDS, padding))
    logs = [math.log(length) for length in (2.0, 5.5, 2.5)]
    expected = [each - sum(logs) / 3 for each in logs]
    torch.testing.assert_close(found.longer[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert float(found.between) == pytest.approx(1.0, abs=1e-3)


@torch.inference_mode()
def test_scenes_that_there_are_not_are_not_compared(pointer):
    values = F.one_hot(torch.tensor([0, 0, 2]), 4).float()[None]
    looks = Looks(torch.rand(1, 2, 3), torch.zeros(1, 2), values)
    none_named = torch.zeros(1, len(NAMED), dtype=torch.long)
    found = pointer.watch(none_named, looks, marks_of([0.0, 4.0, 6.0]))
    half = math.log(5.0) / 2
    torch.testing.assert_close(found.longer, torch.tensor([[half, 0.0, -half]]), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_words_of_longer_scenes_and_of_the_count_are_raised(pointer):
    scenes = Scenes(torch.tensor([[-0.5, 0.7, -0.2]]), torch.tensor([2.1]))
    logits, hidden = torch.zeros(1, 2, VOCABULARY), torch.zeros(1, 2, HIDDEN_SIZE)
    hidden[0, 0, 0], hidden[0, 1, 1] = 0.1, 0.1
    found = pointer(logits, hidden, scenes)[0]
    assert found[0, ORDINALS].argsort(descending=True).tolist() == [1, 2, 0]
    assert found[1, NUMBERS].argsort(descending=True).tolist() == [2, 3, 1, 0]
    torch.testing.assert_close(found[0, NUMBERS], torch.zeros(len(NUMBERS)))
    for words in (ORDINALS, NUMBERS):
        total = math.log(len(words))
        torch.testing.assert_close(found[:, words].logsumexp(dim=1), torch.full((2,), total))
    shortest = pointer(logits, -hidden, scenes)[0]
    assert shortest[0, ORDINALS].argmax() == 0


@torch.inference_mode()
def test_an_answer_knows_what_its_question_was_told_of_scenes():
    processor = tiny_processor()
    words = [processor.answer_ids(f"a {word}")[1] for word in ("red", "blue", "star", "ring")]
    model = tiny_model(ordinal_token_ids=words[:2], number_token_ids=words)
    model.scenes.length_weight.normal_(std=0.1)
    model.scenes.count_weight.normal_(std=0.1)
    asked = "How many scenes lie between the red circle and the blue star?", "one"
    state = check_answer_rests_on(model.scenes.count_weight, model, *asked)
    assert state.longer.shape == (1, 2)


def test_scenes_are_counted_between_named_things():
    for without in ({"number_token_ids": None}, {"named_token_ids": None}):
        settings = {"ordinal_token_ids": [1, 2], "number_token_ids": [3, 4], **without}
        with pytest.raises(ModelError, match="ordinal_token_ids"):
            tiny_config(**settings)


def test_ordinals_are_the_words_of_sentences():
    processor = build_processor("full")
    ids = build_config(processor, "full").ordinal_token_ids
    answer = processor.answer_ids("the third scene")
    assert [ids.index(token) for token in answer if token in ids] == [2]
    assert len(ids) == FULL.lessons["scene"] - 1
