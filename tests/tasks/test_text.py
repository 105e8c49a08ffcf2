import random
import subprocess
import sys

import pytest

from timevlm.tasks.text import answers_match, normalize_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Red  Circle. ", "red circle"),
        ("RED!?", "red"),
        ("\uff32\uff25\uff24\uff01", "red"),
        ("C++", "c++"),
        ("50%", "50%"),
        ("no . ", "no"),
        ("...", "..."),
        ("\t\n", ""),
        ("3.5", "3.5"),
    ],
)
def test_normal_form(text, expected):
    assert normalize_answer(text) == expected


def test_normalising_twice_changes_nothing():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(6)))
        text += rng.choice(["", ".", " !", "\u0130", "\u3002"])
        once = normalize_answer(text)
        assert normalize_answer(once) == once


def test_match_ignores_case_and_punctuation_but_not_words():
    assert answers_match("Red.", "red")
    assert not answers_match("red", "redder")


def test_tasks_do_not_import_torch_or_transformers():
    code = (
        "import sys, timevlm.tasks.captioning, timevlm.tasks.grammar, timevlm.tasks.qa;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
