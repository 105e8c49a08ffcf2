"""The embedded model begins from nothing, or from what a training wrote."""

import re

import pytest
import torch

from tests.helpers import save_tiny, tiny_model, tiny_processor
from timevlm.errors import ModelError
from timevlm.llm import TransV
from timevlm.loading import load_model
from timevlm.training.kinds import BASIC, named_token_ids
from timevlm.training.nano import (
    TEXT_LAYERS,
    TRACK_LAYERS,
    build_config,
    build_nano,
    build_processor,
    export_nano,
)


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


def test_a_model_keeps_what_it_knows_when_it_learns_more_words(tmp_path):
    save_tiny(tmp_path / "basic")
    model, processor = build_nano(tmp_path / "basic", "full")
    assert processor.tokens_per_frame == tiny_processor().tokens_per_frame
    assert model.config.grounds_absence
    assert len(processor.tokenizer) <= model.config.llm.vocab_size
    old, new = tiny_processor().tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    assert len(new) > len(old)
    tables = ("llm.backbone.embeddings.weight", "llm.lm_head.weight")
    llm = tiny_model().config.llm
    kept = list(range(model.config.llm.num_layers - len(TEXT_LAYERS)))
    del kept[llm.split_layer : llm.split_layer + len(TRACK_LAYERS)]
    assert len(kept) == llm.num_layers
    layers = {f"backbone.layers.{old}.": f"backbone.layers.{new}." for old, new in enumerate(kept)}
    expected = {}
    for name, tensor in tiny_model().state_dict().items():
        old_layer = re.search(r"backbone\.layers\.\d+\.", name)
        own = old_layer and name.replace(old_layer[0], layers[old_layer[0]])
        expected[own or name] = tensor
    new_layers = (i for i in range(model.config.llm.num_layers) if i not in kept)
    told = ("picture.", "comparing.", "lengths.", "shifts.", "clauses.", "scenes.")
    added = (*told, *(f"llm.backbone.layers.{i}." for i in new_layers))
    for name, tensor in model.state_dict().items():
        if name not in tables:
            is_new = name not in expected
            assert name.startswith(added) if is_new else torch.equal(tensor, expected[name]), name
            continue
        for token, row in old.items():
            assert torch.equal(tensor[new[token]], expected[name][row]), token
        unseen = [new[token] for token in new.keys() - old.keys()]
        assert (tensor[unseen].norm(dim=1) > 0).all()
    text = "What colour is the ring?"
    assert processor.decode(processor.prompt_ids(text)) == text
    export_nano(model, processor, tmp_path / "full")
    loaded, _ = load_model(tmp_path / "full", dtype=torch.float32)
    assert loaded.config.llm.vocab_size == model.config.llm.vocab_size
    with pytest.raises(ModelError, match="level basic has not"):
        build_nano(tmp_path / "full")


def test_a_model_that_was_not_told_times_is_told_them_when_trained_further(tmp_path):
    older = tiny_model(time_embedding=False, timestamp_token_ids=None, named_token_ids=None)
    older.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    model, processor = build_nano(tmp_path)
    assert model.config.time_embedding
    for name, tensor in older.state_dict().items():
        if name.startswith(("vision.", "projector.", "llm.backbone.layers.")):
            assert torch.equal(model.state_dict()[name], tensor), name
    assert (model.times.weight.norm(dim=0) > 0).all()
    first_ids = ["<0", "00", ".0s>"]
    assert processor.tokenizer.convert_ids_to_tokens(model.pointer.first_ids) == first_ids
    assert model.config.named_token_ids == named_token_ids(processor, BASIC)
    assert not model.order.weight.any()  # it begins with what the older one answers


def test_level_full_follows_objects_and_compares_in_layers_of_its_own(tmp_path):
    torch.manual_seed(3)
    basic, _ = build_nano()
    fresh, processor = build_nano(level="full")
    pattern, at = basic.config.llm.pattern, basic.config.llm.split_layer
    with_tracks = pattern[:at] + TRACK_LAYERS + pattern[at:]
    assert fresh.config.llm.pattern == with_tracks + TEXT_LAYERS
    assert fresh.config.llm.split_layer == at + len(TRACK_LAYERS)
    assert fresh.config.llm.transv[-1] == TransV(
        layer=with_tracks.rindex("*") + 1, keep=0.0, transfer=False
    )
    export_nano(fresh, processor, tmp_path / "export")
    again, _ = build_nano(tmp_path / "export", "full")
    assert again.config.llm == fresh.config.llm
    export_nano(basic, build_processor(), tmp_path / "basic")
    grown, _ = build_nano(tmp_path / "basic", "full")
    x = torch.randn(1, 3, 128)
    layers = list(grown.llm.backbone.layers)
    new = [layers.pop(at) for _ in TRACK_LAYERS] + layers[len(pattern) :]
    for layer in new:
        assert torch.equal(layer(x, None, None)[0], x)  # nothing is added before it is taught
    for layer, own in zip(layers, basic.llm.backbone.layers, strict=False):
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[name], tensor.half().float())


@pytest.mark.parametrize("level", ["basic", "full"])
def test_training_further_brings_todays_order_of_tokens(level, tmp_path):
    save_tiny(tmp_path)
    model, processor = build_nano(tmp_path, level)
    assert not tiny_model().config.interlaced_order
    assert model.config.interlaced_order
    assert processor.even_timestamps
    export_nano(model, processor, tmp_path / "export")
    loaded, again = load_model(tmp_path / "export", dtype=torch.float32)
    assert loaded.config.interlaced_order
    assert again.even_timestamps


def test_a_start_must_be_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        build_nano(tmp_path)


def test_answers_begin_with_the_words_that_are_raised():
    processor = build_processor("full")
    config = build_config(processor, "full")
    for answer, index in (("left of it", 0), ("below it", 3)):
        assert processor.answer_ids(answer)[0] == config.side_token_ids[index]
    for number, answer in ((1, "one second"), (12, "twelve seconds")):
        assert processor.answer_ids(answer)[0] == config.number_token_ids[number]
    named = config.named_token_ids
    assert [i in named for i in processor.answer_ids("the red star")[:3]] == [False, True, True]
