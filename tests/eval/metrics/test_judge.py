import json

import pytest

from eval.metrics.judge import Judge, JudgeConfig, JudgeError, JudgeRequest, ReplyCache
from tests.eval.metrics.judge_server import Step, judge_server
from timevlm.errors import InputError


def echo(messages):
    return f"re: {messages[-1]['content']}"


def request(text, version="v1"):
    return JudgeRequest(messages=[{"role": "user", "content": text}], prompt_version=version)


def config(server, **changes):
    settings = {
        "base_url": server.url,
        "model": "judge-1",
        "backoff_seconds": 0.01,
        "timeout_seconds": 5.0,
    }
    return JudgeConfig(**{**settings, **changes})


def test_scores_bear_the_models_name_without_its_owner():
    for model in ("org/judge-8b", "judge-8b"):
        judge = Judge(JudgeConfig(base_url="http://localhost/v1", model=model))
        assert (judge.name, judge.config.model) == ("judge-8b", model)


def test_replies_come_in_order_and_in_parallel():
    with judge_server(echo) as server:
        server.script = [Step(sleep_seconds=0.3)] * 8
        replies = Judge(config(server, concurrency=4)).ask_all([request(str(i)) for i in range(20)])
        assert replies == [f"re: {i}" for i in range(20)]
        assert 2 <= server.most_at_once <= 4
        call = server.calls[0]
        assert (call["model"], call["temperature"], call["max_tokens"]) == ("judge-1", 0.0, 256)
        assert server.authorizations[0] is None


@pytest.mark.parametrize(
    "steps",
    [
        [Step(status=429, headers={"Retry-After": "0.05"})],
        [Step(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})],
        [Step(status=500), Step(status=503), Step(status=502)],
        [Step(body=b"this is no JSON")],
        [Step(body=b'{"choices": []}')],
        [Step(body=b'{"choices": [{"message": {"content": null}}]}')],
        [Step(drop=True)],
    ],
)
def test_what_may_pass_is_tried_again(steps):
    with judge_server(echo) as server:
        server.script = list(steps)
        assert Judge(config(server)).ask_all([request("a")]) == ["re: a"]
        assert len(server.calls) == len(steps) + 1


def test_a_slow_reply_is_given_up_and_asked_again():
    with judge_server(echo) as server:
        server.script = [Step(sleep_seconds=1.5)]
        judge = Judge(config(server, timeout_seconds=0.3))
        assert judge.ask_all([request("a")]) == ["re: a"]
        assert len(server.calls) == 2


def test_a_refusal_stops_at_once_and_says_why():
    with judge_server(echo) as server:
        server.script = [Step(status=401, body=b'{"error": "no such key"}')] * 9
        with pytest.raises(
            JudgeError, match=r"HTTP 401.*no such key.*check base_url, model and key"
        ):
            Judge(config(server, concurrency=1)).ask_all([request(str(i)) for i in range(50)])
        assert len(server.calls) < 10


def test_a_redirect_is_not_followed_with_the_key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-123")
    with judge_server(echo) as other, judge_server(echo) as server:
        server.script = [Step(status=302, headers={"Location": other.url})]
        with pytest.raises(JudgeError, match="HTTP 302") as failure:
            Judge(config(server, api_key_env="JUDGE_KEY")).ask_all([request("a")])
        assert server.authorizations == ["Bearer secret-123"]
        assert other.calls == []
        assert "secret" not in str(failure.value)


def test_an_endpoint_that_stays_away_is_an_error_after_all_retries():
    with judge_server(echo) as server:
        server.script = [Step(status=500)] * 3
        with pytest.raises(
            JudgeError, match=r"did not answer in 3 attempts \(HTTP 500\); run again"
        ):
            Judge(config(server, max_attempts=3)).ask_all([request("a")])
    gone = JudgeConfig(
        base_url=server.url, model="m", max_attempts=2, backoff_seconds=0, timeout_seconds=1
    )
    with pytest.raises(JudgeError, match="did not answer in 2 attempts"):
        Judge(gone).ask_all([request("a")])


def test_unacceptable_replies_end_as_none_and_are_not_kept(tmp_path):
    with judge_server(echo) as server:
        judge = Judge(config(server, max_attempts=3, cache=tmp_path / "cache.jsonl"))
        assert judge.ask_all([request("a")], accept=lambda text: "b" in text) == [None]
        assert len(server.calls) == 3
        assert judge.ask_all([request("a")]) == ["re: a"]
        assert len(server.calls) == 4


def test_a_second_run_asks_nothing_and_a_third_only_what_is_new(tmp_path):
    cache = tmp_path / "deep" / "cache.jsonl"
    with judge_server(echo) as server:
        Judge(config(server, cache=cache)).ask_all([request("a"), request("b"), request("a")])
        assert len(server.calls) == 2  # equal requests are asked once
        judge = Judge(config(server, cache=cache))
        assert judge.ask_all([request("a"), request("b")]) == ["re: a", "re: b"]
        assert len(server.calls) == 2
        judge.ask_all([request("a"), request("c"), request("a", version="v2")])
        assert len(server.calls) == 4
        Judge(config(server, cache=cache, model="judge-2")).ask_all([request("a")])
        assert len(server.calls) == 5


def test_a_run_that_breaks_off_goes_on_from_its_cache(tmp_path):
    cache = tmp_path / "cache.jsonl"
    asked = [request(str(i)) for i in range(10)]
    with judge_server(echo) as server:
        server.script = [Step()] * 6 + [Step(status=403)] * 99
        settings = config(server, cache=cache, concurrency=1)
        with pytest.raises(JudgeError, match="HTTP 403"):
            Judge(settings).ask_all(asked)
        with cache.open("ab") as file:
            file.write(b'{"key": "torn')  # killed while writing
        server.script, server.calls = [], []
        assert Judge(settings).ask_all(asked) == [f"re: {i}" for i in range(10)]
        assert len(server.calls) == 4


def test_the_cache_file_survives_other_lines_and_other_writers(tmp_path):
    path = tmp_path / "cache.jsonl"
    path.write_bytes(b'not json\n{"other": 1}\n[]\n{"key": "k", "reply": "r", "model": "m"}\n{"ke')
    first, second = ReplyCache(path), ReplyCache(path)
    assert first.get("k") == "r"
    first.put("x", "1", "m")
    second.put("y", "2\u2028", "m")
    first.close()
    second.close()
    third = ReplyCache(path)
    assert (len(third), third.get("x"), third.get("y")) == (3, "1", "2\u2028")
    third.close()
    kept = [json.loads(line) for line in path.read_text().splitlines()[-2:]]
    assert [record["reply"] for record in kept] == ["1", "2\u2028"]


def test_progress_is_told():
    seen = []
    with judge_server(echo) as server:
        Judge(config(server)).ask_all(
            [request(str(i)) for i in range(3)],
            on_reply=lambda done, total: seen.append((done, total)),
        )
    assert sorted(seen) == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "localhost:3000"}, "it looks like http://localhost:30000/v1"),
        ({"base_url": "file:///etc/passwd"}, "judge base_url is 'file"),
        ({"model": ""}, "no model name"),
        ({"concurrency": 0}, "judge concurrency is 0; use 1 or more"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"api_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE, which is not set; export it"),
    ],
)
def test_a_config_that_cannot_work_is_refused(changes, message):
    settings = {"base_url": "http://localhost:1/v1", "model": "m", **changes}
    with pytest.raises(InputError, match=message):
        JudgeConfig(**settings)
