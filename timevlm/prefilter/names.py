"""What a pre-filter may be called. No heavy import: the command line's help prints these."""

import difflib
from pathlib import Path

from timevlm.errors import InputError

OFF = "off"
AUTO = "auto"
NOVELTY = "novelty"
FAMILIES = ("movinet", "minconv", "lcr", "rrm")
# "auto" is the recognizer that found most events for its cost: docs/recognizers/prefilter.md.
AUTO_CHOICE = "minconv"
WEIGHTS_PREFIX = "world-"


def prefilter_names() -> tuple[str, ...]:
    """Every name that `load_prefilter` takes besides the folder of a trained recognizer."""
    return (AUTO, *FAMILIES, NOVELTY)


def resolve_name(name: str) -> str:
    """The recognizer behind a name: a family, "novelty", or a folder's path.

    Raises InputError with "did you mean" for anything else.
    """
    if name == AUTO:
        return AUTO_CHOICE
    if name in (*FAMILIES, NOVELTY) or Path(name).is_dir():
        return name
    near = difflib.get_close_matches(name, (*prefilter_names(), OFF), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"no pre-filter is called {name!r}: {hint}use {', '.join(prefilter_names())}, "
        f"{OFF}, or the folder of a trained recognizer"
    )
