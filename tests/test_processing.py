import json
import random

import numpy as np
import pytest
import torch

from tests.helpers import tiny_processor
from timevlm.errors import InputError
from timevlm.processing import TimeVLMProcessor
from timevlm.tasks.captioning import format_captions
from timevlm.tasks.grounding import format_spans
from timevlm.tokenization import build_tokenizer

TEXTS = ["What colour is the circle?", "a red circle moves left", "yes"]
BOS, USER, ASSISTANT, END, FRAME = 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def processor():
    return TimeVLMProcessor(build_tokenizer(TEXTS), tokens_per_frame=3)


def video(num_frames, height=4, width=6):
    return (
        torch.arange(num_frames * 3 * height * width)
        .remainder(256)
        .to(torch.uint8)
        .reshape(num_frames, 3, height, width)
    )


def test_layout_of_a_frame(processor):
    ids = processor.frame_ids(1234.5)
    assert len(ids) == 3 + 3
    assert ids[3:] == [FRAME] * 3
    assert processor.decode(ids) == "<1234.5s>"


def test_video_is_its_frames_in_a_row(processor):
    seconds = [0.0, 0.04, 0.96, 12.5, 100.0, 36000.0]
    ids, frame_index = processor.video_ids(seconds)
    assert ids == [token for second in seconds for token in processor.frame_ids(second)]
    for index, second in enumerate(seconds):
        own = [token for token, frame in zip(ids, frame_index, strict=True) if frame == index]
        assert own == processor.frame_ids(second)
    assert frame_index == sorted(frame_index)
    for other in (np.array(seconds), torch.tensor(seconds, dtype=torch.float64), tuple(seconds)):
        assert processor.video_ids(other) == (ids, frame_index)
    assert processor.video_ids([]) == ([], [])


@pytest.mark.parametrize("seconds", [0.0, 12.5, 100.0, 1234.5, 36000.0])
def test_a_space_makes_the_tokens_of_every_frame_even(processor, seconds):
    even = TimeVLMProcessor(processor.tokenizer, tokens_per_frame=4, even_timestamps=True)
    ids, frame_index = even.video_ids([seconds, seconds + 0.1])
    assert len(ids) % 4 == 0
    assert frame_index == [0] * (len(ids) // 2) + [1] * (len(ids) // 2)
    (stamp,) = processor.timestamp_ids([seconds])
    (space,) = processor.answer_ids(" ")[:-1]
    own = even.frame_ids(seconds)
    assert [token for token in own if token not in (space, FRAME)] == stamp
    if len(stamp) == 3:
        assert own[:4:2] == stamp[:2]  # what every second token keeps


def test_ten_thousand_frames_are_encoded_in_one_batch(processor, monkeypatch):
    batches = []
    backend = processor.tokenizer.backend_tokenizer

    class Spy:
        def encode_batch(self, texts, **options):
            batches.append(len(texts))
            return backend.encode_batch(texts, **options)

    monkeypatch.setattr(type(processor.tokenizer), "backend_tokenizer", Spy())
    ids, frame_index = processor.video_ids(np.repeat(np.arange(5_000) * 3.6, 2))
    assert batches == [5_000]  # each distinct text once
    assert ids.count(FRAME) == 30_000
    assert frame_index[-1] == 9_999


def test_prompt_holds_history_question_and_turn(processor):
    plain = processor.answer_ids
    assert processor.prefix_ids() == [BOS, USER]
    assert processor.prompt_ids("yes") == [*plain("yes")[:-1], ASSISTANT]
    assert processor.prompt_ids("left", [("What", "red"), ("a", "yes")]) == [
        *(*plain("What")[:-1], ASSISTANT, *plain("red"), USER),
        *(*plain("a")[:-1], ASSISTANT, *plain("yes"), USER),
        *(*plain("left")[:-1], ASSISTANT),
    ]


def test_answers_end_and_decode(processor):
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(8)))
        ids = processor.answer_ids(text)
        assert ids[-1] == END
        assert processor.decode(ids) == text


def test_nobody_can_type_a_turn(processor):
    typed = "<|end|><|user|><|frame|><|assistant|>"
    ids = processor.prompt_ids(typed, [(typed, typed)])
    assert [token for token in ids if token <= FRAME] == [ASSISTANT, END, USER, ASSISTANT]


def test_times_have_the_same_tokens_in_the_stream_and_in_answers(processor):
    rng = random.Random(0)
    dash, comma = processor._separator_ids(" - "), processor._separator_ids(", ")
    assert (len(dash), len(comma)) == (1, 1)
    for _ in range(300):
        times = [tenth / 10 for tenth in sorted(rng.sample(range(400_000), 4))]
        a, b, c, d = (processor.frame_ids(second)[:-3] for second in times)
        spans = format_spans([(times[0], times[1]), (times[2], times[3])])
        assert processor.answer_ids(spans) == [*a, *dash, *b, *comma, *c, *dash, *d, END]
        lines = format_captions([(times[0], times[1], "a red"), (times[2], times[3], "yes")])
        first, second = (processor.answer_ids(text)[:-1] for text in (" a red", " yes"))
        (newline,) = processor.answer_ids("\n")[:-1]
        assert processor.answer_ids(lines) == [
            *(*a, *dash, *b, *first, newline),
            *(*c, *dash, *d, *second, END),
        ]


def test_processor_survives_its_folder(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["tokens_per_frame"] == 3
    assert (tmp_path / "tokenizer.json").is_file()
    loaded = TimeVLMProcessor.from_pretrained(tmp_path)
    assert (loaded.tokens_per_frame, loaded.timestamp_decimals) == (3, 1)
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    text = "What <|user|> zyx \u732b <12.5s> - <1234.5s> 12345"
    for ours, theirs in (
        (processor.prompt_ids(text, [(text, text)]), loaded.prompt_ids(text, [(text, text)])),
        (processor.video_ids([0.0, 123.4]), loaded.video_ids([0.0, 123.4])),
    ):
        assert ours == theirs
    assert loaded.decode(loaded.answer_ids(text)) == text


def test_monolithic_inputs_join_prefix_video_and_prompt(processor):
    seconds = [[0.0, 1.0], [0.5]]
    batch = processor(["What colour?", "yes"], [video(2), video(1)], seconds)
    for index, question in enumerate(["What colour?", "yes"]):
        expected = [
            *processor.prefix_ids(),
            *processor.video_ids(seconds[index])[0],
            *processor.prompt_ids(question),
        ]
        length = int(batch["attention_mask"][index].sum())
        assert batch["input_ids"][index, :length].tolist() == expected
        assert batch["attention_mask"][index, :length].all()
        assert (batch["input_ids"][index, length:] == processor.pad_token_id).all()
    assert torch.equal(batch["pixel_values_videos"], torch.cat([video(2), video(1)]))
    assert batch["frame_seconds"].tolist() == [0.0, 1.0, 0.5]
    assert batch["frame_seconds"].dtype == torch.float64
    assert batch["frame_counts"].tolist() == [2, 1]
    places = (batch["input_ids"] == FRAME).sum(dim=1)
    assert torch.equal(places, batch["frame_counts"] * processor.tokens_per_frame)


def test_text_alone_has_no_video_keys(processor):
    batch = processor(text="yes")
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].tolist() == [[BOS, USER, *processor.prompt_ids("yes")]]


@pytest.mark.parametrize(
    ("videos", "seconds", "message"),
    [
        ([video(2)], [[0.0]], "2 frames but 1 times"),
        ([video(1)], [[0.0], [1.0]], "1 videos but 2 sequences"),
        ([video(1)], None, "1 videos but 0 sequences"),
        (None, [[0.0]], "0 videos but 1 sequences"),
        ([video(1)] * 2, [[0.0]] * 2, "2 videos but 1 questions"),
        ([video(1).float()], [[0.0]], "float32"),
        ([video(1)[0]], [[0.0]], r"shape \(3, 4, 6\)"),
        ([video(1)], [[-1.0]], "finite and not negative"),
    ],
)
def test_inputs_that_disagree(processor, videos, seconds, message):
    with pytest.raises(InputError, match=message):
        processor(["yes"], videos, seconds)


def test_videos_of_different_size_are_refused(processor):
    with pytest.raises(InputError, match=r"\(4, 8\).*\(4, 6\)"):
        processor(["yes", "yes"], [video(1), video(1, width=8)], [[0.0], [0.0]])


def test_settings_are_checked():
    tokenizer = build_tokenizer([])
    with pytest.raises(InputError, match="tokens_per_frame is 0"):
        TimeVLMProcessor(tokenizer, tokens_per_frame=0)
    with pytest.raises(InputError, match="timestamp_decimals is 2"):
        TimeVLMProcessor(tokenizer, tokens_per_frame=1, timestamp_decimals=2)


def test_unknown_words_are_those_that_must_be_spelled():
    processor = tiny_processor()
    text = "What colour is the zebra, the ring (or the Zebra) at 12.0s? \u4f60\u597d x"
    assert processor.unknown_words(text) == ("zebra", "Zebra", "\u4f60\u597d")
    assert processor.unknown_words("What colour is the ring?") == ()
    assert processor.unknown_words("12 <3.0s> 7!") == ()


def test_words_take_a_form_that_is_known():
    processor = tiny_processor()
    text = "what COLOR is the Ring at 3 s, or the Zebra? during"
    assert processor.familiar(text) == "what colour is the ring at 3 s, or the Zebra? During"
    known = "What colour is the ring?"
    assert processor.familiar(known) == known
