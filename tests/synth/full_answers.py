"""Videos of level "full" with their questions, and what reads a question's slots back."""

import re

from timevlm.synth.full.palette import CAMERA_MOVES, LIGHT_CHANGES, MOTIONS
from timevlm.synth.full.wording import QUESTION_WORDINGS
from timevlm.synth.palette import ORDINALS
from timevlm.synth.questions import make_questions
from timevlm.synth.world import sample_video

SPECS = [sample_video(seed, split="val", level="full") for seed in range(70)]
TESTS = [sample_video(seed, split="test", level="full") for seed in range(30)]
PAIRS = [(spec, q) for spec in (*SPECS, *TESTS) for q in make_questions(spec, 1, per_family=4)]
BY_KIND = {kind: [p for p in PAIRS if p[1].kind == kind] for kind in QUESTION_WORDINGS}

# What a slot may hold, where a neighbour in the sentence could be taken for a part of it.
_ENDINGS = {
    "do": "|".join(w.do for w in (*MOTIONS.values(), *CAMERA_MOVES.values())),
    "doing": "|".join(w.doing for w in (*MOTIONS.values(), *CAMERA_MOVES.values())),
    "does": "|".join(
        (*(w.does for w in (*MOTIONS.values(), *CAMERA_MOVES.values())), *LIGHT_CHANGES.values())
    ),
    "ordinal": "|".join((*ORDINALS, "last")),
}


def read_slots(kind, text):
    """The values that a question's text has in the slots of its wording."""
    for patterns in QUESTION_WORDINGS[kind]:
        for pattern in patterns:
            expression = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(pattern))
            for name, allowed in _ENDINGS.items():
                expression = expression.replace(f"(?P<{name}>.+?)", f"(?P<{name}>{allowed})")
            for spelled in (expression, expression.replace("colour", "color")):
                if match := re.fullmatch(spelled, text):
                    return match.groupdict()
    raise AssertionError(f"{text!r} is no wording of {kind}")


def all_items(spec):
    """(scene, object) of every object."""
    return [(scene, item) for scene in spec.scenes for item in scene.objects]


def referents(spec, name):
    """Every (scene, object) that a name ("star", "red star") could mean."""
    *colour, shape = name.split()
    return [
        (scene, item)
        for scene, item in all_items(spec)
        if item.shape == shape and (not colour or colour[0] in item.colours)
    ]


def referent(spec, name):
    """The one (scene, object) that a name means; fails where there are two."""
    found = referents(spec, name)
    assert len(found) == 1, (name, found)
    return found[0]


def scene_of(spec, ordinal):
    """The scene of an ordinal."""
    return spec.scenes[-1 if ordinal == "last" else ORDINALS.index(ordinal)]


def read_seconds(text):
    """The seconds of a written time."""
    if match := re.fullmatch(r"(\d+):(\d\d)", text):
        return 60.0 * int(match[1]) + int(match[2])
    return float(re.match(r"[\d.]+", text)[0])


def read_moment(answer):
    """The seconds of "at 9.0s"."""
    return float(re.fullmatch(r"at ([\d.]+)s", answer)[1])


def read_interval(answer):
    """Start and end of "from 4.0s to 9.5s"."""
    return tuple(map(float, re.fullmatch(r"from ([\d.]+)s to ([\d.]+)s", answer).groups()))


def read_looks(text):
    """The "colour shape" of every object in a list."""
    return set(re.findall(r"\ban? (\w+ \w+)", text))


def scene_looks(scene):
    """The "colour shape" of every object of a scene."""
    return {f"{item.colour} {item.shape}" for item in scene.objects}


def cases(kind):
    """(spec, question, slots) of every question of a kind."""
    found = [(spec, q, read_slots(kind, q.text)) for spec, q in BY_KIND[kind]]
    assert found, f"no {kind}"
    return found


def key_of(words, does):
    """The key of a motion or move by its words."""
    return next(key for key, value in words.items() if value.does == does)
