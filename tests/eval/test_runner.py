import json
from pathlib import Path

import pytest

from eval.models.baselines import BlindModel, ConstantModel
from eval.records import ROW_KEYS, Sample
from eval.runner import draw_videos, evaluate, folder_name
from eval.settings import Config, RunSettings, read_config, read_result
from eval.worker import MAX_FAILURES_IN_A_ROW, group_videos
from tests.eval.runs import TalkingModel, make_toyworld, settings
from timevlm.errors import InputError, ModelError, VideoError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_toyworld(tmp_path / "data")


def rows_of(folder: Path) -> list[dict]:
    return read_result(folder).rows


def overall(outcome) -> dict[str, float]:
    return {line["name"]: line["value"] for line in outcome.metrics["tables"]["overall"]}


def test_the_result_folder_holds_everything(data: Path, tmp_path: Path) -> None:
    outcome = evaluate(settings(data), out=tmp_path / "out", model=TalkingModel("It is B."))
    found = read_result(outcome.folder)
    assert [row["id"] for row in found.rows] == [sample.id for sample in found.samples]
    row = found.rows[0]
    assert tuple(row) == ROW_KEYS
    assert (row["raw"], row["parsed"], row["score"]) == ("It is B.", 1, 0.0)
    assert (row["n_frames"], row["tokens_in"], row["seconds_gen"]) == (2, 7, 0.25)
    assert row["details"]["seconds"]["generate"] == 0.25
    assert row["details"]["duration_seconds"] == 2.0
    assert len(row["prompt_sha256"]) == 64
    (process,) = found.processes()
    assert process["versions"]["timevlm"]
    assert process["hardware"]["cores"] >= 1
    assert process["samples"] == 12
    assert process["peak_rss_bytes"] > 0
    assert process["seconds"]["total"] > 0
    assert read_config(outcome.folder) == found.config
    assert Config.from_dict(json.loads(json.dumps(found.config.to_dict()))) == found.config
    assert not (outcome.folder / "claims").exists()
    metrics = json.loads((outcome.folder / "metrics.json").read_text())
    assert metrics["tables"] == json.loads(json.dumps(outcome.metrics["tables"]))


def test_constant_answers_score_what_they_must(data: Path, tmp_path: Path) -> None:
    letters = [
        overall(evaluate(settings(data), out=tmp_path / letter, model=ConstantModel(letter)))
        for letter in "ABCD"
    ]
    assert sum(scores["accuracy"] for scores in letters) == pytest.approx(100.0)
    whole = evaluate(settings(data, split="grounding"), out=tmp_path / "g", model=ConstantModel())
    assert overall(whole)["mIoU"] == pytest.approx(50.0)  # 2 s of 4 s
    blind = evaluate(settings(data, split="grounding"), out=tmp_path / "b", model=BlindModel())
    assert overall(blind)["mIoU"] == pytest.approx(100.0)  # the middle half is the gold here


def test_a_bad_video_becomes_error_rows_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    class Picky(TalkingModel):
        def decode(self, request):
            if request.path.name == "001.mp4":
                raise VideoError("001.mp4 is\n damaged")
            return super().decode(request)

    outcome = evaluate(settings(data), out=tmp_path / "out", model=Picky("A"))
    failed = [row for row in rows_of(outcome.folder) if row["error"]]
    assert [row["error"] for row in failed] == ["001.mp4 is damaged"] * 3
    assert all(row["score"] == 0.0 and row["parsed"] is None for row in failed)
    counts = {line["name"]: line["value"] for line in outcome.metrics["tables"]["counts"]}
    assert counts == {"n_total": 12, "n_answered": 9, "n_unparsed": 0, "n_error": 3}


def test_errors_of_a_model_name_their_kind(data: Path, tmp_path: Path) -> None:
    failing = TalkingModel(lambda s: RuntimeError("out of memory") if "000" in s.id else "A")
    outcome = evaluate(settings(data), out=tmp_path / "out", model=failing)
    assert rows_of(outcome.folder)[0]["error"] == "RuntimeError: out of memory"


def test_a_model_that_fails_on_everything_ends_the_run(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=10, num_questions=4)
    with pytest.raises(ModelError, match=f"{MAX_FAILURES_IN_A_ROW} samples in a row"):
        evaluate(settings(data), out=tmp_path / "out", model=TalkingModel(OSError("down")))
    outcome = evaluate(settings(data), out=tmp_path / "out", model=TalkingModel("A"))
    assert outcome.missing == 0
    assert not any(row["error"] for row in rows_of(outcome.folder))


def test_a_defect_of_a_program_ends_the_run_at_once(data: Path, tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        evaluate(settings(data), out=tmp_path / "out", model=TalkingModel(AttributeError("a typo")))


def test_all_questions_of_a_video_share_one_session(data: Path, tmp_path: Path) -> None:
    model = TalkingModel("A")
    evaluate(settings(data, split="all"), out=tmp_path / "out", model=model)
    assert sorted(model.opened) == ["000.mp4", "001.mp4", "002.mp4", "003.mp4"]


def test_questions_about_different_clips_do_not_share(data: Path) -> None:
    common = {"bench": "b", "task": "grounding", "video": "v.mp4", "question": "q", "cluster": "v"}
    samples = [
        Sample(id=f"b:{number}", clip=clip, **common)
        for number, clip in enumerate([None, (0.0, 1.0), None, (1.0, 2.0), (0.0, 1.0)])
    ]
    sizes = [(video.clip, len(video.samples)) for video in group_videos(samples)]
    assert sizes == [(None, 2), ((0.0, 1.0), 2), ((1.0, 2.0), 1)]


def test_another_run_may_not_use_the_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data), out=out, model=ConstantModel("A"))
    with pytest.raises(InputError, match=r"another run \(model: .*give another --out"):
        evaluate(settings(data), out=out, model=ConstantModel("B"))
    with pytest.raises(InputError, match="prompt style: official there, plain here"):
        evaluate(settings(data, prompt_style="plain"), out=out, model=ConstantModel("A"))
    with pytest.raises(InputError, match="is no result folder"):
        evaluate(settings(data), out=data, model=ConstantModel("A"))


def test_a_limit_draws_videos_and_a_larger_one_extends_the_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = evaluate(settings(data, limit=2), out=out, model=ConstantModel())
    assert few.metrics["limited"]
    assert few.metrics["num_videos"] == 2
    assert len(rows_of(out)) == 6
    model = TalkingModel("A")
    model.name, model.fingerprint = ConstantModel().name, ConstantModel().fingerprint
    model.gen_kwargs = ConstantModel().gen_kwargs
    whole = evaluate(settings(data, sampling=read_config(out).sampling), out=out, model=model)
    assert not whole.metrics["limited"]
    assert len(model.opened) == 2  # the other two were there
    assert len(rows_of(out)) == 12


def test_draws_are_seeded_nested_and_balanced() -> None:
    samples = [
        Sample(
            id=f"b:{v}:{q}",
            bench="b",
            task="grounding",
            video=f"{v}.mp4",
            question="q",
            cluster=str(v),
            tags={"duration": ("short", "medium", "long")[v % 3]},
        )
        for v in range(90)
        for q in range(2)
    ]
    drawn = draw_videos(samples, 30, 0)
    assert drawn == draw_videos(list(reversed(samples)), 30, 0)[::-1]
    assert drawn != draw_videos(samples, 30, 1)
    assert len(drawn) == 60
    kinds = [sample.tags["duration"] for sample in drawn]
    assert {kinds.count(kind) for kind in ("short", "medium", "long")} == {20}
    assert {s.cluster for s in draw_videos(samples, 12, 0)} < {s.cluster for s in drawn}
    assert len(draw_videos(samples, 0.1, 0)) == 18
    assert draw_videos(samples, None, 0) == samples
    assert draw_videos(samples, 1000, 0) == samples


@pytest.mark.parametrize("limit", [0, -1, 2.5])
def test_impossible_limits_are_refused(limit: float) -> None:
    with pytest.raises(InputError, match="neither a number of videos nor a share"):
        RunSettings(bench="toyworld", data="x", limit=limit)


def test_settings_survive_json(data: Path) -> None:
    given = settings(data, limit=0.5)
    assert RunSettings.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    with pytest.raises(InputError, match="unknown settings"):
        RunSettings.from_dict({**given.to_dict(), "colour": 1})


def test_the_default_folder_is_named_after_what_changes_replies(data: Path, tmp_path: Path) -> None:
    config = read_config(
        evaluate(settings(data), out=tmp_path / "out", model=ConstantModel("C")).folder
    )
    name = folder_name(config)
    assert name.startswith("toyworld-choice/constant-C-")
    other = evaluate(settings(data), out=tmp_path / "other", model=ConstantModel("D"))
    assert folder_name(read_config(other.folder)) != name


def test_an_unknown_split_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="no split 'nope'"):
        evaluate(settings(data, split="nope"), model=ConstantModel())


def test_repeated_ids_are_refused(data: Path, tmp_path: Path) -> None:
    path = data / "annotations.json"
    content = json.loads(path.read_text())
    content["videos"][1]["questions"][0]["id"] = content["videos"][0]["questions"][0]["id"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="1 sample ids repeat"):
        evaluate(settings(data), out=tmp_path / "out", model=ConstantModel())
