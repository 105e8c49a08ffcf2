"""Questions about videos of level "full", unambiguous by construction."""

import random
from collections.abc import Sequence

from timevlm.errors import InputError
from timevlm.synth.full import object_questions, scene_questions, time_questions
from timevlm.synth.full.asking import Asker, Maker
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import FAMILIES
from timevlm.synth.items import Question

MAKERS: dict[str, tuple[Maker, ...]] = {
    **object_questions.MAKERS,
    **time_questions.MAKERS,
    **scene_questions.MAKERS,
}


def make_full_questions(
    spec: FullVideo, seed: int, *, per_family: int = 2, families: Sequence[str] | None = None
) -> list[Question]:
    """Different questions about a video in mixed order, at most `per_family` of each family.

    Raises:
        InputError: a family is unknown.
    """
    families = FAMILIES if families is None else families
    unknown = [family for family in families if family not in MAKERS]
    if unknown:
        raise InputError(f"unknown family {unknown[0]!r}; choose among {', '.join(FAMILIES)}")
    rng = random.Random(f"questions:full:{spec.split}:{spec.seed}:{seed}")
    asker = Asker(timeline=FullTimeline(spec), rng=rng)
    questions: list[Question] = []
    for family in families:
        found: dict[tuple[str, str], Question] = {}
        for _ in range(5 * per_family):
            if len(found) == per_family:
                break
            question = rng.choice(MAKERS[family])(asker)
            # The answer belongs to the key so that no two wordings of one fact stand side by side.
            if question is not None:
                found.setdefault((question.kind, question.answer), question)
        questions.extend(found.values())
    rng.shuffle(questions)
    return questions
