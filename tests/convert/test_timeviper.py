"""A whole published TimeViper model, rebuilt small with its own names, -> ours."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.convert.__main__ import TimeViperOptions, convert
from timevlm.convert.checkpoint import Checkpoint, in_memory, open_checkpoint, read_all
from timevlm.convert.hybrid import hybrid_config
from timevlm.convert.timeviper import convert_timeviper, vision_config
from timevlm.errors import ModelError
from timevlm.llm import HybridLM
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.vision.projector import MLPProjector
from timevlm.vision.tome import merge_tokens

WIDTH, HEADS, DEPTH, PATCH, GRID, INNER = 32, 4, 3, 4, 5, 40
FRAME = PATCH * GRID + 2  # like 384 = 27 * 14 + 6: the last pixels fill no patch
PDROP = "uni_1_0.5-attn_3_0.25"
PUBLISHED = {
    "vocab_size": 31,
    "hidden_size": 24,
    "intermediate_size": 24,
    "hybrid_override_pattern": "M-M*",
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "ssm_state_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 4,
    "mamba_n_groups": 1,
    "use_pdrop": True,
    "pdrop_type": PDROP,
    "merge_module": "CrossAttention",
}
OPTIONS = TimeViperOptions(tokens_per_frame=6, num_vision_heads=HEADS)


class TimmBlock(nn.Module):
    """A vision transformer block under timm's names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)}
        )
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, INNER), "fc2": nn.Linear(INNER, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, dim=-1)
        heads = [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v)]
        weights = (heads[0] @ heads[1].transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        x = x + self.attn["proj"]((weights @ heads[2]).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmTower(nn.Module):
    """A SigLIP tower under timm's names; gives the patches of the second-to-last block."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.pos_embed = nn.Parameter(torch.randn(1, GRID**2, WIDTH))
        self.blocks = nn.ModuleList(TimmBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.attn_pool = nn.Linear(WIDTH, WIDTH)

    def forward(self, values: Tensor) -> Tensor:
        x = self.patch_embed["proj"](values).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks[:-1]:
            x = block(x)
        return x


class Published(nn.Module):
    """The parts of a TimeViper model under its attribute names."""

    def __init__(self) -> None:
        super().__init__()
        llm = HybridLM(hybrid_config(PUBLISHED))
        self.vision_backbone = nn.ModuleDict({"featurizer": TimmTower()})
        self.projector = nn.ModuleDict({"projector": MLPProjector(WIDTH, 24)})
        self.llm_backbone = nn.ModuleDict({"llm": llm})
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.3)


def checkpoint_of(model: Published, **changes) -> Checkpoint:
    return Checkpoint(in_memory({**model.state_dict(), **changes}), PUBLISHED)


def build(checkpoint: Checkpoint) -> TimeVLMForConditionalGeneration:
    config, readers = convert_timeviper(checkpoint, OPTIONS)
    model = TimeVLMForConditionalGeneration(config)
    model.load_state_dict(read_all(readers), strict=True)
    return model.eval()


@torch.no_grad()
def test_frames_give_the_same_vision_tokens():
    published = Published().eval()
    model = build(checkpoint_of(published))
    pixels = torch.randint(0, 256, (3, 3, *model.config.frame_size), dtype=torch.uint8)
    patches = published.vision_backbone["featurizer"](pixels / 127.5 - 1)
    torch.testing.assert_close(model.vision(pixels), patches, atol=1e-5, rtol=1e-5)
    expected = published.projector["projector"](merge_tokens(patches, 6, 16)[0])
    torch.testing.assert_close(model.encode_frames(pixels), expected, atol=1e-5, rtol=1e-5)


def test_the_language_model_is_the_same():
    published = Published()
    model = build(checkpoint_of(published))
    theirs = published.llm_backbone["llm"]
    assert model.config.llm.to_dict() == theirs.config.to_dict()
    assert [c.layer for c in model.config.llm.transv] == [1, 3]
    for name, tensor in model.llm.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@torch.no_grad()
def test_through_the_command_and_back(tmp_path):
    published = Published().eval()
    source = tmp_path / "published"
    source.mkdir()
    torch.save(published.state_dict(), source / "checkpoint.pt")
    (source / "config.json").write_text(json.dumps(PUBLISHED))
    assert convert(source, tmp_path / "ours", OPTIONS) == "timeviper"
    assert sorted(p.name for p in (tmp_path / "ours").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    model = TimeVLMForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    direct = build(open_checkpoint(source))
    pixels = torch.randint(0, 256, (2, 3, *model.config.frame_size), dtype=torch.uint8)
    torch.testing.assert_close(model.encode_frames(pixels), direct.encode_frames(pixels))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, direct.state_dict()[name]), name


def test_known_towers_need_no_options():
    shapes = {
        "patch_embed.proj.weight": (1152, 3, 14, 14),
        "pos_embed": (1, 729, 1152),
        "blocks.0.mlp.fc1.weight": (4304, 1152),
        "blocks.26.norm1.weight": (1152,),
    }
    readers = in_memory({n: torch.empty(s, device="meta") for n, s in shapes.items()})
    readers |= {f"blocks.{i}.norm1.weight": readers["blocks.26.norm1.weight"] for i in range(26)}
    config = vision_config(readers)
    assert config["num_attention_heads"] == 16
    assert (config["image_size"], config["patch_size"]) == (384, 14)
    assert config["num_hidden_layers"] == 26  # a block less: the second-to-last is read
    assert config["intermediate_size"] == 4304


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("extra.weight", r"unknown extra\.weight"),
        ("projector.projector.4.weight", r"projector has unknown 4\.weight"),
        ("vision_backbone.featurizer.reg_token", "vision tower has unknown reg_token"),
        ("vision_backbone.featurizer.cls_token", "not a single SigLIP tower"),
        ("llm_backbone.llm.backbone.mtp.x", r"language model has unknown backbone\.mtp\.x"),
    ],
)
def test_unknown_parts_are_refused(name, message):
    checkpoint = checkpoint_of(Published(), **{name: torch.zeros(1)})
    with pytest.raises(ModelError, match=message):
        convert_timeviper(checkpoint, OPTIONS)


def test_a_tower_of_unknown_width_needs_its_heads():
    checkpoint = checkpoint_of(Published())
    with pytest.raises(ModelError, match="give its number of heads"):
        convert_timeviper(checkpoint)
