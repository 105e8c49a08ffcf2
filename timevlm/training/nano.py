"""The embedded model's shape: sizes, tokenizer vocabulary and processor."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from timevlm.configuration import TimeVLMConfig
from timevlm.errors import ModelError
from timevlm.llm.attention import QueryKeyValue
from timevlm.llm.config import MLP
from timevlm.loading import load_model
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.wording import vocabulary_texts
from timevlm.tasks.captioning import CAPTION_PROMPT
from timevlm.tasks.grounding import grounding_prompt
from timevlm.tokenization import build_tokenizer
from timevlm.training.kinds import (
    Level,
    kinds_of,
    named_token_ids,
    number_token_ids,
    ordinal_token_ids,
    separator_token_ids,
    side_token_ids,
)
from timevlm.training.main_colour import COLOURS
from timevlm.training.main_colour import WORDINGS as MAIN_COLOUR_WORDINGS

TOKENS_PER_FRAME = 8
EMBEDDING_GAIN = 30.0
PLACE_GAIN = 50.0
CHANGE_GAIN = 80.0  # a cut changes about an eighth of the range of colours
PICTURE_GAIN = 5.0
SHIFT_GAIN = 15.0
TIME_GAIN = 5.0
ALIKE_GAIN = 1.5
# Layers for the text alone, after those that look at the video: there the words of a question and
# of its answer tell each other what each of them saw. A question about one thing needs none.
TEXT_LAYERS = "M-"
# One more look back for vision tokens before they wait for a question: with what the first one
# found, objects that turn another colour, blink or spin can be followed. Basic motions need none.
TRACK_LAYERS = "*-"
TRAINED_ON = {
    "basic": (
        "coloured shapes that move, appear, change and count over a few scenes of a made-up world"
    ),
    "full": (
        "coloured and patterned shapes of a made-up world: what they do, where and when, with "
        "camera moves, transitions, changes of light and short texts"
    ),
}
# The row of a token, in these two, is what the model knows of it.
_TOKEN_TABLES = ("llm.backbone.embeddings.weight", "llm.lm_head.weight")


def build_processor(level: Level = "basic") -> TimeVLMProcessor:
    """Tokenizer over a level's words and the tasks' prompts, with byte fallback."""
    texts = [*vocabulary_texts(level), CAPTION_PROMPT, grounding_prompt("a")]
    texts.append("Yes. No. What? How, When")
    if level == "full":
        texts += [*MAIN_COLOUR_WORDINGS, *(f"a {colour}" for colour in COLOURS)]
    return TimeVLMProcessor(
        build_tokenizer(texts), tokens_per_frame=TOKENS_PER_FRAME, even_timestamps=True
    )


def build_config(processor: TimeVLMProcessor, level: Level = "basic") -> TimeVLMConfig:
    """Sizes of nano.

    The first attention layer comes after half of the vision tokens have left, and the second sees
    only those that the question picked: attention is what grows with the square of the length, so
    it is kept off the bulk of a long video.
    """
    llm = {
        "vocab_size": _num_rows(processor),
        "hidden_size": 128,
        "pattern": "M-*-M-*-",
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "mamba_num_heads": 8,
        "mamba_head_dim": 32,
        "ssm_state_size": 64,
        "chunk_size": 64,
        "video_window": 2048,  # 340 frames and more, of six tokens each
        "initializer_range": 0.08,  # near 1 / sqrt(hidden): at 0.02 attention starts out flat
        "transv": [
            {"layer": 2, "keep": 0.5, "rule": "uniform", "normalize": True},
            {"layer": 6, "keep": 0.3, "rule": "attention", "max_keep": 1024, "normalize": True},
        ],
    }
    return TimeVLMConfig(
        llm_config=with_level_layers(llm, level),
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 96,
            "patch_size": 16,
            "hidden_act": "gelu",  # exact: torch has no fast kernel for the tanh form on a CPU
        },
        tokens_per_frame=TOKENS_PER_FRAME,
        tome_heads=1,
        place_embedding=True,
        change_embedding=True,
        picture_embedding=tells_picture(level),
        time_embedding=True,
        interlaced_order=True,
        timestamp_token_ids=timestamp_token_ids(processor),
        named_token_ids=named_token_ids(processor, kinds_of(level)),
        side_token_ids=side_token_ids(processor, kinds_of(level)),
        number_token_ids=number_token_ids(processor, kinds_of(level)),
        separator_token_ids=separator_token_ids(processor, kinds_of(level)),
        ordinal_token_ids=ordinal_token_ids(processor, kinds_of(level)),
        frame_token_id=processor.frame_token_id,
        user_token_id=processor.user_token_id,
        prefix_length=len(processor.prefix_ids()),
        default_fps=1.0,
        choice_style="text",
        trained_on=TRAINED_ON[level],
        grounds_absence=level == "full",
    )


def timestamp_token_ids(processor: TimeVLMProcessor) -> list[int]:
    """Ids of the first opening, pair and end of a time; the others of a kind follow it."""
    return processor.tokenizer.convert_tokens_to_ids(["<0", "00", ".0s>"])


def with_level_layers(llm: dict[str, Any], level: Level) -> dict[str, Any]:
    """The LLM's configuration with `TRACK_LAYERS` and `TEXT_LAYERS`, if it has none yet.

    Only videos of level "full" need them. The first stand before the layer where vision tokens wait
    for a question, the others after the last: only its questions compare two things that each need
    a look. Vision tokens leave where no layer of the LLM's own mixes tokens any more: an MLP has no
    use for them.
    """
    if level != "full":
        return llm
    if not any(compression["keep"] == 0.0 for compression in llm["transv"]):
        pattern = llm["pattern"]
        leave = {"layer": len(pattern.rstrip(MLP)), "keep": 0.0, "transfer": False}
        llm = {**llm, "pattern": pattern + TEXT_LAYERS, "transv": [*llm["transv"], leave]}
    at = track_layers_at(llm, level)
    if at is None:
        return llm
    pattern = llm["pattern"][:at] + TRACK_LAYERS + llm["pattern"][at:]
    later = [
        {**c, "layer": c["layer"] + (len(TRACK_LAYERS) if c["layer"] >= at else 0)}
        for c in llm["transv"]
    ]
    return {**llm, "pattern": pattern, "transv": later}


def track_layers_at(llm: dict[str, Any], level: Level) -> int | None:
    """Where `TRACK_LAYERS` are to be put into an LLM; None where it needs none, or has them."""
    ranks = [c["layer"] for c in llm["transv"] if c.get("rule") == "attention"]
    if level != "full" or not ranks or llm["pattern"][: ranks[0]].endswith(TRACK_LAYERS):
        return None
    return ranks[0]


def _num_rows(processor: TimeVLMProcessor) -> int:
    """Rows of the tables of tokens: a multiple of 64, whose products are faster."""
    return -(-len(processor.tokenizer) // 64) * 64


def build_nano(
    start_from: Path | None = None, level: Level = "basic"
) -> tuple[TimeVLMForConditionalGeneration, TimeVLMProcessor]:
    """An untrained nano and its processor, or a saved one in float32, ready to be trained further.

    Frames' tokens get today's order, whichever the saved model was trained with.

    A saved model of a level with fewer words keeps what it knows: its rows of the tables of tokens
    go to the same tokens, and the rows of words that are new to it are drawn as at first.

    Raises:
        ModelError: `start_from` holds no model, one whose files do not fit together, or one that
            knows words that the level has not.
    """
    processor = build_processor(level)
    if start_from is not None:
        return _saved_nano(start_from, processor, level)
    model = TimeVLMForConditionalGeneration(build_config(processor, level))
    with torch.no_grad():
        # Blocks write vectors of length 10 to 30 into the residual stream: an input of
        # length 1 would be drowned after the first, and with it what the frame shows.
        model.llm.backbone.embeddings.weight.mul_(EMBEDDING_GAIN)
        model.projector[2].weight.mul_(EMBEDDING_GAIN)
        # From one edge of the frame to the other as far as from one word to another.
        nn.init.normal_(model.places.weight, std=PLACE_GAIN / model.config.llm.hidden_size**0.5)
        draw_told(model)
        look_for_alike(model.llm)
    return model, processor


def _saved_nano(
    folder: Path, processor: TimeVLMProcessor, level: Level
) -> tuple[TimeVLMForConditionalGeneration, TimeVLMProcessor]:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"no model in {folder} (no config.json); give a folder that training wrote"
        )
    model, saved = load_model(folder, dtype=torch.float32)
    known, wanted = saved.tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    told = [model.times, model.changes, model.pointer, model.order]
    if level == "full":
        told += [model.picture, model.comparing, model.lengths, model.clauses, model.scenes]
    llm = model.config.llm_config
    whole = with_level_layers(llm, level) == llm
    if known == wanted and whole and all(part is not None for part in told):
        model.config.interlaced_order = saved.even_timestamps = True
        return model, saved
    lost = sorted(known.keys() - wanted.keys())
    if lost:
        raise ModelError(
            f"the model in {folder} knows {len(lost)} words that level {level} has not, such as "
            f"{lost[0]!r}; train it on the level that it is from, or start from nothing"
        )
    processor = TimeVLMProcessor(
        processor.tokenizer, tokens_per_frame=saved.tokens_per_frame, even_timestamps=True
    )
    return _enlarged(model, known, processor, level), processor


def _enlarged(
    model: TimeVLMForConditionalGeneration,
    known: dict[str, int],
    processor: TimeVLMProcessor,
    level: Level,
) -> TimeVLMForConditionalGeneration:
    """The model with the processor's vocabulary, of which `known` (token to row) is a part.

    What its tokens were not told yet, such as times and changes of their frames, they are. Layers
    that it had not yet begin by adding nothing.
    """
    settings = model.config.to_dict()
    llm = {**settings["llm_config"], "vocab_size": _num_rows(processor)}
    settings["llm_config"] = with_level_layers(llm, level)
    settings |= {
        "frame_token_id": processor.frame_token_id,
        "user_token_id": processor.user_token_id,
        "change_embedding": True,
        "picture_embedding": tells_picture(level),
        "time_embedding": True,
        "timestamp_token_ids": timestamp_token_ids(processor),
        "named_token_ids": named_token_ids(processor, kinds_of(level)),
        "side_token_ids": side_token_ids(processor, kinds_of(level)),
        "number_token_ids": number_token_ids(processor, kinds_of(level)),
        "separator_token_ids": separator_token_ids(processor, kinds_of(level)),
        "ordinal_token_ids": ordinal_token_ids(processor, kinds_of(level)),
        "interlaced_order": True,
        "trained_on": TRAINED_ON[level],
        "grounds_absence": level == "full",
        "choice_temperature": 1.0,  # of other questions
    }
    larger = TimeVLMForConditionalGeneration(TimeVLMConfig(**settings))
    with torch.no_grad():
        larger.llm.backbone.embeddings.weight.mul_(EMBEDDING_GAIN)
        draw_told(larger)
        look_for_alike(larger.llm)
    state, drawn = model.state_dict(), larger.state_dict()
    at = track_layers_at(llm, level)
    if at is not None:
        state = {_after_gap(name, at): tensor for name, tensor in state.items()}
    for name in drawn.keys() - state.keys():
        if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
            drawn[name].zero_()
    vocabulary = processor.tokenizer.get_vocab()
    old = torch.tensor(list(known.values()))
    new = torch.tensor([vocabulary[token] for token in known])
    for name in _TOKEN_TABLES:
        state[name] = drawn[name].clone().index_copy(0, new, state[name][old])
    larger.load_state_dict({**drawn, **state})
    return larger


def _after_gap(name: str, at: int) -> str:
    """The name of a parameter of the model with room for `TRACK_LAYERS` from layer `at` on."""
    layer = re.match(r"llm\.backbone\.layers\.(\d+)\.", name)
    if layer is None or int(layer[1]) < at:
        return name
    return f"llm.backbone.layers.{int(layer[1]) + len(TRACK_LAYERS)}.{name[layer.end() :]}"


def tells_picture(level: Level) -> bool:
    """Whether tokens are told what their picture does: there is something to tell at "full"."""
    return bool(kinds_of(level).cameras)


def draw_told(model: TimeVLMForConditionalGeneration) -> None:
    """Vectors of a fifth of a word's length for the digits of times, six of which add up, of a
    third of it for a cut's change, of a sixth for each of a picture's values, and of a third for a
    colour's whole turn."""
    unit = model.config.llm.hidden_size**-0.5
    nn.init.normal_(model.times.weight, std=TIME_GAIN * unit)
    nn.init.normal_(model.changes.weight, std=CHANGE_GAIN * unit)
    if model.picture is not None:
        nn.init.normal_(model.picture.weight, std=PICTURE_GAIN * unit)
        nn.init.normal_(model.shifts.weight, std=SHIFT_GAIN * unit)


def look_for_alike(llm: nn.Module) -> None:
    """Let the first head of every group of all attention ask with its own keys' weights.

    It then attends to what resembles the token from the first step on: a word to the vision tokens
    that are aligned with it, a vision token to the same object in earlier frames. Learning
    to match contents from random weights takes most of a short training.
    """
    for attention in llm.modules():
        if isinstance(attention, QueryKeyValue):
            groups, width = attention.num_kv_heads, attention.head_dim
            queries = attention.q_proj.weight.unflatten(0, (groups, -1, width))
            keys = attention.k_proj.weight.unflatten(0, (groups, width))
            queries[:, 0] = ALIKE_GAIN * keys


def export_nano(
    model: TimeVLMForConditionalGeneration, processor: TimeVLMProcessor, folder: Path
) -> None:
    """Write weights (float16, half the size at no measurable loss), config and tokenizer."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
