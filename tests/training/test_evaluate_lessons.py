"""What vision tokens know, counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import save_tiny, tiny_processor
from timevlm import TimeVLM
from timevlm.errors import InputError
from timevlm.training.batches import BatchConfig
from timevlm.training.checkpoint import Progress, save_checkpoint
from timevlm.training.evaluate_lessons import count_answers, lesson_counts, lesson_scores
from timevlm.training.kinds import BASIC, FULL, MOVE_SIZE
from timevlm.training.objective import AnswerObjective
from timevlm.training.tracks import target_parts

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "eval_nano_lessons.py"
CONFIG = BatchConfig(num_videos=1, turns_per_video=1, max_frames=6)


def no_counts(kinds):
    return {name: torch.zeros(n, n, dtype=torch.long) for name, n in kinds.lessons.items()}


def test_counts_equal_a_loop_over_tokens():
    torch.manual_seed(0)
    sizes = [*FULL.track_sizes, MOVE_SIZE]
    targets, said = (torch.rand(2, 5, sum(sizes)) for _ in range(2))
    counts = no_counts(FULL)
    count_answers(counts, target_parts(targets, FULL), target_parts(said, FULL))
    expected = no_counts(FULL)
    for wanted, logits in zip(targets.flatten(0, 1), said.flatten(0, 1), strict=True):
        parts = zip(wanted.split(sizes), logits.split(sizes), strict=True)
        for count, (share, guess) in zip(expected.values(), parts, strict=False):
            if share.max() > 0.5:
                count[int(share.argmax()), int(guess.argmax())] += 1
    assert all(torch.equal(counts[name], expected[name]) for name in expected)


def test_scores_are_shares_of_what_is_shown():
    counts = no_counts(FULL)
    light, none = counts["light"], len(FULL.lights)
    light[0, 0], light[0, none], light[1, 2] = 6, 2, 1
    light[none, none], light[none, 1] = 15, 5
    score = lesson_scores(counts, FULL)["light"]
    assert (score["shown"], score["none"]) == (9, 20)
    assert score["right"] == pytest.approx(6 / 9)
    assert score["false"] == 0.25
    first, second = (score["classes"][name] for name in FULL.lights[:2])
    assert first == {"shown": 8, "right": 0.75, "mistaken": "none"}
    assert second == {"shown": 1, "right": 0.0, "mistaken": FULL.lights[2]}
    nothing = lesson_scores(counts, FULL)["shape"]
    assert nothing["right"] is None
    assert nothing["false"] is None


@pytest.fixture
def trained(tmp_path):
    """A tiny model, and the folder of the run that it could be from."""
    save_tiny(tmp_path / "export")
    vlm = TimeVLM.from_pretrained(tmp_path / "export")
    objective = AnswerObjective(vlm.model, tiny_processor().prefix_ids())
    optimizer = torch.optim.AdamW(objective.parameters())
    save_checkpoint(tmp_path / "run" / "answers", objective, optimizer, Progress(phase="answers"))
    return vlm, tmp_path / "run", objective.tracks


def test_the_head_that_was_trained_is_asked(trained):
    vlm, run, head = trained
    heard = []
    counts = lesson_counts(vlm, run, CONFIG, num_steps=2, on_step=heard.append)
    assert heard == [1, 2]
    assert all(int(count.sum()) > 0 for count in counts.values())
    with torch.no_grad():  # a head that says "red" of everything
        head.head.weight.zero_()
        head.head.bias.zero_()
        head.head.bias[BASIC.lessons["shape"]] = 1.0
    path = run / "answers"
    objective = AnswerObjective(vlm.model, tiny_processor().prefix_ids(), tracks=head)
    optimizer = torch.optim.AdamW(objective.parameters())
    save_checkpoint(path, objective, optimizer, Progress(phase="answers"))
    counts = lesson_counts(vlm, run, CONFIG, num_steps=2)
    assert int(counts["colour"][:, 1:].sum()) == 0
    assert int(counts["colour"][:, 0].sum()) > 0
    with pytest.raises(InputError, match="of another size"):
        lesson_counts(vlm, run, BatchConfig(level="full", num_videos=1), num_steps=1)


def test_the_script_prints_tables_and_one_line(trained, tmp_path):
    command = [sys.executable, SCRIPT, "--model", tmp_path / "export", "--run", tmp_path / "run"]
    command += ["--videos", "1", "--fps", "0.2", "--classes", "motion"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, line = done.stdout.splitlines()
    report = json.loads(line)
    assert set(report["lessons"]) == set(BASIC.lessons)
    assert "mistaken for" in done.stdout
    command[command.index(tmp_path / "run")] = tmp_path / "nowhere"
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("error: no checkpoint")
