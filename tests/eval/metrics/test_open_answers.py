import pytest

from eval.metrics.judge import Judge, JudgeConfig
from eval.metrics.open_answers import ASPECTS, OpenAnswer, grade_answers, parse_grades
from tests.eval.metrics.judge_server import judge_server
from timevlm.errors import InputError

NAMES = ("accuracy", "relevance")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"accuracy": 4, "relevance": 5}', (4.0, 5.0)),
        ("Here: {'Accuracy': '3.5', 'relevance': 1} as asked", (3.5, 1.0)),
        ('{"accuracy": 4}', None),
        ('{"accuracy": 0, "relevance": 5}', None),
        ('{"accuracy": 4, "relevance": 6}', None),
        ('{"accuracy": "good", "relevance": 5}', None),
        ('{"accuracy": NaN, "relevance": 5}', None),
        ("4 and 5", None),
        ("", None),
    ],
)
def test_grades_of_a_reply(text, expected):
    found = parse_grades(text, NAMES)
    assert (None if found is None else tuple(found[name] for name in NAMES)) == expected


def answer(text, task="sub_scene", **changes):
    common = {"question": "What does he do?", "reference": "He bakes.", "points": ("bakes",)}
    return OpenAnswer(task=task, answer=text, **{**common, **changes})


def reply(messages):
    text = messages[-1]["content"]
    if "odd" in text:
        return "no idea"
    names = ASPECTS["summary" if "completeness" in text else "sub_scene"]
    grades = (5, 4) if "bread" in text else (2, 1)
    return str(dict(zip(names, grades, strict=True)))


def test_both_tasks_are_graded_in_order_and_what_is_missing_is_worst():
    answers = [answer("bread"), answer("bread", task="summary"), answer(" "), answer("odd")]
    with judge_server(reply) as server:
        config = JudgeConfig(base_url=server.url, model="j", max_attempts=2)
        found = grade_answers([*answers, answer("stone")], Judge(config))
        texts = [call["messages"][-1]["content"] for call in server.calls]
    assert [item.total for item in found] == [9.0, 9.0, 2.0, 2.0, 3.0]
    assert [item.share for item in found] == [7 / 8, 7 / 8, 0.0, 0.0, 1 / 8]
    assert [item.parsed for item in found] == [True, True, True, False, True]
    assert set(found[1].aspects) == {"completeness", "reliability"}
    # Nothing was asked about the blank answer, twice about the one that was graded unreadably.
    assert len(texts) == 3 + 2
    assert all("- bakes" in text for text in texts)
    assert all("He bakes." in text for text in texts)


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="graded are sub_scene, summary"):
        grade_answers(
            [answer("x", task="poem")], Judge(JudgeConfig(base_url="http://x", model="j"))
        )
