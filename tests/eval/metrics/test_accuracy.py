import pytest

from eval.metrics.accuracy import Outcome, accuracy, accuracy_tables, breakdown, counts, outcome
from timevlm.errors import InputError


def make(score, *, parsed=True, failed=False, cluster="v", **tags):
    return Outcome(score=score, parsed=parsed, failed=failed, cluster=cluster, tags=tags)


def test_unparsed_and_failed_are_wrong_and_shown():
    outcomes = [
        make(1, cluster="a"),
        make(0, cluster="b"),
        make(0, parsed=False, cluster="c"),
        make(None, parsed=False, failed=True, cluster="d"),
    ]
    found = accuracy(outcomes)
    assert found["value"] == 25.0
    assert found["low"] <= 25.0 <= found["high"]
    numbers = {"n_total": 4, "n_answered": 2, "n_unparsed": 1, "n_error": 1}
    assert counts(outcomes) == numbers
    assert {key: found[key] for key in numbers} == numbers
    assert accuracy(outcomes, "answered")["value"] == 50.0


def test_one_video_has_no_interval():
    found = accuracy([make(1, cluster="a"), make(0, cluster="a")])
    assert (found["value"], found["low"], found["high"]) == (50.0, None, None)
    assert (found["n"], found["num_videos"]) == (2, 1)
    several = accuracy([make(1, cluster="a"), make(0, cluster="b")])
    assert several["num_videos"] == 2
    assert several["low"] < several["high"]


def test_a_score_never_survives_an_error_or_an_unread_reply():
    assert accuracy([make(1, failed=True)])["value"] == 0.0
    assert accuracy([make(1, parsed=False)])["value"] == 0.0


def test_a_question_with_two_labels_counts_once_or_twice():
    outcomes = [
        make(1, cluster="a", types=["grounding", "counting"]),
        make(0, cluster="b", types=["grounding"]),
    ]
    assert accuracy(outcomes)["value"] == 50.0
    weighted = accuracy(outcomes, "label_weighted", tag="types")
    assert weighted["value"] == pytest.approx(200 / 3)
    assert (weighted["n"], weighted["n_total"]) == (3, 2)
    groups = breakdown(outcomes, "types")
    assert {name: group["value"] for name, group in groups.items()} == {
        "grounding": 50.0,
        "counting": 100.0,
    }
    twice = make(1, types=["counting", "counting"])
    assert accuracy([twice], "label_weighted", tag="types")["n"] == 1


def test_macro_differs_from_micro():
    outcomes = [make(1, cluster=f"p{i}", task="plot") for i in range(8)]
    outcomes += [make(0, cluster=f"e{i}", task="ego") for i in range(2)]
    assert accuracy(outcomes)["value"] == 80.0
    macro = accuracy(outcomes, "macro", tag="task")
    assert macro["value"] == 50.0
    assert macro["low"] <= 50.0 <= macro["high"]


def test_timeviper_mlvu_number_is_the_micro_mean():
    outcomes = [make(float(i < 1427), cluster=str(i)) for i in range(2174)]
    assert round(accuracy(outcomes)["value"], 2) == 65.64


def test_hidden_golds_are_counted_but_not_scored():
    hidden = [make(None), make(None)]
    assert accuracy(hidden)["value"] is None
    assert accuracy(hidden)["n_total"] == 2
    assert accuracy([*hidden, make(1)])["value"] == 100.0
    assert accuracy([])["value"] is None


def test_tables_have_the_tags_that_occur():
    outcomes = [make(1, duration="short"), make(0, duration="long")]
    tables = accuracy_tables(outcomes, ["duration", "category"])
    assert list(tables) == ["overall", "by duration"]
    assert tables["by duration"]["long"]["value"] == 0.0
    assert tables["by duration"]["long"]["n_total"] == 1


def test_rows_become_outcomes():
    row = {"score": 1.0, "parsed": 0, "error": None, "cluster": "v", "tags": {"task": "a"}}
    assert outcome(row).points == 1.0  # option 0 is an answer
    assert outcome({**row, "parsed": None}).points == 0.0
    assert outcome({**row, "error": "no such file"}).points == 0.0


def test_an_average_over_groups_needs_a_tag():
    with pytest.raises(InputError, match="the macro average needs a tag"):
        accuracy([make(1)], "macro")
