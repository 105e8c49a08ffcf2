"""What was wrong is asked more often."""

import json

import pytest

from timevlm.errors import InputError
from timevlm.training.focus import weak_kinds


def score(mean, count):
    return {"mean": mean, "low": 0.0, "high": 1.0, "count": count}


def test_kinds_weigh_by_what_was_wrong_questions_and_queries_alike(tmp_path):
    kinds = {
        "questions": {"count.blinks": score(0.3, 10), "scene.nth": score(1.0, 98)},
        "grounding mIoU": {"still": score(0.25, 8)},
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"kinds": kinds}))
    assert weak_kinds(path) == pytest.approx(
        {"count.blinks": 8 / 12, "scene.nth": 0.01, "still": 0.7}
    )
    del kinds["grounding mIoU"]
    path.write_text(json.dumps({"kinds": kinds}))
    assert set(weak_kinds(path)) == {"count.blinks", "scene.nth"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kinds": {}}', '{"kinds": {"questions": 1}}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no result of"):
        weak_kinds(path)
