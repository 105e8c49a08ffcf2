"""Questions of level "full" about presence, time and film, answered again from the raw spec."""

import re

import pytest

from tests.synth.full_answers import (
    PAIRS,
    all_items,
    cases,
    read_interval,
    read_looks,
    read_moment,
    read_seconds,
    referent,
    referents,
    scene_looks,
    scene_of,
)
from timevlm.synth.full.palette import CAMERA_MOVES, LIGHT_CHANGES, MOTIONS, NUMBERS, TRANSITIONS
from timevlm.synth.full.wording import (
    NOT_IN_VIDEO,
)
from timevlm.synth.palette import ORDINALS, SHAPES


def test_existence():
    for spec, question, slots in cases("exist.object"):
        name = slots["an_object"].split(" ", 1)[1]
        assert question.answer == ("yes" if referents(spec, name) else "no")
    for spec, question, _ in cases("exist.which"):
        for choice in question.choices:
            there = bool(referents(spec, choice.split(" ", 1)[1]))
            assert there == (choice == question.answer)
    for spec, question, _ in cases("exist.which_not"):
        for choice in question.choices:
            there = bool(referents(spec, choice.split(" ", 1)[1]))
            assert there == (choice != question.answer)


def test_states_at_a_time():
    for spec, question, slots in cases("state.at"):
        t = read_seconds(slots["time"])
        seen = [i for _, i in all_items(spec) if i.appear_seconds <= t < i.vanish_seconds]
        assert read_looks(question.answer) == {f"{i.colour_at(t)} {i.shape}" for i in seen}
    for spec, question, slots in cases("state.colour_at"):
        item = referent(spec, slots["shape"])[1]
        assert question.answer == item.colour_at(read_seconds(slots["time"]))
    for spec, question, slots in cases("state.motion_at"):
        item, t = referent(spec, slots["thing"])[1], read_seconds(slots["time"])
        moving = item.motion_start_seconds <= t < item.motion_end_seconds
        assert question.answer == MOTIONS[item.motion if moving else "still"].does


def test_scenes_and_their_order():
    for spec, question, slots in cases("scene.nth"):
        assert read_looks(question.answer) == scene_looks(scene_of(spec, slots["ordinal"]))
    for kind, step in (("order.after", 1), ("order.before", -1)):
        for spec, question, slots in cases(kind):
            index = spec.scenes.index(referent(spec, slots["thing"])[0]) + step
            assert read_looks(question.answer) == scene_looks(spec.scenes[index])
    for spec, question, slots in cases("order.between"):
        places = [spec.scenes.index(referent(spec, name)[0]) for name in slots.values()]
        assert question.answer == NUMBERS[abs(places[0] - places[1]) - 1]
    for kind, best in (("order.first", min), ("order.last", max)):
        for spec, question, slots in cases(kind):
            starts = {f"the {n}": referent(spec, n)[1].appear_seconds for n in slots.values()}
            assert question.answer == best(starts, key=starts.get)


def test_counts():
    for spec, question, _ in cases("count.scenes"):
        assert question.answer == NUMBERS[len(spec.scenes)]
    for spec, question, slots in cases("count.objects"):
        assert question.answer == NUMBERS[len(scene_of(spec, slots["ordinal"]).objects)]
    for spec, question, slots in cases("count.shape"):
        items, shape = scene_of(spec, slots["ordinal"]).objects, slots["a_shape"].split()[1]
        assert question.answer == NUMBERS[sum(item.shape == shape for item in items)]
    for spec, question, slots in cases("count.colour"):
        items = scene_of(spec, slots["ordinal"]).objects
        assert question.answer == NUMBERS[sum(i.colour == slots["colour"] for i in items)]
    for kind in ("count.bounces", "count.blinks"):
        for spec, question, slots in cases(kind):
            item = referent(spec, slots["thing"])[1]
            assert question.answer == NUMBERS[item.num_bounces + item.num_blinks]
    for spec, question, slots in cases("count.scenes_with_shape"):
        shape = slots["a_shape"].split()[1]
        count = sum(any(o.shape == shape for o in scene.objects) for scene in spec.scenes)
        assert question.answer == NUMBERS[count]
    for spec, question, _ in cases("count.camera"):
        assert question.answer == NUMBERS[sum(s.camera is not None for s in spec.scenes)]
    for spec, question, slots in cases("count.transitions"):
        noun = slots["a_transition"].split(" ", 1)[1]
        found = [TRANSITIONS[s.transition_kind] for s in spec.scenes if s.transition]
        assert question.answer == NUMBERS[found.count(noun)]


def _event_seconds(spec, clause):
    """The moment of a clause such as "the red circle stops"."""
    if match := re.fullmatch(r"the text (\w+) appears", clause):
        return next(
            s.overlay.start_seconds for s in spec.scenes if s.overlay and s.overlay.text == match[1]
        )
    if match := re.fullmatch(r"the camera (.+)", clause):
        found = [s.camera for s in spec.scenes if s.camera]
        move = [m for m in found if CAMERA_MOVES[m.kind].does == match[1]]
        assert len(move) == 1
        return move[0].start_seconds
    if match := re.fullmatch(r"the (.+) (?:overtakes|collides with) the .+", clause):
        return referent(spec, match[1])[0].pair.moment_seconds
    verbs = r"appears|vanishes|starts to move|stops|turns \w+"
    name, verb = re.fullmatch(rf"the (.+?) ({verbs})", clause).groups()
    item = referent(spec, name)[1]
    return {
        "appears": item.appear_seconds,
        "vanishes": item.vanish_seconds,
        "starts to move": item.motion_start_seconds,
        "stops": item.motion_end_seconds,
    }.get(verb, item.change_seconds)


def test_order_of_events():
    for kind, best in (("order.event_first", min), ("order.event_last", max)):
        for spec, question, _ in cases(kind):
            times = {choice: _event_seconds(spec, choice) for choice in question.choices}
            for choice, (start, end) in zip(question.choices, question.choice_spans, strict=True):
                assert start <= times[choice] <= end
            assert question.answer == best(times, key=times.get)
            assert len(set(times.values())) == len(times)
    for kind, sign in (("order.event_after", 1), ("order.event_before", -1)):
        for spec, question, slots in cases(kind):
            given = _event_seconds(spec, slots["event"])
            gaps = {c: sign * (_event_seconds(spec, c) - given) for c in question.choices}
            ahead = {choice: gap for choice, gap in gaps.items() if gap > 0}
            assert question.answer == min(ahead, key=ahead.get)


def test_moments_and_intervals():
    for kind, name in (
        ("when.appear", "appear_seconds"),
        ("when.vanish", "vanish_seconds"),
        ("when.stop", "motion_end_seconds"),
    ):
        for spec, question, slots in cases(kind):
            item = referent(spec, slots["thing"])[1]
            assert read_moment(question.answer) == pytest.approx(getattr(item, name))
    for spec, question, slots in cases("when.change"):
        item = referent(spec, slots["shape"])[1]
        assert read_moment(question.answer) == item.change_seconds
    for spec, question, slots in cases("when.meet"):
        assert read_moment(question.answer) == _event_seconds(spec, slots["event"])
    for spec, question, slots in cases("when.scene"):
        assert read_moment(question.answer) == scene_of(spec, slots["ordinal"]).start_seconds
    for kind, names in (
        ("when.visible", ("appear_seconds", "vanish_seconds")),
        ("when.motion", ("motion_start_seconds", "motion_end_seconds")),
    ):
        for spec, question, slots in cases(kind):
            item = referent(spec, slots["thing"])[1]
            assert read_interval(question.answer) == tuple(getattr(item, name) for name in names)


def test_durations():
    for kind, best in (("duration.longer", max), ("duration.shorter", min)):
        for spec, question, slots in cases(kind):
            items = {f"the {n}": referent(spec, n)[1] for n in slots.values()}
            lengths = {n: i.vanish_seconds - i.appear_seconds for n, i in items.items()}
            assert question.answer == best(lengths, key=lengths.get)
    for kind in ("duration.seconds", "duration.motion"):
        for spec, question, slots in cases(kind):
            item = referent(spec, slots["thing"])[1]
            length = item.vanish_seconds - item.appear_seconds
            if kind == "duration.motion":
                length = item.motion_end_seconds - item.motion_start_seconds
            count = NUMBERS.index(question.answer.split()[0])
            assert length == pytest.approx(count, abs=0.21)
    for kind, best in (("duration.longest_scene", max), ("duration.shortest_scene", min)):
        for spec, question, _ in cases(kind):
            scene = best(spec.scenes, key=lambda s: s.shown[1] - s.shown[0])
            assert question.answer == f"the {ORDINALS[spec.scenes.index(scene)]} scene"


def test_reading():
    for spec, question, slots in cases("reading.scene"):
        assert question.answer == scene_of(spec, slots["ordinal"]).overlay.text
    for spec, question, slots in cases("reading.at"):
        t = read_seconds(slots["time"])
        found = [s.overlay for s in spec.scenes if s.overlay]
        shown = [o.text for o in found if o.start_seconds <= t < o.end_seconds]
        assert shown == [question.answer]
    for spec, question, slots in cases("reading.when"):
        found = [s.overlay for s in spec.scenes if s.overlay and s.overlay.text == slots["text"]]
        assert [(o.start_seconds, o.end_seconds) for o in found] == [read_interval(question.answer)]


def test_cameras():
    for spec, question, slots in cases("camera.scene"):
        move = scene_of(spec, slots["ordinal"]).camera
        assert question.answer == ("stays still" if move is None else CAMERA_MOVES[move.kind].does)
    for kind in ("camera.which_scene", "camera.when", "camera.any"):
        for spec, question, slots in cases(kind):
            said = {name: slots[name] for name in ("do", "does", "doing") if slots.get(name)}
            (form, text), *_ = said.items()
            found = [
                (index, s.camera)
                for index, s in enumerate(spec.scenes)
                if s.camera and getattr(CAMERA_MOVES[s.camera.kind], form) == text
            ]
            if kind == "camera.any":
                assert question.answer == ("yes" if found else "no")
            elif question.answer == NOT_IN_VIDEO:
                assert not found
            else:
                ((index, move),) = found
                if kind == "camera.when":
                    assert read_interval(question.answer) == (move.start_seconds, move.end_seconds)
                else:
                    assert question.answer == f"the {ORDINALS[index]} scene"


def test_transitions():
    for spec, question, slots in cases("transition.scene"):
        noun = TRANSITIONS[scene_of(spec, slots["ordinal"]).transition_kind]
        assert question.answer == f"with a {noun}"
    for kind in ("transition.which_scene", "transition.any"):
        for spec, question, slots in cases(kind):
            noun = slots["a_transition"].split(" ", 1)[1]
            found = [
                i
                for i, s in enumerate(spec.scenes)
                if s.transition and TRANSITIONS[s.transition_kind] == noun
            ]
            if kind == "transition.any":
                assert question.answer == ("yes" if found else "no")
            elif question.answer == NOT_IN_VIDEO:
                assert not found
            else:
                assert [f"the {ORDINALS[i]} scene" for i in found] == [question.answer]


def test_light():
    for spec, question, slots in cases("brightness.scene"):
        light = scene_of(spec, slots["ordinal"]).light
        assert question.answer == (LIGHT_CHANGES[light.kind] if light else "stays the same")
    for kind in ("brightness.which_scene", "brightness.when"):
        for spec, question, slots in cases(kind):
            found = [
                (i, s.light)
                for i, s in enumerate(spec.scenes)
                if s.light and LIGHT_CHANGES[s.light.kind] == slots["does"]
            ]
            ((index, light),) = found
            expected = f"the {ORDINALS[index]} scene"
            if kind == "brightness.when":
                expected = f"at {light.start_seconds:.1f}s"
            assert question.answer == expected
            kinds = {s.transition_kind for s in spec.scenes}
            assert not kinds & {"fade", "flash", "black"}


def test_all_shapes_are_asked_about():
    asked = {word for _, q in PAIRS for word in q.text.split() if word in SHAPES}
    assert asked == set(SHAPES)
