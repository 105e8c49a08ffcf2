"""What vision tokens know: the answers of a run's head of tracks, counted lesson by lesson.

A question can only be answered from what the tokens that wait for it know. Where tokens are wrong,
no lesson about where to look will help; where they are right, only that can.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from timevlm.api import TimeVLM
from timevlm.training.batches import BatchConfig, make_batch, sample_videos
from timevlm.training.checkpoint import read_part
from timevlm.training.evaluate_tables import percent
from timevlm.training.kinds import Kinds
from timevlm.training.labels import patch_labels
from timevlm.training.objective import AnswerObjective
from timevlm.training.tracks import FULLY_SHOWN, TrackHead, target_parts


def lesson_counts(
    vlm: TimeVLM,
    run: Path,
    config: BatchConfig,
    *,
    num_steps: int,
    split: str = "val",
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, Tensor]:
    """How often tokens of each class (rows) are said to be of each (columns).

    By lesson of `config.kinds`, (classes, classes) int64, the last class being none, over the
    videos of `num_steps` steps; `on_step` hears how many are done. `run` is the folder of the run
    that made the model. Raises InputError if it has no head of tracks, or one of another level.
    """
    head = TrackHead(vlm.model.config.llm.hidden_size, config.kinds)
    head.take_over(read_part(run / "answers", "tracks"))
    objective = AnswerObjective(vlm.model, vlm.processor.prefix_ids(), config.kinds, head)
    counts = {name: torch.zeros(n, n, dtype=torch.long) for name, n in config.kinds.lessons.items()}
    for step in range(num_steps):
        samples = sample_videos(config, step, split=split)
        batch = make_batch(config, vlm.processor, samples, size=vlm.frame_size, seed=step)
        labels = patch_labels(samples, vlm.model.config.patch_grid[0], outline=False)
        with torch.inference_mode():
            tracked = objective.watch_tracking(batch, labels)
            said = head.answers(tracked.tokens)
        count_answers(counts, target_parts(tracked.targets, config.kinds), said)
        on_step(step + 1)
    return counts


def count_answers(
    counts: dict[str, Tensor], targets: Sequence[Tensor], said: Sequence[Tensor]
) -> None:
    """Add tokens (V, L) with these targets and logits, as `target_parts` gives them, to the counts.

    Tokens that are not clearly of one class are left out.
    """
    for count, wanted, logits in zip(counts.values(), targets[:-1], said[:-1], strict=True):
        share, true = wanted.max(dim=-1)
        code = true * len(count) + logits.argmax(dim=-1)
        count += code[share > FULLY_SHOWN].bincount(minlength=count.numel()).view_as(count)


def lesson_scores(counts: dict[str, Tensor], kinds: Kinds) -> dict[str, dict[str, Any]]:
    """Of each lesson and of each of its classes: how many tokens show it, and the share right.

    "false" is the share of the tokens of none that are said to be of a class; "mistaken" what a
    class is most often taken for where it is not seen. Shares of nothing are None.
    """
    return {
        lesson: {
            **_row(counts[lesson][:-1].sum(), counts[lesson][:-1].trace()),
            "none": int(counts[lesson][-1].sum()),
            "false": _share(counts[lesson][-1, :-1].sum(), counts[lesson][-1].sum()),
            "classes": {
                name: {
                    **_row(counts[lesson][i].sum(), counts[lesson][i, i]),
                    "mistaken": _mistaken(counts[lesson][i], i, (*names, "none")),
                }
                for i, name in enumerate(names)
            },
        }
        for lesson, names in kinds.lesson_names.items()
    }


def _row(shown: Tensor, right: Tensor) -> dict[str, Any]:
    return {"shown": int(shown), "right": _share(right, shown)}


def _share(part: Tensor, whole: Tensor) -> float | None:
    return float(part / whole) if whole else None


def _mistaken(said: Tensor, own: int, names: tuple[str, ...]) -> str | None:
    others = said.clone()
    others[own] = 0
    return names[int(others.argmax())] if others.any() else None


def lesson_tables(scores: dict[str, dict[str, Any]], lessons: list[str]) -> list[Table]:
    """Tables of all lessons, and of the classes of those that are named."""
    all_of = Table(title="lessons of vision tokens", title_justify="left")
    for name in ("", "shown", "right %", "none", "false %"):
        all_of.add_column(name, justify="right" if name else "left")
    for lesson, row in scores.items():
        counted = (str(row["shown"]), percent(row["right"]), str(row["none"]))
        all_of.add_row(lesson, *counted, percent(row["false"]))
    tables = [all_of]
    for lesson in lessons:
        table = Table(title=lesson, title_justify="left")
        for name in ("", "shown", "right %", "mistaken for"):
            table.add_column(name, justify="right" if name else "left")
        for name, row in scores[lesson]["classes"].items():
            table.add_row(name, str(row["shown"]), percent(row["right"]), row["mistaken"] or "-")
        tables.append(table)
    return tables
