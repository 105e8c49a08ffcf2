"""One monolithic pass against watch-then-ask, generation, and the transformers interface."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from tests.helpers import (
    ATTENTION,
    UNIFORM,
    frames,
    random_pixels,
    save_tiny,
    tiny_model,
    tiny_processor,
)
from timevlm.configuration import TimeVLMConfig
from timevlm.errors import InputError, ModelError
from timevlm.memory import MemoryBuilder
from timevlm.model import IGNORE_INDEX, TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor

QUESTIONS = ["What colour is the circle?", "How many red shapes appear in the first scene?", "Why?"]
COUNTS = [4, 1, 3]
TRANSV = {
    "none": (),
    "uniform": (UNIFORM,),
    "uniform-and-attention": (UNIFORM, ATTENTION),
    "dropping": ({**UNIFORM, "transfer": False}, ATTENTION),
}


@pytest.fixture(params=TRANSV)
def model(request) -> TimeVLMForConditionalGeneration:
    return tiny_model(TRANSV[request.param])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


def model_inputs(questions: list[str], videos: list[Tensor]) -> dict[str, Tensor]:
    """What the processor makes of videos at one frame a second."""
    seconds = [[float(t) for t in range(len(video))] for video in videos]
    return dict(tiny_processor()(questions, videos=videos, seconds=seconds))


def one_row(row: int) -> dict[str, Tensor]:
    return model_inputs([QUESTIONS[row]], [random_pixels(COUNTS[row], row)])


def batch() -> dict[str, Tensor]:
    """Three videos and questions of different length, as the processor pads them."""
    return model_inputs(QUESTIONS, [random_pixels(n, seed) for seed, n in enumerate(COUNTS)])


def left_padded(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same rows with their padding in front, as `generate` wants them."""
    ids, mask = inputs["input_ids"].clone(), inputs["attention_mask"].clone()
    for row in range(len(ids)):
        pad = int((mask[row] == 0).sum())
        ids[row], mask[row] = ids[row].roll(pad), mask[row].roll(pad)
    return {**inputs, "input_ids": ids, "attention_mask": mask}


def streamed(model: TimeVLMForConditionalGeneration, row: int, batch_size: int) -> Tensor:
    """Logits (T, V) of a question after its video was watched in batches."""
    processor = tiny_processor()
    stream = frames(COUNTS[row], seed=row, batch_size=batch_size)
    builder = MemoryBuilder(model, processor, stream.planned_seconds)
    for part in stream:
        builder.add(part)
    state, _, _ = builder.finish()
    ids = torch.tensor([processor.prompt_ids(QUESTIONS[row])])
    return model(input_ids=ids, state=state).logits[0]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@torch.inference_mode()
def test_watch_and_ask_equal_one_monolithic_pass(model, batch_size):
    inputs = batch()
    logits = model(**inputs).logits
    for row in range(3):
        expected = streamed(model, row, batch_size)
        found = logits[row, : len(expected)]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_left_padding_moves_the_logits_and_nothing_else(model):
    inputs = batch()
    right = model(**inputs).logits
    left = model(**left_padded(inputs)).logits
    for row, question in enumerate(QUESTIONS):
        length = len(tiny_processor().prompt_ids(question))
        torch.testing.assert_close(left[row, -length:], right[row, :length], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_video_changes_the_answer(model):
    inputs = batch()
    before = model(**inputs).logits
    pixels = inputs["pixel_values_videos"].clone()
    pixels[-1] = 255 - pixels[-1]  # the last frame of the last video
    after = model(**{**inputs, "pixel_values_videos": pixels}).logits
    assert torch.equal(after[:2], before[:2])
    assert float((after[2] - before[2]).abs().max()) > 1e-3


@torch.inference_mode()
def test_a_question_without_a_video(model):
    inputs = tiny_processor()(QUESTIONS[0])
    state = model.llm.init_state(torch.tensor([0]))
    prefix = torch.tensor([tiny_processor().prefix_ids()])
    state = model.llm.read_prefix(model.llm.embed(prefix), state)
    ids = torch.tensor([tiny_processor().prompt_ids(QUESTIONS[0])])
    expected = model(input_ids=ids, state=state).logits
    torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def with_answers(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each row with an answer behind its question, and labels on the answer alone."""
    processor = tiny_processor()
    answers = [processor.answer_ids(text) for text in ("red", "the blue star", "two")]
    rows, labels = [], []
    for ids, mask, answer in zip(
        inputs["input_ids"], inputs["attention_mask"], answers, strict=True
    ):
        question = ids[mask.bool()].tolist()
        rows.append(question + answer)
        labels.append([IGNORE_INDEX] * len(question) + answer)
    longest = max(map(len, rows))
    pads = [longest - len(row) for row in rows]

    def padded(values: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([v + [fill] * n for v, n in zip(values, pads, strict=True)])

    return {
        **inputs,
        "input_ids": padded(rows, processor.pad_token_id),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        "labels": padded(labels, IGNORE_INDEX),
    }


def test_loss_is_the_cross_entropy_of_the_answers(model):
    inputs = with_answers(batch())
    loss = model(**inputs).loss
    terms = []
    for row in range(3):
        labels = inputs["labels"][row]
        answer = labels[labels != IGNORE_INDEX]
        state_logits = one_row_logits(model, row, answer)
        terms.append(F.cross_entropy(state_logits, answer, reduction="none"))
    torch.testing.assert_close(loss, torch.cat(terms).mean(), atol=1e-5, rtol=1e-5)
    loss.backward()
    assert model.projector[0].weight.grad.abs().max() > 0
    assert model.vision.tower.embeddings.patch_embedding.weight.grad.abs().max() > 0


@torch.no_grad()
def one_row_logits(model: TimeVLMForConditionalGeneration, row: int, answer: Tensor) -> Tensor:
    """Logits (len(answer), V) that predict the answer, its question read on its own first."""
    out = model(**one_row(row))
    rest = model(input_ids=answer[None, :-1], state=out.state)
    return torch.cat([out.logits[0, -1:], rest.logits[0]])


@torch.inference_mode()
def test_loss_does_not_depend_on_the_side_of_the_padding(model):
    inputs = with_answers(batch())
    moved = left_padded(inputs)
    labels = inputs["labels"].clone()
    for row in range(len(labels)):
        pad = int((inputs["attention_mask"][row] == 0).sum())
        labels[row] = labels[row].roll(pad)
    right, left = model(**inputs), model(**{**moved, "labels": labels})
    torch.testing.assert_close(left.loss, right.loss, atol=1e-6, rtol=1e-6)


def step_by_step(model: TimeVLMForConditionalGeneration, row: int, count: int) -> list[int]:
    """Greedy tokens by hand."""
    out = model(**one_row(row))
    tokens = []
    for _ in range(count):
        tokens.append(int(out.logits[0, -1].argmax()))
        out = model(input_ids=torch.tensor([[tokens[-1]]]), state=out.state)
    return tokens


@torch.inference_mode()
def test_generate_is_greedy_steps_in_a_padded_batch(model):
    inputs = left_padded(batch())
    length = inputs["input_ids"].shape[1]
    found = model.generate(**inputs, do_sample=False, max_new_tokens=6, eos_token_id=-1)
    for row in range(3):
        assert found[row, length:].tolist() == step_by_step(model, row, 6)


@torch.inference_mode()
def test_generate_goes_on_from_an_output_that_was_looked_at(model):
    inputs = one_row(0)
    settings = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": -1}
    without = model.generate(**inputs, **settings)
    prompt = model(**inputs)
    ids = inputs["input_ids"]
    mask = inputs["attention_mask"]
    again = [
        model.generate(input_ids=ids, attention_mask=mask, prompt_output=prompt, **settings)
        for _ in range(2)
    ]
    assert torch.equal(again[0], without)
    assert torch.equal(again[1], without)


@torch.inference_mode()
def test_generate_goes_on_from_a_watched_video(model):
    stream = frames(COUNTS[0])
    builder = MemoryBuilder(model, tiny_processor(), stream.planned_seconds)
    for part in stream:
        builder.add(part)
    state, _, _ = builder.finish()
    ids = torch.tensor([tiny_processor().prompt_ids(QUESTIONS[0])])
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        state=state,
        do_sample=False,
        max_new_tokens=6,
        eos_token_id=-1,
    )
    assert found[0, ids.shape[1] :].tolist() == step_by_step(model, 0, 6)


@pytest.mark.parametrize("frames_given", [3, 5, 0])
def test_text_and_frames_must_agree(frames_given):
    model = tiny_model()
    inputs = model_inputs(["Why?"], [random_pixels(4)])
    inputs["pixel_values_videos"] = random_pixels(frames_given)
    inputs["frame_seconds"] = torch.arange(frames_given)
    given = frames_given * 2
    with pytest.raises(
        InputError, match=f"places for 8 vision tokens, but the frames give {given}"
    ):
        model(**inputs)


def test_a_row_must_end_with_text():
    model, processor = tiny_model(), tiny_processor()
    ids = torch.tensor([[*processor.prefix_ids(), *processor.video_ids([0.0])[0]]])
    with pytest.raises(InputError, match="no text after its video"):
        model(input_ids=ids, pixel_values_videos=random_pixels(1), frame_seconds=torch.zeros(1))


def test_auto_classes_find_the_saved_model(saved):
    assert isinstance(AutoConfig.from_pretrained(saved), TimeVLMConfig)
    assert isinstance(AutoProcessor.from_pretrained(saved), TimeVLMProcessor)
    model = AutoModelForImageTextToText.from_pretrained(saved)
    assert isinstance(model, TimeVLMForConditionalGeneration)
    with torch.inference_mode():
        assert torch.equal(model.eval()(**batch()).logits, tiny_model()(**batch()).logits)


def test_saving_round_trips_bit_by_bit(saved, tmp_path):
    first = TimeVLMForConditionalGeneration.from_pretrained(saved)
    for name, tensor in tiny_model().state_dict().items():
        assert torch.equal(first.state_dict()[name], tensor), name
    assert first.config.to_dict()["llm_config"] == tiny_model().config.to_dict()["llm_config"]
    first.save_pretrained(tmp_path)
    weights = [folder / "model.safetensors" for folder in (saved, tmp_path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_nothing_saved_is_a_pickle(saved):
    suffixes = {path.suffix for path in saved.iterdir()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    assert json.loads((saved / "config.json").read_text())["model_type"] == "timevlm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choice_style": "number"}, "'number' is unknown; use text or letter"),
        ({"tokens_per_frame": 0}, "tokens_per_frame 0"),
        ({"default_fps": 0.0}, "default_fps 0.0"),
    ],
)
def test_configuration_refuses(changes, message):
    with pytest.raises(ModelError, match=message):
        TimeVLMConfig(**changes)


def test_a_model_needs_the_sizes_of_its_llm():
    with pytest.raises(ModelError, match="has no llm_config"):
        _ = TimeVLMConfig().llm
