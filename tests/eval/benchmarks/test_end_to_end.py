"""From official files to a result folder: every benchmark, videos decoded, answers in words."""

import json

import pytest

from eval.benchmarks import available, get
from eval.models.base import Session, VideoModel, digest
from eval.models.frames import VideoRequest
from eval.records import Prompt, Reply, Sample
from eval.runner import evaluate, folder_name
from eval.sampling import Sampling
from eval.settings import RunSettings, read_result
from tests.eval.benchmarks.test_judged_and_timed import StandInJudge
from tests.eval.benchmarks.test_layouts import right_reply
from tests.eval.miniatures import build
from timevlm import InputError, SamplingPlan
from timevlm.video import open_video


@pytest.fixture(autouse=True)
def _without_java(monkeypatch):
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: False)


class KnowingModel(VideoModel):
    """Decodes two frames of each video in this process and answers rightly in words."""

    name = "knowing"
    decodes_ahead = False

    def __init__(self) -> None:
        self.fingerprint = digest({"knowing": 1})
        self.gen_kwargs = {}
        self.default_sampling = Sampling(mode="uniform_mid", frames=2)
        self.prompts: dict[str, Prompt] = {}

    def decode(self, request: VideoRequest) -> list[float]:
        start, end = request.clip or (None, None)
        plan = SamplingPlan(start=start, end=end, max_frames=2)
        with open_video(request.path, plan) as reader:
            return [second for batch in reader for second in batch.seconds.tolist()]

    def watch(self, decoded: list[float]) -> Session:
        return _Knows(self, decoded)


class _Knows(Session):
    def __init__(self, model: KnowingModel, seconds: list[float]) -> None:
        self._model = model
        self.frame_seconds = tuple(seconds)
        self.duration_seconds = 4.0

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        self._model.prompts[sample.id] = prompt
        return Reply(raw=right_reply(sample), num_frames=len(self.frame_seconds))


def run(name, tmp_path, **changes):
    data = build(name, tmp_path / "data")
    benchmark, model = get(name), KnowingModel()
    benchmark.prepare(data, changes.get("split", benchmark.splits[0]))
    settings = RunSettings(bench=name, data=str(data), **changes)
    return evaluate(settings, out=tmp_path / "out", model=model), model, data


@pytest.mark.parametrize("name", available())
def test_every_benchmark_runs_from_its_files_to_its_score(tmp_path, name):
    outcome, model, _ = run(name, tmp_path)
    assert outcome.missing == 0
    metrics = json.loads((outcome.folder / "metrics.json").read_text())
    counts = {row["name"]: row["value"] for row in metrics["tables"]["counts"]}
    assert counts["n_error"] == 0
    assert counts["n_answered"] == counts["n_total"] == len(model.prompts) > 0
    assert metrics["published"] == [] or metrics["published"][0]["source"]
    headline = metrics["tables"]["overall"][0]
    if name in ("vdc", "mlvugeneration"):
        assert headline["value"] is None
    elif name == "mlvu":  # one gold is no option, in one of the seven tasks
        assert headline["value"] == pytest.approx(100 * (6 + 2 / 3) / 7)
    else:
        assert headline["value"] == pytest.approx(100.0)


def test_a_missing_video_costs_its_own_questions_alone(tmp_path):
    data = build("videomme", tmp_path / "data")
    (data / "data/zzTESTvid02.MP4").unlink()
    (data / "data/zzTESTvid03.mkv").write_bytes(b"")
    settings = RunSettings(bench="videomme", data=str(data))
    outcome = evaluate(settings, out=tmp_path / "out", model=KnowingModel())
    tables = outcome.metrics["tables"]
    counts = {row["name"]: row["value"] for row in tables["counts"]}
    assert (counts["n_total"], counts["n_error"], counts["n_answered"]) == (6, 4, 2)
    assert tables["overall"][0]["value"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("name", "words"), [("videomme", "Look at the boat"), ("longvideobench", "blue it is")]
)
def test_subtitles_reach_the_prompt_and_tag_the_result(tmp_path, name, words):
    outcome, model, data = run(name, tmp_path, subtitles=True)
    assert outcome.metrics["subtitles"] is True
    assert any(words in prompt.text for prompt in model.prompts.values())
    assert not any("before the clip" in prompt.text for prompt in model.prompts.values())
    again = KnowingModel()
    settings = RunSettings(bench=name, data=str(data))
    evaluate(settings, out=tmp_path / "without", model=again)
    assert not any(words in prompt.text for prompt in again.prompts.values())


def test_all_subtitles_reach_the_prompt_under_a_tag_of_their_own(tmp_path):
    outcome, model, data = run("videomme", tmp_path, subtitles="all")
    assert outcome.metrics["subtitles"] == "all"
    cues = next(
        c
        for s in get("videomme").samples(data, "test", subtitles=True)
        if (c := get("videomme").cues(s, data))
    )
    assert any(all(cue.text in p.text for cue in cues) for p in model.prompts.values())
    config = read_result(outcome.folder).config
    assert folder_name(config).startswith("videomme-test-all-subtitles/")
    settings = RunSettings(bench="videomme", data=str(data), subtitles=True)
    at_frames = evaluate(settings, out=tmp_path / "frames", model=KnowingModel())
    assert read_result(at_frames.folder).config.key != config.key


def test_subtitles_that_a_model_would_not_see_are_refused(tmp_path):
    data = build("videomme", tmp_path / "data")
    model = KnowingModel()
    model.reads_prompts = False
    settings = RunSettings(bench="videomme", data=str(data), subtitles=True)
    with pytest.raises(InputError, match="would not see the subtitles"):
        evaluate(settings, out=tmp_path / "out", model=model)
    with pytest.raises(InputError, match="use true, false or 'all'"):
        RunSettings(bench="videomme", data=str(data), subtitles="some")


def test_a_finished_run_is_judged_afterwards(tmp_path):
    outcome, _, _ = run("vdc", tmp_path, split="short")
    judge = StandInJudge(lambda text: "{'pred': 'no', 'score': 1}" if "Given" in text else "red")
    rows = read_result(outcome.folder).scoring_rows()
    overall = {row["name"]: row["value"] for row in get("vdc").score_judged(rows, judge)["overall"]}
    assert overall == {"short: accuracy (stand-in)": 0.0, "short: score (stand-in)": 1.0}
