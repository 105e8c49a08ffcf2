"""What a watched video leaves behind: portable, honest about its origin, and small."""

import json
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.helpers import frames, random_pixels, tiny_vlm, write_mp4
from timevlm.api import TimeVLM
from timevlm.cache import cache_key
from timevlm.errors import MemoryFileError, VideoError
from timevlm.llm.state import state_tensors
from timevlm.memory import MemoryBuilder, VideoMemory, model_fingerprint
from timevlm.video.frames import FrameBatch
from timevlm.video.identity import file_sha256


@pytest.fixture(scope="module")
def vlm() -> TimeVLM:
    return tiny_vlm()


def logits(vlm: TimeVLM, memory: VideoMemory) -> torch.Tensor:
    ids = torch.tensor([vlm.processor.prompt_ids("What colour is the circle?")])
    with torch.inference_mode():
        return vlm.model(input_ids=ids, state=memory.state).logits


def test_a_saved_memory_is_the_same_bit_by_bit(vlm, tmp_path):
    memory = replace(
        vlm.watch(frames(7, batch_size=3)), video_path="a.mp4", warnings=("one frame lost",)
    )
    memory.save(tmp_path / "m.tvm")
    again = VideoMemory.load(tmp_path / "m.tvm", vlm.fingerprint)
    before, after = (state_tensors(m.state.consolidated()) for m in (memory, again))
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    torch.testing.assert_close(logits(vlm, again), logits(vlm, memory), atol=1e-5, rtol=1e-5)
    assert torch.equal(again.held_seconds, memory.held_seconds)
    assert torch.equal(again.frame_seconds, memory.frame_seconds)
    for name in ("video_end", "plan", "video_path", "warnings", "timings", "model_name", "nbytes"):
        assert getattr(again, name) == getattr(memory, name), name
    assert [path.name for path in tmp_path.iterdir()] == ["m.tvm"]


def test_the_file_is_safetensors_with_a_header(vlm, tmp_path):
    vlm.watch(frames(3)).save(tmp_path / "m.tvm")
    with safe_open(str(tmp_path / "m.tvm"), "pt") as file:
        header = json.loads(file.metadata()["header"])
    assert header["format"] == "timevlm-memory"
    assert header["format_version"] == 2
    assert header["model_fingerprint"] == vlm.fingerprint


def refusal(path, fingerprint=None) -> str:
    with pytest.raises(MemoryFileError) as caught:
        VideoMemory.load(path, fingerprint)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_another_models_memory_is_refused(vlm, tmp_path):
    other = tiny_vlm("other", seed=1)
    other.watch(frames(3)).save(tmp_path / "m.tvm")
    assert "made by model 'other'" in refusal(tmp_path / "m.tvm", vlm.fingerprint)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_file_is_refused(vlm, tmp_path, share):
    path = tmp_path / "m.tvm"
    vlm.watch(frames(3)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"not a memory", bytes(100), b"\xff" * 5000])
def test_garbage_is_refused(tmp_path, content):
    path = tmp_path / "m.tvm"
    path.write_bytes(content)
    assert "damaged or no video memory" in refusal(path)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    assert "is no file" in refusal(tmp_path / "m.tvm")
    assert "is no file" in refusal(tmp_path)


def test_other_safetensors_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "m.tvm")
    assert "is no video memory" in refusal(tmp_path / "m.tvm")


def rewrite(path, **changes: object) -> None:
    """Change entries of the header; None removes one. Tensors named in `drop` go."""
    drop = changes.pop("drop", ())
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["header"])
        tensors = {k: file.get_tensor(k) for k in file.keys() if k not in drop}  # noqa: SIM118
    header = {k: v for k, v in {**header, **changes}.items() if v is not None}
    save_file(tensors, path, metadata={"header": json.dumps(header)})


def test_another_format_version_is_refused(vlm, tmp_path):
    vlm.watch(frames(3)).save(tmp_path / "m.tvm")
    rewrite(tmp_path / "m.tvm", format_version=1)
    assert "format version 1, this program reads 2" in refusal(tmp_path / "m.tvm")


@pytest.mark.parametrize("name", ["held_seconds", "frame_seconds", "state.num_video_total"])
def test_a_missing_tensor_is_named(vlm, tmp_path, name):
    vlm.watch(frames(3)).save(tmp_path / "m.tvm")
    rewrite(tmp_path / "m.tvm", drop=(name,))
    assert f"{name.removeprefix('state.')!r} is missing" in refusal(tmp_path / "m.tvm")


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": 3},
        {"video_end": "x"},
        {"num_compressions": "2"},
        {"num_compressions": 0},
        {"pattern_layers": []},
        {"pattern_layers": ["MambaState"] * 99},
        {"warnings": 5},
    ],
)
def test_a_header_that_does_not_fit_is_refused(vlm, tmp_path, changes):
    vlm.watch(frames(3)).save(tmp_path / "m.tvm")
    assert vlm.remember(tmp_path / "m.tvm").num_frames == 3
    rewrite(tmp_path / "m.tvm", **changes)
    with pytest.raises(MemoryFileError, match=r"is damaged: .*; watch the video again"):
        vlm.remember(tmp_path / "m.tvm")


def test_a_failed_save_leaves_no_file(vlm, tmp_path, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    memory = vlm.watch(frames(3))
    monkeypatch.setattr("timevlm.memory.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        memory.save(tmp_path / "m.tvm")
    assert list(tmp_path.iterdir()) == []


def test_two_videos_of_one_layout_never_mix(vlm, tmp_path):
    paths = [write_mp4(tmp_path / f"{seed}.mp4", 12, seed=seed) for seed in (0, 1)]
    memories = [vlm.watch(path) for path in paths]
    first, second = memories
    assert torch.equal(first.frame_seconds, second.frame_seconds)
    assert first.video_sha256 != second.video_sha256
    assert float((logits(vlm, first) - logits(vlm, second)).abs().max()) > 1e-3
    keys = {
        cache_key(
            video_sha256=memory.video_sha256,
            plan=memory.plan,
            model_fingerprint=memory.model_fingerprint,
        )
        for memory in memories
    }
    assert len(keys) == 2
    assert [m.video_sha256 for m in memories] == [file_sha256(path) for path in paths]


def test_asking_one_video_does_not_disturb_another(vlm):
    first, second = vlm.watch(frames(4, seed=0)), vlm.watch(frames(4, seed=1))
    before = logits(vlm, first)
    logits(vlm, second)
    vlm.ask(first.fork(), "Why?")
    assert torch.equal(logits(vlm, first), before)


def test_size_grows_linearly_with_frames(vlm):
    sizes = [vlm.watch(frames(count)).nbytes for count in (16, 32, 48)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


class Counted:
    """Frames made one batch at a time; counts those whose pixels are still in memory."""

    def __init__(self, batches: int, size: int) -> None:
        self.planned_seconds = torch.arange(batches * size, dtype=torch.float64)
        self.size = size
        self.alive = self.most_alive = 0

    def __iter__(self):
        for seconds in self.planned_seconds.split(self.size):
            pixels = random_pixels(self.size)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            weakref.finalize(pixels, self._gone)
            yield FrameBatch(pixels, seconds)
            del pixels

    def _gone(self) -> None:
        self.alive -= 1


def test_pixels_are_let_go_while_watching(vlm):
    stream = Counted(batches=6, size=2)
    memory = vlm.watch(stream)
    assert memory.num_frames == 12
    assert stream.most_alive <= 2
    assert stream.alive == 0


class Lossy:
    """Plans `count` frames; those listed never arrive."""

    def __init__(self, count: int, lost: set[int], batch_size: int) -> None:
        stream = frames(count, batch_size=batch_size)
        self.planned_seconds = stream.planned_seconds
        self.batches = list(stream)
        self.lost = lost

    def __iter__(self):
        for batch in self.batches:
            kept = [i for i, t in enumerate(batch.seconds.tolist()) if int(t) not in self.lost]
            if kept:
                yield FrameBatch(batch.pixels[kept], batch.seconds[kept])


@pytest.mark.parametrize("lost", [{3}, {0}, {9}, {2, 3, 4, 5, 6}, set(range(1, 10))])
@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_a_video_with_lost_frames_is_watched(vlm, lost, batch_size):
    memory = vlm.watch(Lossy(10, lost, batch_size))
    assert memory.num_frames == 10 - len(lost)
    assert memory.held_seconds.shape[0] == memory.state.held_video.num_tokens
    assert set(memory.held_seconds.tolist()) <= set(memory.frame_seconds.tolist())
    assert bool((memory.held_seconds.diff() >= 0).all())
    answer = vlm.ask(memory, "Why?", choices=["yes", "no"])
    assert answer.evidence


def test_a_video_without_a_frame_is_refused(vlm):
    with pytest.raises(VideoError, match="no frame of the video could be decoded"):
        vlm.watch(Lossy(3, {0, 1, 2}, 2))


def test_held_seconds_tell_when_each_waiting_token_was_seen(vlm):
    """Watch a video whose frames differ from one another, and find each held token again."""
    stream = frames(9)
    memory = vlm.watch(stream)
    builder = MemoryBuilder(vlm.model, vlm.processor, stream.planned_seconds)
    lengths = []
    for start in range(9):
        part = slice(start, start + 1)
        with torch.inference_mode():
            builder.add(FrameBatch(stream.pixels[part], stream.planned_seconds[part]))
        lengths.append(builder.state.held_video.num_tokens)
    held_of_frame = torch.tensor(lengths).diff(prepend=torch.tensor([0]))
    expected = stream.planned_seconds.repeat_interleave(held_of_frame)
    assert torch.equal(memory.held_seconds, expected)


def test_fingerprint_follows_weights_and_configuration(vlm):
    assert model_fingerprint(tiny_vlm().model) == vlm.fingerprint
    assert tiny_vlm(seed=1).fingerprint != vlm.fingerprint
    changed = tiny_vlm()
    changed.model.config.default_fps = 2.0
    assert model_fingerprint(changed.model) != vlm.fingerprint
