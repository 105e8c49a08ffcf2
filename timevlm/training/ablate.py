"""The paper's ablations at nano's size: the same short training for every variant, one table.

All variants start from the same trained vision tower, projector and word embeddings. The layers of
the LLM start from nothing, which compares what can be learnt and takes long, or (`keep_layers`)
from the start's, which compares what a trained model can be turned into in minutes; TransV's gates
are closed and its projections drawn anew either way. All get the same minutes of nano's own
training (`loop.answer_phase`: answers, alignment, tracks, and lookups where a variant ranks) on the
same videos. A variant that is slower a step sees less: that is part of the comparison, and the
steps are reported. Grid "gates" trains nothing: it shuts the transfers of the trained model, one or
all, to see what they carry.
"""

import copy
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from timevlm.api import TimeVLM
from timevlm.configuration import TimeVLMConfig
from timevlm.errors import InputError
from timevlm.llm.config import HybridConfig
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor
from timevlm.training.batches import BatchConfig
from timevlm.training.evaluate import EvaluationConfig, evaluate
from timevlm.training.evaluate_length import LengthConfig, WorldFrames, long_video
from timevlm.training.evaluate_workers import Ledger
from timevlm.training.kinds import Level
from timevlm.training.loop import CURRICULUM, PhaseConfig, answer_phase
from timevlm.training.nano import look_for_alike

KEEPS = (0.4, 0.2, 0.1)
GRIDS = ("compression", "mixers", "tokens", "pooling", "gates")
# What every variant takes over from the model that the grid starts from.
_SHARED = (
    *("vision.", "projector.", "places.", "changes.", "shifts.", "picture.", "times."),
    *("llm.backbone.embeddings.", "llm.lm_head."),
)
_LAYERS = ("llm.backbone.layers.", "llm.backbone.norm_f.", "pointer.", "order.")
_NO_POINTERS = {"timestamp_token_ids": None, "named_token_ids": None}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of a grid: what it has other than the model that the grid starts from."""

    name: str
    transv: tuple[dict[str, Any], ...] | None = None  # None: as the start
    pattern: str | None = None
    tokens_per_frame: int | None = None
    pooling: str = "tome"
    shut_gates: tuple[int, ...] | None = None  # of the start's TransV, which is not trained again


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The budget of every variant, and what it is measured on."""

    grid: str
    minutes: float
    keep_layers: bool = False
    level: Level = "basic"
    num_videos: int = 20
    cost_frames: int = 512
    peak_rate: float = 1.5e-3
    videos_per_step: int = 4
    turns_per_video: int = 12
    checkpoint_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise InputError(f"grid {self.grid!r} is unknown; choose one of {', '.join(GRIDS)}")
        if self.keep_layers and self.grid == "mixers":
            raise InputError(
                "the mixers of grid 'mixers' have no layers in common; compare them from nothing"
            )
        if self.minutes <= 0 or self.num_videos < 1 or self.cost_frames < 8:
            raise InputError(
                f"{self.minutes} minutes, {self.num_videos} videos and {self.cost_frames} frames "
                "cannot be compared; give more than 0, at least 1, and at least 8"
            )


def grid_variants(grid: str, llm: HybridConfig) -> list[Variant]:
    """The variants of a grid over a start with this LLM.

    Compressions rank and transfer from what the start's do, the raw or the normalised stream.
    Raises InputError where the pattern has fewer than two attention layers to place things at.
    """
    pattern = llm.pattern
    if grid == "tokens":
        return [Variant(name=f"{n} tokens a frame", tokens_per_frame=n) for n in (4, 8, 16, 32)]
    if grid == "pooling":
        return [Variant(name="ToMe"), Variant(name="average pooling", pooling="average")]
    if grid == "gates":
        return _gates(llm)
    if grid == "mixers":
        patterns = {
            "hybrid": pattern,
            "attention only": pattern.replace("M", "*"),
            "Mamba only": pattern.replace("*", "M"),
        }
        return [Variant(name=name, pattern=p, transv=()) for name, p in patterns.items()]
    places = [i for i, kind in enumerate(pattern) if kind == "*"]
    if len(places) < 2 or places[0] == 0:
        raise InputError(f"pattern {pattern} has no two attention layers behind a first layer")
    normalize = any(compression.normalize for compression in llm.transv)
    variants = [Variant(name="no compression", transv=())]
    for keep in KEEPS:
        for first, second in ((places[0] - 1, places[0]), (places[0], places[-1])):
            variants += _compressions(keep, first, second, normalize)
    return variants


def _gates(llm: HybridConfig) -> list[Variant]:
    """The start as it is, with each of its transfers shut, and with all of them shut."""
    layers = [compression.layer for compression in llm.transv if compression.transfer]
    variants = [Variant(name="as trained", shut_gates=())]
    variants += [Variant(name=f"shut at layer {n}", shut_gates=(i,)) for i, n in enumerate(layers)]
    if len(layers) > 1:
        variants.append(Variant(name="all shut", shut_gates=tuple(range(len(layers)))))
    return variants


def _compressions(keep: float, first: int, second: int, normalize: bool) -> list[Variant]:
    """The four ways to get down to `keep` of the vision tokens at layer `second`.

    The two-stage one drops down to twice as many at layer `first`.
    """
    named = f"keep {keep:g}, layer {second}"
    one = {"layer": second, "keep": keep, "normalize": normalize}
    uniform, attention = {**one, "rule": "uniform"}, {**one, "rule": "attention"}
    two = ({**uniform, "layer": first, "keep": 2 * keep}, attention)
    return [
        Variant(name=f"drop uniform, {named}", transv=({**uniform, "transfer": False},)),
        Variant(name=f"drop attention, {named}", transv=({**attention, "transfer": False},)),
        Variant(name=f"TransV uniform, {named}", transv=(uniform,)),
        Variant(name=f"TransV uniform + attention, {named}", transv=two),
    ]


class AveragePooledModel(TimeVLMForConditionalGeneration):
    """The model with patches averaged over the cells of a grid instead of merged by likeness."""

    def _merge(
        self, patches: Tensor, carried: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As the base class, with cells of equal size."""
        pooled = self._pool(patches)
        sizes = patches.new_full(pooled.shape[:2], patches.shape[1] / pooled.shape[1])
        return pooled, sizes, None if carried is None else self._pool(carried)

    def _pool(self, x: Tensor) -> Tensor:
        """(N, rows x columns of patches, C) -> (N, tokens_per_frame, C)."""
        tokens = self.config.tokens_per_frame
        rows = max(n for n in range(1, int(tokens**0.5) + 1) if tokens % n == 0)
        grid = x.unflatten(1, self.config.patch_grid).movedim(-1, 1)
        pooled = F.adaptive_avg_pool2d(grid, (rows, tokens // rows))
        return pooled.flatten(2).transpose(1, 2)


def build_variant(
    start: TimeVLM, variant: Variant, seed: int = 0, *, keep_layers: bool = False
) -> tuple[TimeVLMForConditionalGeneration, TimeVLMProcessor]:
    """An untrained model of a variant with the start's vision tower, projector and embeddings.

    The layers of its LLM are the start's with `keep_layers`, else drawn as those of an untrained
    nano. Where the pattern differs, the width of the MLPs makes up for it: the LLM has as many
    parameters as the start's layers would, to within one unit of that width.
    """
    config = start.model.config
    llm = dict(config.llm_config)
    if variant.transv is not None:
        # Where text goes on alone is a matter of the layers, and no compression to compare.
        alone = [] if variant.pattern else [c for c in llm["transv"] if not c["keep"]]
        llm["transv"] = [*(dict(compression) for compression in variant.transv), *alone]
    tokens = variant.tokens_per_frame or config.tokens_per_frame
    settings = {**config.to_dict(), "llm_config": llm, "tokens_per_frame": tokens}
    kind = AveragePooledModel if variant.pooling == "average" else TimeVLMForConditionalGeneration
    if variant.pattern is not None and variant.pattern != llm["pattern"]:
        settings["llm_config"] = _equal_width(settings, variant.pattern)
    if HybridConfig(**settings["llm_config"]).pointing_layer is None:
        settings |= _NO_POINTERS
    torch.manual_seed(seed)
    model = kind(TimeVLMConfig(**settings)).to(start.model.device)
    with torch.no_grad():
        look_for_alike(model.llm)
    names = (*_SHARED, *_LAYERS) if keep_layers else _SHARED
    shared = {k: v for k, v in start.model.state_dict().items() if k.startswith(names)}
    missing = model.load_state_dict(shared, strict=False)
    assert not missing.unexpected_keys, missing.unexpected_keys
    processor = TimeVLMProcessor(
        start.processor.tokenizer,
        tokens_per_frame=tokens,
        even_timestamps=start.processor.even_timestamps,
    )
    return model, processor


def _equal_width(settings: dict[str, Any], pattern: str) -> dict[str, Any]:
    """The LLM's sizes with another pattern and as many parameters."""
    llm = settings["llm_config"]
    changed = {**llm, "pattern": pattern}
    with torch.device("meta"):
        sizes = [
            sum(
                p.numel()
                for p in TimeVLMForConditionalGeneration(
                    TimeVLMConfig(**{**settings, "llm_config": each, **_NO_POINTERS})
                ).llm.parameters()
            )
            for each in (llm, changed)
        ]
    a_unit = 2 * llm["hidden_size"] * pattern.count("-")
    if not a_unit:
        return changed
    width = llm["intermediate_size"] + round((sizes[0] - sizes[1]) / a_unit)
    return {**changed, "intermediate_size": max(1, width)}


def with_shut_gates(start: TimeVLM, gates: Sequence[int]) -> TimeVLM:
    """The start, which stays as it is, with these of its TransV gates at zero."""
    model = copy.deepcopy(start.model)
    with torch.no_grad():
        for gate in gates:
            model.llm.backbone.alpha[gate].zero_()
    return TimeVLM(model, start.processor, start.name)


def train_variant(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    config: AblationConfig,
    folder: Path,
) -> int:
    """Train for `config.minutes`; a killed run goes on from `folder`. Returns the steps made."""
    batches = BatchConfig(
        level=config.level,
        num_videos=config.videos_per_step,
        turns_per_video=config.turns_per_video,
    )
    phase = PhaseConfig(
        name="answers",
        minutes=config.minutes,
        peak_rate=config.peak_rate,
        checkpoint_seconds=config.checkpoint_seconds,
    )
    # Layers that can look things up already need no single scenes first.
    curriculum = () if config.keep_layers else CURRICULUM
    answer_phase(model, processor, phase, folder, batches, curriculum)
    with safe_open(str(folder / phase.name / "checkpoint.safetensors"), "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def measure_cost(vlm: TimeVLM, num_frames: int) -> dict[str, float]:
    """Seconds of prefill and of a question, and bytes of memory, for a video of `num_frames`.

    Frames are encoded and merged outside the prefill's time, as `Timings` splits it.
    """
    spec, seconds = long_video(num_frames, 0, LengthConfig(lengths=(num_frames,), min_videos=1))
    memory = vlm.watch(WorldFrames(spec, seconds, vlm.frame_size, vlm.model.device))
    vlm.ask(memory, "What colour is the ring?", choices=("red", "blue"))  # warm
    started = time.perf_counter()
    vlm.ask(memory, "What colour is the star?", choices=("red", "blue"))
    return {
        "frames": num_frames,
        "prefill_seconds": memory.timings.prefill,
        "encode_seconds": memory.timings.encode,
        "ask_seconds": time.perf_counter() - started,
        "memory_bytes": memory.nbytes,
    }


def run_grid(
    start: TimeVLM,
    config: AblationConfig,
    folder: Path,
    *,
    variants: Sequence[Variant] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train and measure every variant that `folder` holds no result of; a JSON-safe report.

    Results are kept in `<folder>/<grid>.jsonl`, checkpoints beside it. Raises InputError where
    they belong to other settings.
    """
    settings = {**asdict(config), "start": start.fingerprint}
    ledger = Ledger(folder / f"{config.grid}.jsonl", settings)
    if variants is None:
        variants = grid_variants(config.grid, start.model.config.llm)
    for variant in variants:
        if variant.name in ledger.done:
            continue
        if progress is not None:
            progress(variant.name)
        place = folder / config.grid / variant.name.replace(", ", "-").replace(" ", "_")
        ledger.add(variant.name, _measure_variant(start, variant, config, place))
        gc.collect()
    results = {v.name: ledger.done[v.name] for v in variants if v.name in ledger.done}
    return {**settings, "variants": results}


def _measure_variant(
    start: TimeVLM, variant: Variant, config: AblationConfig, folder: Path
) -> dict[str, Any]:
    if variant.shut_gates is not None:
        steps, vlm = 0, with_shut_gates(start, variant.shut_gates)
    else:
        keep = config.keep_layers
        model, processor = build_variant(start, variant, config.seed, keep_layers=keep)
        folder.mkdir(parents=True, exist_ok=True)
        steps = train_variant(model, processor, config, folder)
        vlm = TimeVLM(model, processor, variant.name)
    model = vlm.model
    scored = evaluate(
        vlm,
        EvaluationConfig(
            split="val",
            level=config.level,
            num_videos=config.num_videos,
            blind=False,
            captions=False,
        ),
    )
    return {
        "steps": steps,
        "llm_parameters": sum(p.numel() for p in model.llm.parameters()),
        "pattern": model.config.llm.pattern,
        "transv": model.config.llm_config["transv"],
        "tokens_per_frame": model.config.tokens_per_frame,
        "pooling": variant.pooling,
        "tables": scored["tables"],
        "cost": measure_cost(vlm, config.cost_frames),
    }
