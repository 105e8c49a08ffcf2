"""Edges between model, memory and API: moved models, damaged headers, cut captions, alignment."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers import (
    frames,
    random_pixels,
    save_tiny,
    tiny_model,
    tiny_processor,
    tiny_vlm,
)
from timevlm import api
from timevlm.api import TimeVLM
from timevlm.errors import MemoryFileError
from timevlm.llm.state import state_tensors
from timevlm.memory import VideoMemory


# 1 model.py: forward lacks `frame_seconds`, which the processor returns
@torch.inference_mode()
def test_the_model_takes_what_the_processor_gives():
    inputs = tiny_processor()("Why?", videos=[random_pixels(2)], seconds=[[0.0, 1.0]])
    model = tiny_model()
    assert model(**inputs).logits.shape[0] == 1
    assert model.generate(**inputs, do_sample=False, max_new_tokens=2).shape[0] == 1


# 2 memory.py: fingerprint includes _name_or_path, architectures
def test_fingerprint_does_not_depend_on_where_the_model_lies(tmp_path):
    save_tiny(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a = TimeVLM.from_pretrained(tmp_path / "a", device="cpu")
    b = TimeVLM.from_pretrained(tmp_path / "b", device="cpu")
    assert a.fingerprint == b.fingerprint == tiny_vlm().fingerprint


# 3 memory.py: loaded tensors are not aligned, so kernels round differently
def test_a_saved_memory_answers_bit_by_bit_the_same(tmp_path):
    vlm = tiny_vlm()
    ids = torch.tensor([vlm.processor.prompt_ids("What colour is the circle?")])
    memory = vlm.watch(frames(7))
    for length in range(8):  # the header's length moves the tensors in the file
        named = replace(memory, video_path="x" * length)
        named.save(tmp_path / "m.tvm")
        again = VideoMemory.load(tmp_path / "m.tvm")
        with torch.inference_mode():
            one = vlm.model(input_ids=ids, state=memory.state).logits
            two = vlm.model(input_ids=ids, state=again.state).logits
        assert torch.equal(one, two)
        assert all(t.data_ptr() % 64 == 0 for t in state_tensors(again.state).values())


# 4 memory.py: two compressions that the video never reaches share one counter tensor
def test_a_memory_of_a_model_that_ranks_twice_is_saved(tmp_path):
    twice = [{"layer": n, "keep": 0.5, "rule": "attention"} for n in (1, 4)]
    vlm = TimeVLM(tiny_model(tuple(twice)), tiny_processor(), "twice")
    memory = vlm.watch(frames(4))
    memory.save(tmp_path / "m.tvm")
    assert VideoMemory.load(tmp_path / "m.tvm", vlm.fingerprint).num_frames == 4


# 5 memory.py: a header that is valid JSON but not ours -> AttributeError, KeyError, InputError
@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "3",
        json.dumps({"format": "timevlm-memory", "format_version": 2}),
        json.dumps(
            {
                "format": "timevlm-memory",
                "format_version": 2,
                "model_fingerprint": "x",
                "model_name": "y",
                "pattern_layers": [],
                "num_compressions": 0,
                "plan": {},
                "timings": {"a": 1},
                "warnings": [],
                "video_end": 1.0,
                "video_path": "",
                "video_sha256": "",
            }
        ),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, header):
    tensors = {
        name: torch.zeros(1) for name in ("held_seconds", "frame_seconds", "state.num_video_total")
    }
    save_file(tensors, tmp_path / "m.tvm", metadata={"header": header})
    with pytest.raises(MemoryFileError, match=r"damaged|no video memory"):
        VideoMemory.load(tmp_path / "m.tvm", "x")


# 6 api.py: a caption answer cut at MAX_CAPTION_TOKENS does not parse: ValueError
@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7, 9])
def test_captions_survive_the_token_limit(monkeypatch, limit):
    vlm = tiny_vlm()
    monkeypatch.setattr(api, "MAX_CAPTION_TOKENS", limit)
    assert isinstance(vlm.caption(vlm.watch(frames(6))), list)


# 7 llm/mamba2.py: the carried convolution state is a view that keeps a whole chunk alive
def test_a_memory_keeps_no_more_than_it_says():
    vlm = tiny_vlm()
    memory = vlm.watch(frames(64))
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in state_tensors(memory.state).values()
    }
    assert sum(storages.values()) <= 1.2 * memory.nbytes
