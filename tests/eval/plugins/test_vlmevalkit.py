"""VLMEvalKit's base class is stood for by the three attributes of it that matter here."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from eval.plugins.vlmevalkit import make_class, prompt_text, register
from tests.helpers import save_tiny, write_mp4
from timevlm import InputError, TimeVLM

CHOICE = "Question: Which?\nOptions:\n(A) red\n(B) green\n(C) blue"


class BaseModel:
    INTERLEAVE = False
    allowed_types = ("text", "image", "video")

    def __init__(self) -> None:
        self.dump_image_func = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_mp4(folder / "v.mp4", 32)  # 8 s
    return save_tiny(folder)


def message(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "text", "value": "Watch well.", "role": "system"},
        {"type": "video", "value": str(folder / "v.mp4")},
        {"type": "text", "value": CHOICE},
        {"type": "text", "value": "\nOnly give the best option."},
        {"type": "text", "value": "Best option:(", "role": "assistant"},
    ]


@pytest.mark.parametrize(
    ("nframe", "fps", "seconds"),
    [
        (4, None, [1.0, 3.0, 5.0, 7.0]),
        (None, 0.5, [0.0, 2.0, 4.0, 6.0]),
        (None, None, [float(second) for second in range(8)]),  # the model's own rate
    ],
)
def test_the_data_sets_frames_are_watched(
    folder: Path, nframe: int | None, fps: float | None, seconds: list[float]
):
    model = make_class(BaseModel)(pretrained=str(folder))
    assert model.nframe
    assert model.fps  # VLMEvalKit overwrites only what is above 0
    model.nframe, model.fps = nframe, fps
    letter = model.generate_inner(message(folder), dataset="MVBench")
    [memory] = model.answerer._memories.values()
    assert memory.frame_seconds.tolist() == seconds
    vlm = model.answerer.vlm
    assert letter == "ABC"[vlm.ask(memory, "Which?", choices=["red", "green", "blue"]).choice]


def test_an_own_sampling_beats_the_data_sets(folder: Path):
    model = make_class(BaseModel)(pretrained=str(folder), sampling="uniform_mid:3")
    model.generate_inner(message(folder))
    [memory] = model.answerer._memories.values()
    assert memory.num_frames == 3


def test_instructions_are_for_models_that_write(folder: Path):
    parts = message(folder)
    assert prompt_text(parts, is_native=True) == f"{CHOICE}\nOnly give the best option."
    assert prompt_text(parts, is_native=False) == (
        f"Watch well.\n{CHOICE}\nOnly give the best option.\nBest option:("
    )


def test_registering(folder: Path, monkeypatch: pytest.MonkeyPatch):
    modules = {name: ModuleType(name) for name in ("vlmeval", "vlmeval.vlm", "vlmeval.config")}
    modules["vlmeval"].vlm = modules["vlmeval.vlm"]
    modules["vlmeval.vlm"].BaseModel = BaseModel
    modules["vlmeval.config"].supported_VLM = table = {"other": object}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = register("timevlm-tiny", pretrained=str(folder))
    assert modules["vlmeval.vlm"].TimeVLM is found
    assert issubclass(found, BaseModel)
    assert isinstance(table["timevlm-tiny"]().answerer.vlm, TimeVLM)
    with pytest.raises(InputError, match="already has a model 'timevlm-tiny'"):
        register("timevlm-tiny")
    with pytest.raises(InputError, match="unknown model options"):
        register("timevlm-other", frames=3)
