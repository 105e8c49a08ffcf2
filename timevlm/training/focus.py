"""Which kinds of questions and queries to ask more often: those that an evaluation got wrong."""

import json
from pathlib import Path

from timevlm.errors import InputError


def weak_kinds(path: Path) -> dict[str, float]:
    """How often to ask each kind, from the JSON of `scripts/eval_nano.py`: the less was right.

    As if of each kind one more was right and one more wrong, so that few say little. Queries weigh
    by their mean IoU, where the result has it. Raises InputError for any other file.
    """
    try:
        kinds = json.loads(path.read_text())["kinds"]
        return {
            kind: ((1.0 - score["mean"]) * score["count"] + 1.0) / (score["count"] + 2.0)
            for of_table in (kinds["questions"], kinds.get("grounding mIoU", {}))
            for kind, score in of_table.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no result of scripts/eval_nano.py ({error}); give the JSON that it prints"
        ) from error
