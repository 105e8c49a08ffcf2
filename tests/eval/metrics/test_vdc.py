import json

import pytest

from eval.metrics.judge import Judge, JudgeConfig
from eval.metrics.vdc import (
    DEFAULT_PROMPTS,
    VDC_TASKS,
    CaptionedVideo,
    JudgedVideo,
    JudgePrompts,
    Verdict,
    judge_captions,
    parse_verdict,
    task_score,
    vdc_score,
)
from tests.eval.metrics.judge_server import Step, judge_server
from timevlm.errors import InputError

KITE = {"question": "What colour is the kite?", "answer": "yellow"}
DOG = {"question": "Who runs along?", "answer": "a dog {question}"}


def literal_judge(messages):
    """Answers with the caption, and finds an answer right if the correct one is in it."""
    text = messages[-1]["content"]
    if "Correct answer: " not in text:
        return text.split("Description of the video:\n")[1].split("\n\nQuestion")[0]
    correct = text.split("Correct answer: ")[1].split("\n")[0]
    predicted = text.split("Given answer: ")[1].split("\n")[0]
    return "{'pred': 'yes', 'score': 4.8}" if correct in predicted else '{"pred":"no","score":1}'


def judge_at(server, **changes):
    return Judge(JudgeConfig(base_url=server.url, model="judge-1", backoff_seconds=0.01, **changes))


def test_two_steps_for_every_question():
    videos = [
        CaptionedVideo(video_id="a", caption="a yellow kite and {answer}", questions=[KITE, DOG]),
        CaptionedVideo(video_id="b", caption="a dog {question} runs", questions=[DOG]),
        CaptionedVideo(video_id="c", caption=" ", questions=[KITE, DOG]),
    ]
    with judge_server(literal_judge) as server:
        judged = judge_captions(videos, judge_at(server))
        assert len(server.calls) == 6
    assert [(v.video_id, v.accuracy, v.score) for v in judged] == [
        ("a", 0.5, pytest.approx(2.9)),
        ("b", 1.0, pytest.approx(4.8)),
        ("c", 0.0, 0.0),
    ]
    assert judged[0].answers == ("a yellow kite and {answer}",) * 2
    assert len(judged[2].verdicts) == len(judged[2].answers) == 2


def test_unreadable_verdicts_count_as_wrong_and_are_counted():
    def mumble(messages):
        return "hm" if "Correct answer: " in messages[-1]["content"] else "yellow"

    with judge_server(mumble) as server:
        video = CaptionedVideo(video_id="a", caption="x", questions=[KITE])
        judged = judge_captions([video], judge_at(server, max_attempts=2))
        assert len(server.calls) == 3
    assert (judged[0].accuracy, judged[0].score, judged[0].num_unparsed) == (0.0, 0.0, 1)


def test_a_judge_with_bad_days_gives_the_same_score(tmp_path):
    videos = [
        CaptionedVideo(video_id=str(i), caption="yellow kite" if i % 3 else "sea", questions=[KITE])
        for i in range(12)
    ]
    with judge_server(literal_judge) as server:
        clean = judge_captions(videos, judge_at(server))
        server.script = [
            *(Step(status=429), Step(status=500), Step(body=b"{"), Step(drop=True)),
            *(Step(body=b'{"choices":[{"message":{"content":""}}]}'), Step(sleep_seconds=0.05)),
        ]
        assert judge_captions(videos, judge_at(server, cache=tmp_path / "c.jsonl")) == clean
        calls = len(server.calls)
        assert judge_captions(videos, judge_at(server, cache=tmp_path / "c.jsonl")) == clean
        assert len(server.calls) == calls


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("{'pred': 'yes', 'score': 5}", (True, 5.0)),
        ('{"pred": "no", "score": 0}', (False, 0.0)),
        ("{'pred': 'yes', 'score': 4.8}.", (True, 4.8)),
        ('```json\n{"pred": "Yes", "score": "3"}\n```', (True, 3.0)),
        ("{'pred': True, 'score': 2}", (True, 2.0)),
        ("{'Pred': 'no', 'Score': 1}", (False, 1.0)),
        ("{pred: yes, score: 4}", (True, 4.0)),
        ("pred: no\nscore: 2", (False, 2.0)),
        ("The dictionary is {'pred': 'no', 'score': 1.5} because ...", (False, 1.5)),
        ("{'pred': 'yes', 'score': 7}", None),
        ("{'pred': 'yes', 'score': -1}", None),
        ("pred: yes, score: -3", None),
        ("{'pred': 'yes', 'score': nan}", None),
        ("{'pred': 'maybe', 'score': 3}", None),
        ("{'pred': 'yes'}", None),
        ("yes", None),
        ("", None),
        ("{" * 500, None),
    ],
)
def test_verdicts(text, verdict):
    expected = None if verdict is None else Verdict(correct=verdict[0], score=verdict[1])
    assert parse_verdict(text) == expected


def judged(accuracy, score, num_unparsed=0):
    verdict = Verdict(correct=True, score=5.0)
    return JudgedVideo(
        video_id="v",
        accuracy=accuracy,
        score=score,
        verdicts=(verdict,) * 10,
        answers=("x",) * 10,
        num_unparsed=num_unparsed,
    )


def test_a_task_is_the_mean_over_videos_and_the_published_script_drops_zeros():
    videos = [judged(0.5, 2.0), judged(0.0, 0.0, 3), judged(0.1, 0.0)]
    plain = task_score(videos)
    assert plain["accuracy"] == pytest.approx(20.0)
    assert plain["score"] == pytest.approx(2 / 3)
    assert (plain["n_videos"], plain["n_questions"], plain["n_unparsed"]) == (3, 30, 3)
    official = task_score(videos, compat_official=True)
    assert (official["accuracy"], official["score"], official["n_videos"]) == (50.0, 2.0, 1)
    with pytest.raises(InputError, match="no judged video is left"):
        task_score([judged(0.0, 0.0)], compat_official=True)


def test_vdcscore_is_the_mean_of_all_five_tasks():
    tasks = {task: {"accuracy": 10.0 * i, "score": float(i)} for i, task in enumerate(VDC_TASKS)}
    assert vdc_score(tasks) == {"accuracy": 20.0, "score": 2.0}
    with pytest.raises(InputError, match="got detailed"):
        vdc_score({"detailed": {"accuracy": 1.0, "score": 1.0}})


def test_prompts_can_be_replaced(tmp_path):
    path = tmp_path / "prompts.json"
    data = {name: getattr(DEFAULT_PROMPTS, name) for name in JudgePrompts.__dataclass_fields__}
    path.write_text(json.dumps({**data, "version": "paper"}))
    assert JudgePrompts.from_json(path).version == "paper"
    path.write_text(json.dumps({**data, "answer_user": "Q: {question}"}))
    with pytest.raises(InputError, match=r"answer_user lacks \{caption\}"):
        JudgePrompts.from_json(path)
    path.write_text('{"version": "x"}')
    with pytest.raises(InputError, match="cannot read judge prompts from"):
        JudgePrompts.from_json(path)
    with pytest.raises(InputError, match="cannot read judge prompts from"):
        JudgePrompts.from_json(tmp_path / "absent.json")


def test_a_video_without_questions_is_refused():
    with judge_server(literal_judge) as server, pytest.raises(InputError, match="no questions"):
        judge_captions([CaptionedVideo(video_id="a", caption="x", questions=[])], judge_at(server))
