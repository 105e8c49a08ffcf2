"""Questions of level "full" about objects, answered again from the raw spec."""

import itertools
import random
import re
from collections import Counter

import pytest

from tests.synth.full_answers import (
    BY_KIND,
    PAIRS,
    SPECS,
    all_items,
    cases,
    key_of,
    read_slots,
    referent,
    referents,
)
from timevlm.errors import InputError
from timevlm.synth.full.motion import place_at
from timevlm.synth.full.palette import MOTIONS
from timevlm.synth.full.wording import (
    FAMILIES,
    GROUNDING_WORDINGS,
    NOT_IN_VIDEO,
    QUESTION_WORDINGS,
    draw_wording,
    words_of,
)
from timevlm.synth.full.wording_alike import reworded
from timevlm.synth.questions import make_questions
from timevlm.synth.wording import vocabulary_texts
from timevlm.tasks.qa import check_choices

PIECES = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")
KNOWN = {piece for text in vocabulary_texts("full") for piece in PIECES.findall(text)}


def test_every_kind_occurs_and_every_family_has_its_wordings():
    assert {kind.split(".")[0] for kind in QUESTION_WORDINGS} == set(FAMILIES)
    assert [kind for kind, pairs in BY_KIND.items() if not pairs] == []
    for family in FAMILIES:
        groups = [v for kind, v in QUESTION_WORDINGS.items() if kind.split(".")[0] == family]
        assert sum(len(group.shared) for group in groups) >= 6
        assert all(len(group.shared) >= 4 and len(group.held_out) >= 2 for group in groups)
    assert all(len(group.shared) >= 6 for group in GROUNDING_WORDINGS.values())


def test_held_out_wordings_are_new_sentences_of_known_words():
    for table in (QUESTION_WORDINGS, GROUNDING_WORDINGS):
        known = set().union(*(words_of(p) for group in table.values() for p in group.shared))
        for group in table.values():
            assert not set(group.shared) & set(group.held_out)
            for pattern in group.held_out:
                assert words_of(pattern) <= known, pattern


def test_wordings_of_training_alone_are_other_sentences_of_known_words():
    for kind, group in QUESTION_WORDINGS.items():
        assert len(set(group.training)) == len(group.training) >= 2
        assert not set(group.training) & {*group.shared, *group.held_out}
        slots = {slot for pattern in group.shared for slot in re.findall(r"{(\w+)}", pattern)}
        for pattern in group.training:
            assert set(re.findall(r"{(\w+)}", pattern)) <= slots, (kind, pattern)
            assert set(PIECES.findall(re.sub(r"{\w+}", "", pattern))) <= KNOWN, pattern


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "Which shape is shown?",
            ["What shape is shown?", "Which shape is visible?", "Which shape can be seen?"],
        ),
        ("which scene ends?", ["which one of the scenes ends?", "which of the scenes ends?"]),
        ("Which objects vanish?", ["Which objects disappear?"]),
        ("How big is it?", []),
    ],
)
def test_patterns_are_reworded_one_phrase_at_a_time(pattern, expected):
    assert sorted(reworded(pattern)) == sorted(expected)


def test_training_has_the_patterns_reworded_but_for_those_of_a_test():
    group = QUESTION_WORDINGS["motion.which"]
    assert "Name the object that {does}." in group.shared
    assert "Tell me the object that {does}." in group.training
    every = [other for g in QUESTION_WORDINGS.values() for p in g.shared for other in reworded(p)]
    held_out = {p for g in QUESTION_WORDINGS.values() for p in g.held_out}
    assert held_out & set(every)  # they would be there
    assert not held_out & {p for g in QUESTION_WORDINGS.values() for p in g.training}


def test_the_train_split_alone_uses_them():
    slots = dict.fromkeys(("shape", "thing", "time", "ordinal"), "")
    for split, expected in (("train", True), ("val", False), ("demo", False), ("test", False)):
        rng = random.Random(0)
        drawn = {
            draw_wording(rng, QUESTION_WORDINGS, "scene.nth", split, slots) for _ in range(100)
        }
        own = {pattern.format(**slots) for pattern in QUESTION_WORDINGS["scene.nth"].training}
        assert (own <= drawn) == expected
        assert bool(own & drawn) == expected


def test_the_test_split_uses_held_out_wordings_and_val_never_does():
    for spec, question in PAIRS:
        texts = [question.text, question.text.replace("color", "colour")]
        matches = [False, False]
        for place, patterns in enumerate(QUESTION_WORDINGS[question.kind][:2]):
            for pattern in patterns:
                expression = re.sub(r"\\\{\w+\\\}", ".+?", re.escape(pattern))
                matches[place] |= any(re.fullmatch(expression, text) for text in texts)
        assert matches[spec.split == "test"], question.text


def test_choices_can_be_scored_and_hold_the_answer():
    for spec, question in PAIRS:
        assert question.choices.count(question.answer) == 1
        check_choices(question.choices)
        assert 2 <= len(question.choices) <= 4
        for start, end in question.answer_spans:
            assert 0.0 <= start < end <= spec.duration_seconds + 1e-9


def test_places_of_answers_and_absence_give_nothing_away():
    four = [q for _, q in PAIRS if len(q.choices) == 4]
    places = Counter(q.choices.index(q.answer) for q in four)
    assert all(0.2 < places[i] / len(four) < 0.3 for i in range(4))
    offered = [q for _, q in PAIRS if NOT_IN_VIDEO in q.choices]
    share = sum(q.answer == NOT_IN_VIDEO for q in offered) / len(offered)
    assert 0.15 < share < 0.35
    yes = [q.answer for _, q in PAIRS if set(q.choices) == {"yes", "no"}]
    assert 0.4 < yes.count("yes") / len(yes) < 0.6


def test_the_vocabulary_is_closed():
    for _, question in PAIRS:
        for text in (question.text, *question.choices):
            assert set(PIECES.findall(text)) <= KNOWN, text


def test_unknown_families_are_refused():
    with pytest.raises(InputError, match="unknown family 'smell'; choose among colour, shape"):
        make_questions(SPECS[0], 0, families=["smell"])


def test_absence_is_true():
    for spec, question in PAIRS:
        if question.answer != NOT_IN_VIDEO:
            continue
        slots = read_slots(question.kind, question.text)
        name = slots.get("thing") or slots.get("shape")
        if name:
            assert not referents(spec, name)
        elif slots.get("colour"):
            assert all(slots["colour"] not in item.colours for _, item in all_items(spec))
        elif question.kind.endswith("of_motion"):
            does = slots.get("does") or next(
                w.does for w in MOTIONS.values() if w.doing == slots["doing"]
            )
            assert all(MOTIONS[item.motion].does != does for _, item in all_items(spec))
        elif question.kind == "reading.only":
            assert all(scene.overlay is None for scene in spec.scenes)


@pytest.mark.parametrize("kind", ["colour.of_shape", "colour.before", "colour.after"])
def test_colours(kind):
    for spec, question, slots in cases(kind):
        if question.answer != NOT_IN_VIDEO:
            item = referent(spec, slots["shape"])[1]
            assert question.answer == item.colours[-1 if kind == "colour.after" else 0]


@pytest.mark.parametrize("kind", ["colour.of_motion", "shape.of_motion", "motion.which"])
def test_looks_of_what_moves(kind):
    for spec, question, slots in cases(kind):
        if question.answer == NOT_IN_VIDEO:
            continue
        doing = slots.get("doing") or MOTIONS[key_of(MOTIONS, slots["does"])].doing
        found = [item for _, item in all_items(spec) if MOTIONS[item.motion].doing == doing]
        assert len(found) == 1
        if kind == "motion.which":
            assert referent(spec, question.answer.removeprefix("the "))[1] is found[0]
        else:
            assert question.answer in (found[0].colour, found[0].shape)


def test_shapes():
    for spec, question, slots in cases("shape.of_colour"):
        if question.answer != NOT_IN_VIDEO:
            found = [i for _, i in all_items(spec) if slots["colour"] in i.colours]
            assert [item.shape for item in found] == [question.answer]
    for spec, question, slots in cases("shape.of_pattern"):
        found = [i for _, i in all_items(spec) if i.pattern == slots["pattern"]]
        assert [item.shape for item in found] == [question.answer]
    for spec, question, _ in cases("shape.of_change"):
        found = [i for _, i in all_items(spec) if i.changes]
        assert [item.shape for item in found] == [question.answer]


def test_sizes_patterns_and_motions():
    for kind in ("size.of_object", "pattern.of_object", "motion.of_object"):
        for spec, question, slots in cases(kind):
            if question.answer == NOT_IN_VIDEO:
                continue
            item = referent(spec, slots["thing"])[1]
            truth = {"size": item.size, "pattern": item.pattern, "motion": None}[question.family]
            assert question.answer == (truth or MOTIONS[item.motion].does)


def _path_speed(item):
    steps = 400
    seconds = item.motion_end_seconds - item.motion_start_seconds
    times = [item.motion_start_seconds + seconds * i / steps for i in range(steps + 1)]
    points = [place_at(item, t)[:2] for t in times]
    way = sum(
        ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        for (x0, y0), (x1, y1) in itertools.pairwise(points)
    )
    return way / seconds


def test_speeds():
    for kind in ("speed.pair", "speed.slower"):
        for spec, question, slots in cases(kind):
            speeds = {f"the {n}": _path_speed(referent(spec, n)[1]) for n in slots.values()}
            best = max if kind == "speed.pair" else min
            assert question.answer == best(speeds, key=speeds.get)
            assert max(speeds.values()) > 1.3 * min(speeds.values())
    for spec, question, _ in cases("speed.fastest"):
        moving = [i for _, i in all_items(spec) if i.motion not in ("still", "spin", "blink")]
        fastest = max(moving, key=_path_speed)
        assert referent(spec, question.answer.removeprefix("the "))[1] is fastest


def _co_visible(one, other, num=25):
    start = max(one.appear_seconds, other.appear_seconds)
    end = min(one.vanish_seconds, other.vanish_seconds)
    return [start + (end - start) * (i + 0.5) / num for i in range(num)]


def test_places_relative_to_each_other():
    for spec, question, slots in cases("relation.where"):
        scene, one = referent(spec, slots["a"])
        other_scene, other = referent(spec, slots["b"])
        assert scene is other_scene
        for t in _co_visible(one, other):
            (x, y, _), (u, v, _) = place_at(one, t), place_at(other, t)
            side = ("left of it" if x < u else "right of it") if abs(x - u) > abs(y - v) else None
            assert question.answer == (side or ("above it" if y < v else "below it"))


def test_bigger_and_smaller():
    for kind, best in (("relation.bigger", max), ("relation.smaller", min)):
        for spec, question, slots in cases(kind):
            items = {f"the {name}": referent(spec, name)[1] for name in slots.values()}
            for t in _co_visible(*items.values()):
                radii = {name: place_at(item, t)[2] for name, item in items.items()}
                assert question.answer == best(radii, key=radii.get)
                assert max(radii.values()) > 1.2 * min(radii.values())


@pytest.mark.parametrize("verb", ["overtakes", "overtaken", "collides"])
def test_meetings(verb):
    for spec, question, slots in cases(f"relation.{verb}"):
        scene, given = referent(spec, slots["thing"])
        answer = referent(spec, question.answer.removeprefix("the "))[1]
        pair = scene.pair
        actor, target = scene.objects[pair.actor], scene.objects[pair.target]
        if verb == "collides":
            assert pair.kind == "collides"
            assert {id(given), id(answer)} == {id(actor), id(target)}
        else:
            assert pair.kind == "overtakes"
            expected = (actor, target) if verb == "overtakes" else (target, actor)
            assert (given, answer) == expected
