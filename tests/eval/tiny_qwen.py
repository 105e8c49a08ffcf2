"""Tiny random vision-language models as folders, so that no test needs the hub."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", "<image>"),
)
_TEMPLATE = (
    "{%% for m in messages %%}<|im_start|>{{ m.role }}\n"
    "{%% if m.content is string %%}{{ m.content }}{%% else %%}{%% for c in m.content %%}"
    "{%% if c.type == 'image' %%}%s{%% elif c.type == 'video' %%}"
    "<|vision_start|><|video_pad|><|vision_end|>{%% else %%}{{ c.text }}{%% endif %%}"
    "{%% endfor %%}{%% endif %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)


def save_tokenizer(folder: Path, image_text: str) -> dict[str, int]:
    """A byte-level tokenizer without merges and a chat template; the ids of special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    fast.chat_template = _TEMPLATE % image_text
    fast.save_pretrained(folder)
    return {token: vocabulary[token] for token in SPECIAL} | {"size": len(vocabulary)}


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def save_qwen(folder: Path) -> Path:
    """A Qwen2-VL model of some ten thousand weights, its tokenizer and its picture settings."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = save_tokenizer(folder, "<|vision_start|><|image_pad|><|vision_end|>")
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": ids["size"],
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "rope_theta": 10000.0,
            },
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "mlp_ratio": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    pictures = {"min_pixels": 784, "max_pixels": 3136, "patch_size": 14}
    pictures |= {"temporal_patch_size": 2, "merge_size": 2, "processor_class": "Qwen2VLProcessor"}
    _write(
        folder / "preprocessor_config.json",
        {**pictures, "image_processor_type": "Qwen2VLImageProcessor"},
    )
    _write(
        folder / "video_preprocessor_config.json",
        {**pictures, "video_processor_type": "Qwen2VLVideoProcessor"},
    )
    return folder


def qwen_processor_for_pictures(folder: Path) -> Qwen2VLProcessor:
    """Qwen2-VL's own processor without its video part, which needs torchvision."""

    class PicturesOnly(Qwen2VLProcessor):
        def check_argument_for_proper_class(self, name: str, argument: object) -> object:
            return type(argument)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    pictures = AutoImageProcessor.from_pretrained(folder)
    return PicturesOnly(pictures, tokenizer, None, chat_template=tokenizer.chat_template)


def save_llava(folder: Path) -> Path:
    """A LLaVA model: a family whose processor takes pictures alone."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = save_tokenizer(folder, "<image>")
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "projection_dim": 16,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": ids["size"],
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        image_token_index=ids["<image>"],
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    side = {"height": 28, "width": 28}
    pictures = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}
    _write(folder / "preprocessor_config.json", {**pictures, "size": side, "crop_size": side})
    _write(
        folder / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
        },
    )
    return folder
