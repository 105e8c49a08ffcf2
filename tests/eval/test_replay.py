import json
from pathlib import Path

import pytest

from eval.models.baselines import BlindModel, ConstantModel
from eval.replay import compare, replay, rescore
from eval.runner import evaluate
from tests.eval.runs import TalkingModel, make_toyworld, settings
from timevlm.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_toyworld(tmp_path / "data", num_videos=8)


def test_a_replay_of_the_same_model_gives_the_same(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data, split="all", limit=5), out=out, model=ConstantModel())
    found = replay(out, model=ConstantModel())
    assert (found["num_samples"], found["num_different"]) == (25, 0)
    assert found["differences"] == found["settings"] == found["versions"] == []
    assert found["replay"] == str(tmp_path / "out-replay")


def test_every_replay_answers_anew(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data), out=out, model=TalkingModel("The answer is B."))
    assert replay(out, model=TalkingModel("The answer is B."))["num_different"] == 0
    again = replay(out, model=TalkingModel("The answer is C."))
    assert again["replay"] == str(tmp_path / "out-replay-2")
    assert again["num_different"] == 24
    with pytest.raises(InputError, match="nothing would run"):
        replay(out, out=tmp_path / "out-replay", model=TalkingModel("The answer is B."))


def test_a_replay_says_what_differs(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data), out=out, model=TalkingModel("The answer is B."))
    process = next((out / "processes").glob("*.json"))
    note = json.loads(process.read_text())
    note["versions"]["torch"] = "1.0"
    process.write_text(json.dumps(note))
    other = TalkingModel(lambda s: "C" if s.id == "toyworld:test:003-q1" else "The answer is B.")
    found = replay(out, out=tmp_path / "again", model=other)
    assert found["num_different"] == 1
    (entry,) = found["differences"]
    assert entry["id"] == "toyworld:test:003-q1"
    assert entry["changed"]["raw"] == ["The answer is B.", "C"]
    assert entry["changed"]["parsed"] == [1, 2]
    assert found["versions"][0].startswith("torch: 1.0 then, ")


def test_a_replay_names_another_model_and_moved_data(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data), out=out, model=ConstantModel("A"))
    moved = data.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="holds no annotations"):
        replay(out, model=ConstantModel("B"))
    found = replay(out, data=str(moved), model=ConstantModel("B"))
    assert found["num_different"] == 24
    assert found["settings"][0].startswith("model: ('constant:A'")


def test_a_replay_needs_a_folder_of_its_own(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data), out=tmp_path / "out", model=ConstantModel())
    with pytest.raises(InputError, match="is the result itself"):
        replay(tmp_path / "out", out=tmp_path / "out", model=ConstantModel())
    with pytest.raises(InputError, match="is no result folder"):
        replay(data)


def test_rescoring_reads_the_replies_by_other_rules(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = evaluate(settings(data), out=out, model=TalkingModel("(b)"))
    accuracy = first.metrics["tables"]["overall"][0]["value"]
    assert accuracy == pytest.approx(25.0)
    # The shared extractor of lmms-eval does not know a lower-case letter in brackets.
    assert rescore(out, rules="lmms")["tables"]["overall"][0]["value"] == 0.0
    assert rescore(out)["tables"] == first.metrics["tables"]
    assert json.loads((out / "metrics.json").read_text())["extract"] == "ours"


def test_rescoring_an_unfinished_run_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data), out=out, model=ConstantModel())
    (out / "predictions.jsonl").unlink()
    with pytest.raises(InputError, match="run the same command again"):
        rescore(out)


def test_comparison_of_a_model_with_itself_and_with_a_better_one(
    data: Path, tmp_path: Path
) -> None:
    for name, model in (("a", ConstantModel("A")), ("b", BlindModel())):
        evaluate(settings(data, split="all"), out=tmp_path / name, model=model)
    perfect = TalkingModel(lambda s: "ABCD"[s.gold] if s.task == "choice" else "1 to 3")
    evaluate(settings(data, split="all"), out=tmp_path / "c", model=perfect)
    same = compare(tmp_path / "a", tmp_path / "a")
    assert same["num_common"] >= 32
    assert same["tasks"]["choice"]["difference"] == 0.0
    assert same["tasks"]["choice"]["mcnemar"]["p_value"] == 1.0
    better = compare(tmp_path / "a", tmp_path / "c")
    choice = better["tasks"]["choice"]
    assert (choice["a"], choice["b"]) == (pytest.approx(25.0), 100.0)
    assert choice["difference"] == pytest.approx(75.0)
    assert choice["low"] > 0
    assert choice["p_value"] < 0.05
    assert (choice["num_samples"], choice["num_clusters"]) == (24, 8)
    assert better["tasks"]["grounding"]["difference"] == pytest.approx(50.0)
    assert "mcnemar" not in better["tasks"]["grounding"]
    worse = compare(tmp_path / "c", tmp_path / "a")["tasks"]["choice"]
    assert worse["difference"] == -choice["difference"]


def test_only_common_questions_are_compared(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data, limit=3), out=tmp_path / "a", model=ConstantModel("A"))
    evaluate(settings(data), out=tmp_path / "b", model=ConstantModel("B"))
    assert compare(tmp_path / "a", tmp_path / "b")["num_common"] == 9
    evaluate(settings(data, split="grounding"), out=tmp_path / "g", model=ConstantModel("B"))
    with pytest.raises(InputError, match="no scored question in common"):
        compare(tmp_path / "a", tmp_path / "g")
