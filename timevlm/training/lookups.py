"""A lesson for what ranks vision tokens: where the answer to a turn is to be seen.

The last token of a prompt decides which vision tokens the deep layers get. The world knows on which
seconds an answer rests and what the objects in it look like, so that token can be told where to
look, long before answers alone would teach it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timevlm.synth.full.palette import MOTIONS
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN
from timevlm.training.fields import TensorFields
from timevlm.training.kinds import BASIC, Kinds
from timevlm.training.phrases import column_rows, told_columns
from timevlm.training.turns import Turn

_NO_SPAN = (float("inf"), float("-inf"))
# How captions say a motion, by every way to say it; to rest is none.
_SAID_MOTIONS = {
    said: words.does
    for kind, words in MOTIONS.items()
    if kind != "still"
    for said in (words.does, words.do, words.doing)
}
_SAID = re.compile(rf"\b(?:{'|'.join(_SAID_MOTIONS)})\b")


@dataclass(frozen=True, kw_only=True)
class Lookups(TensorFields):
    """Where R turns want their prompts to look.

    spans (R, S, 2) in seconds, ends included, padded with spans that nothing is in; looks
    (R, shapes + colours) bool: those that a turn's text names; columns (R, MAX_COLUMNS) of
    `told_columns`: those of the one text, written in the picture, that it tells, or else of the one
    motion; every (R,) bool: whether it needs all tokens of such objects, such as a caption, and not
    one in each span.
    """

    spans: Tensor
    looks: Tensor
    columns: Tensor
    every: Tensor

    def of_rows(self, rows: Tensor) -> "Lookups":
        """Those of the turns (N,)."""
        return Lookups(**{name: value[rows] for name, value in vars(self).items()})


def lookups_of(turns: Sequence[Turn], kinds: Kinds = BASIC) -> Lookups:
    """What the turns' texts name, on the seconds that their answers rest on."""
    spans = torch.tensor(_NO_SPAN).repeat(len(turns), max(1, *(len(t.spans) for t in turns)), 1)
    for row, turn in zip(spans, turns, strict=True):
        row[: len(turn.spans)] = torch.tensor(turn.spans).reshape(-1, 2)
    return Lookups(
        spans=spans,
        looks=torch.tensor([kinds.looks_named(f"{t.prompt} {t.answer}") for t in turns]),
        columns=column_rows([_columns(f"{t.prompt} {t.answer}", kinds) for t in turns]),
        every=torch.tensor([t.family in kinds.every_token_families for t in turns]),
    )


def _columns(told: str, kinds: Kinds) -> tuple[int, ...]:
    """The columns of what is written in the picture, where a turn tells of one such text alone.

    Otherwise those of what something does, where it tells of one motion alone.
    """
    if not kinds.texts:
        return ()
    words, tens, ones = kinds.texts
    said = re.findall(r"[a-z]+|\d+", re.sub(TIMESTAMP_PATTERN, "", told))
    texts = {word for word in said if word in words or (word[:1] in tens and word[1:] in ones)}
    if texts:
        return told_columns(f"the text {texts.pop()}", kinds) if len(texts) == 1 else ()
    motions = {_SAID_MOTIONS[words] for words in _SAID.findall(told)}
    return told_columns(f"a thing {motions.pop()}", kinds) if len(motions) == 1 else ()
