"""Options of a model: the same weights with another compression."""

from pathlib import Path

import pytest

from eval.models import ModelSettings, load_model
from eval.models.timevlm_model import with_options
from tests.eval.test_models import FOUR, PROMPT, question
from tests.helpers import (
    ATTENTION,
    UNIFORM,
    frames,
    save_tiny,
    tiny_config,
    tiny_processor,
    tiny_vlm,
    write_mp4,
)
from timevlm import TimeVLM
from timevlm.errors import TimeVLMError
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor


def test_compression_options_change_the_model() -> None:
    start = tiny_vlm()
    vlms = [
        with_options(start, options)
        for options in (
            {},
            {"transv": "off"},
            {"transv": "drop"},
            {"transv.1.transfer": False},
            {"transv.0.transfer": False},
            {"transv.1.keep": 0.1},
            {"tokens_per_frame": 1},
            {"transv": [{"layer": 1, "keep": 0.5, "rule": "uniform", "transfer": False}]},
        )
    ]
    assert len({vlm.fingerprint for vlm in vlms}) == 8
    for vlm in vlms:
        memory = vlm.watch(frames(4))
        assert vlm.ask(memory, "What color is it?", choices=["red", "green"]).choice in (0, 1)


def test_compression_options_name_the_run(tmp_path: Path) -> None:
    options = (("transv", "drop"),)
    folder, video = save_tiny(tmp_path / "tiny"), write_mp4(tmp_path / "v.mp4", 32)
    model = load_model(ModelSettings(name=str(folder), options=options))
    assert model.gen_kwargs["options"] == {"transv": "drop"}
    with model.open(video, FOUR) as session:
        assert session.answer(question(), PROMPT).choice in (0, 1, 2)


def test_options_that_restate_the_model_change_nothing() -> None:
    vlm = tiny_vlm()
    same = with_options(vlm, {"tokens_per_frame": 2, "transv.0.keep": 0.5})
    assert same.fingerprint == vlm.fingerprint
    assert same.processor.video_ids([0.5, 1.5]) == vlm.processor.video_ids([0.5, 1.5])
    even = TimeVLMProcessor(vlm.processor.tokenizer, tokens_per_frame=2, even_timestamps=True)
    again = with_options(TimeVLM(vlm.model, even, "even"), {"transv": "drop"})
    assert again.processor.video_ids([0.5, 1.5]) == even.video_ids([0.5, 1.5])


def test_text_goes_on_alone_without_compression_too() -> None:
    alone = {"layer": 5, "keep": 0.0, "transfer": False}
    model = TimeVLMForConditionalGeneration(tiny_config((UNIFORM, ATTENTION, alone)))
    vlm = TimeVLM(model.eval(), tiny_processor(), "tiny")
    off = with_options(vlm, {"transv": "off"})
    assert off.model.config.llm.transv == model.config.llm.transv[2:]
    memory = off.watch(frames(4))
    assert off.ask(memory, "What color is it?", choices=["red", "green"]).choice in (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "unknown model option 'colour'"),
        ({"transv": "maybe"}, "write on, off, drop"),
        ({"transv.5.keep": 0.5}, "there are 2 compressions"),
        ({"transv": [{"layer": 1, "keep": 0.5}] * 3}, "not trained with a transfer|strictly"),
        ({"transv.0.keep": 1.5}, "outside"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(TimeVLMError, match=message):
        with_options(tiny_vlm(), options)
