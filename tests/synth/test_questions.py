"""Questions are answered again here from the raw timeline, without the code that made them."""

import re
from collections import Counter

import pytest

from timevlm.errors import InputError
from timevlm.synth.captions import make_captions
from timevlm.synth.long import sample_long_video
from timevlm.synth.palette import BLINK_ON_SECONDS, MOTIONS, NUMBERS, ORDINALS, SHAPES
from timevlm.synth.questions import MAKERS, make_grounding, make_questions
from timevlm.synth.wording import (
    FAMILIES,
    GROUNDING_WORDINGS,
    QUESTION_WORDINGS,
    join_phrases,
    split_phrases,
    vocabulary_texts,
)
from timevlm.synth.world import sample_video

PAIRS = [
    (spec, question)
    for spec in (sample_video(seed, split="val") for seed in range(150))
    for question in make_questions(spec, 1, per_family=6)
]
BY_KIND = {kind: [p for p in PAIRS if p[1].kind == kind] for kind in QUESTION_WORDINGS}
DO = [words.do for words in MOTIONS.values()]
TIME = re.compile(r"(\d+\.\d)s")


def _slots(kind, text, table=QUESTION_WORDINGS):
    for pattern in table[kind]:
        expression = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(pattern))
        # "the white ring move right": only a whole motion may end such a sentence.
        expression = expression.replace("(?P<do>.+?)", f"(?P<do>{'|'.join(DO)})")
        if match := re.fullmatch(expression, text):
            return match.groupdict()
    raise AssertionError(f"{text!r} is no wording of {kind}")


def _items(spec):
    return [(index, item) for index, scene in enumerate(spec.scenes) for item in scene.objects]


def _colours(item):
    return {item.colour} | ({item.changed_colour} if item.changed_colour else set())


def _referent(spec, name):
    """The one object a name ("star", "red star") can mean; fails where there are two."""
    *colour, shape = name.split()
    found = [
        (index, item)
        for index, item in _items(spec)
        if item.shape == shape and (not colour or colour[0] in _colours(item))
    ]
    assert len(found) == 1, (name, found)
    return found[0]


def _doer(spec, does):
    found = [item for _, item in _items(spec) if MOTIONS[item.motion].does == does]
    assert len(found) == 1
    return found[0]


def _scene(spec, ordinal):
    return spec.scenes[-1 if ordinal == "last" else ORDINALS.index(ordinal)]


def _looks(text):
    return set(re.findall(r"\ban? (\w+ \w+)", text))


def _scene_looks(scene):
    assert not any(item.changes for item in scene.objects)
    return {f"{item.colour} {item.shape}" for item in scene.objects}


def _at(seconds):
    return f"at {seconds:.1f}s"


def _from_to(start, end):
    return f"from {start:.1f}s to {end:.1f}s"


def _only(found):
    found = list(found)
    assert len(found) == 1
    return found[0]


def _change(spec, slots, place):
    item = _referent(spec, slots["shape"])[1]
    return (item.colour, item.changed_colour)[place]


def _neighbour(spec, slots, step):
    index = _referent(spec, slots["thing"])[0] + step
    assert 0 <= index < len(spec.scenes)
    return _scene_looks(spec.scenes[index])


def _order(spec, slots, latest):
    starts = {name: _referent(spec, name)[1].appear_seconds for name in slots.values()}
    assert abs(starts[slots["a"]] - starts[slots["b"]]) >= 2.0
    return f"the {(max if latest else min)(starts, key=starts.get)}"


def _exists(spec, slots):
    words = slots["an_object"].split()[1:]
    colour = words[0] if len(words) == 2 else None
    return any(
        item.shape == words[-1] and (colour is None or colour in _colours(item))
        for _, item in _items(spec)
    )


def _does_any(spec, slots):
    return any(
        slots.get("do") == MOTIONS[item.motion].do or slots.get("does") == MOTIONS[item.motion].does
        for _, item in _items(spec)
    )


def _seen_at(spec, slots):
    seconds = float(slots["time"][:-1])
    seen = set()
    for _, item in _items(spec):
        if item.appear_seconds <= seconds < item.vanish_seconds:
            assert item.motion != "blink" or BLINK_ON_SECONDS == 0
            changed = item.changes and seconds >= item.change_seconds
            seen.add(f"{item.changed_colour if changed else item.colour} {item.shape}")
    return seen


def _yes_no(value):
    return "yes" if value else "no"


SOLVERS = {
    "colour.of_shape": lambda v, s: _only(_colours(_referent(v, s["shape"])[1])),
    "colour.before": lambda v, s: _change(v, s, 0),
    "colour.after": lambda v, s: _change(v, s, 1),
    "colour.of_motion": lambda v, s: _only(_colours(_doer(v, s["does"]))),
    "shape.of_colour": lambda v, s: _only(
        item.shape for _, item in _items(v) if s["colour"] in _colours(item)
    ),
    "shape.of_motion": lambda v, s: _doer(v, s["does"]).shape,
    "shape.of_change": lambda v, s: _only(i.shape for _, i in _items(v) if i.changes),
    "motion.of_object": lambda v, s: MOTIONS[_referent(v, s["thing"])[1].motion].does,
    "order.first": lambda v, s: _order(v, s, latest=False),
    "order.last": lambda v, s: _order(v, s, latest=True),
    "order.after": lambda v, s: _neighbour(v, s, 1),
    "order.before": lambda v, s: _neighbour(v, s, -1),
    "count.scenes": lambda v, s: NUMBERS[len(v.scenes)],
    "count.objects": lambda v, s: NUMBERS[len(_scene(v, s["ordinal"]).objects)],
    "count.scenes_with_shape": lambda v, s: NUMBERS[
        sum(any(item.shape == s["shape"] for item in scene.objects) for scene in v.scenes)
    ],
    "when.appear": lambda v, s: _at(_referent(v, s["thing"])[1].appear_seconds),
    "when.vanish": lambda v, s: _at(_referent(v, s["thing"])[1].vanish_seconds),
    "when.visible": lambda v, s: _from_to(
        _referent(v, s["thing"])[1].appear_seconds, _referent(v, s["thing"])[1].vanish_seconds
    ),
    "when.motion": lambda v, s: _from_to(
        _referent(v, s["thing"])[1].motion_start_seconds,
        _referent(v, s["thing"])[1].motion_end_seconds,
    ),
    "when.change": lambda v, s: _at(_referent(v, s["shape"])[1].change_seconds),
    "when.scene": lambda v, s: _at(_scene(v, s["ordinal"]).start_seconds),
    "exist.object": lambda v, s: _yes_no(_exists(v, s)),
    "exist.motion": lambda v, s: _yes_no(_does_any(v, s)),
    "exist.change": lambda v, s: _yes_no(any(item.changes for _, item in _items(v))),
    "scene.nth": lambda v, s: _scene_looks(_scene(v, s["ordinal"])),
    "scene.at": _seen_at,
}


@pytest.mark.parametrize("kind", QUESTION_WORDINGS)
def test_every_answer_follows_from_the_timeline_and_no_other_choice_does(kind):
    assert len(BY_KIND[kind]) >= 5, "this kind is hardly ever asked"
    for spec, question in BY_KIND[kind]:
        solved = SOLVERS[kind](spec, _slots(kind, question.text))
        if isinstance(solved, set):
            assert _looks(question.answer) == solved, question
            assert all(not _looks(c) & solved for c in question.choices if c != question.answer)
            # As many objects in every choice: their number must not give the answer away.
            assert len({len(_looks(choice)) for choice in question.choices}) == 1
        else:
            assert question.answer == solved, question
        assert question.choices.count(question.answer) == 1
        assert len(set(question.choices)) == len(question.choices)


def test_choices_have_the_promised_number_and_the_right_place_is_uniform():
    for size in (2, 4):
        asked = [q for _, q in PAIRS if len(q.choices) == size]
        places = Counter(q.choices.index(q.answer) for q in asked)
        expected = len(asked) / size
        # Four standard deviations of a binomial count.
        slack = 4 * (expected * (1 - 1 / size)) ** 0.5
        assert all(abs(places[place] - expected) < slack for place in range(size)), places
    for _, question in PAIRS:
        two = question.family == "exist" or question.kind in ("order.first", "order.last")
        assert len(question.choices) == (2 if two else 4)
        assert question.kind.split(".")[0] == question.family


def test_yes_and_no_are_equally_often_right():
    for kind in ("exist.object", "exist.motion", "exist.change"):
        answers = Counter(q.answer for _, q in BY_KIND[kind])
        assert 0.4 < answers["yes"] / answers.total() < 0.6, (kind, answers)


def test_spans_lie_in_the_video_sorted_and_apart():
    for spec, question in PAIRS:
        spans = question.answer_spans
        assert spans
        flat = [edge for span in spans for edge in span]
        assert flat == sorted(set(flat))
        assert flat[0] >= 0
        assert flat[-1] <= spec.duration_seconds


def test_times_among_wrong_choices_lie_in_the_video_and_keep_their_distance():
    for spec, question in PAIRS:
        if question.family == "when":
            times = {c: [float(t) for t in TIME.findall(c)] for c in question.choices}
            assert all(0 <= t <= spec.duration_seconds for c in times.values() for t in c)
            right = times.pop(question.answer)
            for wrong in times.values():
                assert len(wrong) == len(right)
                assert max(abs(a - b) for a, b in zip(wrong, right, strict=True)) >= 0.9


def test_questions_are_deterministic_varied_and_bounded():
    spec = sample_video(4)
    assert make_questions(spec, 0) == make_questions(spec, 0)
    assert make_questions(spec, 0) != make_questions(spec, 1)
    for per_family in (1, 3):
        families = Counter(q.family for q in make_questions(spec, 0, per_family=per_family))
        assert max(families.values()) <= per_family
    only = make_questions(spec, 0, families=("when",))
    assert {q.family for q in only} == {"when"}
    with pytest.raises(InputError, match="unknown family 'size'; choose among colour, shape"):
        make_questions(spec, 0, families=("size",))


def test_every_family_is_asked_in_nearly_every_video():
    per_video = [Counter(q.family for q in make_questions(sample_video(i), 0)) for i in range(60)]
    for family in FAMILIES:
        assert sum(counts[family] for counts in per_video) / 60 > 1.6, family
    assert {kind.split(".")[0] for kind in MAKERS} == set(FAMILIES)


def test_every_kind_has_three_wordings_and_uses_them_all():
    for kind, wordings in QUESTION_WORDINGS.items():
        assert len(set(wordings)) >= 3
        if len(BY_KIND[kind]) >= 40:
            texts = [question.text for _, question in BY_KIND[kind]]
            for wording in wordings:
                expression = re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording))
                assert any(re.fullmatch(expression, text) for text in texts), wording


def _solve_grounding(spec, text):
    """Spans of a query, read off the timeline by its words."""
    items = _items(spec)
    if ordinal := re.fullmatch(r"the (\w+) (?:scene|part of the video)", text):
        scene = _scene(spec, ordinal[1])
        return [(scene.start_seconds, scene.end_seconds)]
    if number := re.fullmatch(r"scene (\w+)", text):
        scene = spec.scenes[NUMBERS.index(number[1]) - 1]
        return [(scene.start_seconds, scene.end_seconds)]
    if change := re.fullmatch(r"the (\w+) (?:changes colour|(?:turns|becomes) \w+)", text):
        seconds = _referent(spec, change[1])[1].change_seconds
        return [(seconds - 0.5, seconds + 0.5)]
    for words in MOTIONS.values():
        if text.endswith(f" {words.does}"):
            subject = text.removesuffix(f" {words.does}").removesuffix(" that")
            article, name = subject.split(" ", 1) if " " in subject else ("", subject)
            if name in ("something", "object"):
                moving = [item for _, item in items if MOTIONS[item.motion] == words]
            else:
                assert article in ("a", "an", "the")
                moving = [_referent(spec, name)[1]]
                assert MOTIONS[moving[0].motion] == words
            return [(item.motion_start_seconds, item.motion_end_seconds) for item in moving]
    name = re.fullmatch(r"(?:an?|the) (.+?)(?: is (?:shown|visible))?", text)[1]
    *colour, shape = name.split()
    spans = []
    for _, item in items:
        start, end = item.appear_seconds, item.vanish_seconds
        if item.shape == shape and colour and item.changes:
            if colour[0] == item.colour:
                spans.append((start, item.change_seconds))
            elif colour[0] == item.changed_colour:
                spans.append((item.change_seconds, end))
        elif item.shape == shape and (not colour or colour[0] == item.colour):
            spans.append((start, end))
    return spans


def _covered(spans):
    """The half open tenths of a second that spans cover."""
    return {tick for start, end in spans for tick in range(round(start * 10), round(end * 10))}


def test_grounding_spans_follow_from_the_timeline():
    texts = set()
    for seed in range(150):
        spec = sample_video(seed, split="val")
        queries = make_grounding(spec, 0, limit=6)
        assert queries == make_grounding(spec, 0, limit=6)
        assert 3 <= len(queries) <= 6
        assert len({query.text for query in queries}) == len(queries)
        for query in queries:
            flat = [edge for span in query.spans for edge in span]
            assert flat
            assert flat == sorted(set(flat))
            assert 0 <= flat[0] < flat[-1] <= spec.duration_seconds
            assert _covered(query.spans) == _covered(_solve_grounding(spec, query.text)), query
            texts.add(query.text)
    for wordings in GROUNDING_WORDINGS.values():
        for wording in wordings:
            expression = re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording))
            assert any(re.fullmatch(expression, text) for text in texts), wording


def test_captions_name_every_object_of_every_scene():
    for seed in range(40):
        spec = sample_video(seed)
        captions = make_captions(spec)
        assert len(captions) == len(spec.scenes)
        for (start, end, text), scene in zip(captions, spec.scenes, strict=True):
            assert (start, end) == (scene.start_seconds, scene.end_seconds)
            for item in scene.objects:
                assert f"{item.colour} {item.shape}" in text
                assert MOTIONS[item.motion].does in text
                assert (item.changed_colour or "") in text
            assert sum(word.strip(",") in SHAPES for word in text.split()) >= len(scene.objects)


def test_the_vocabulary_covers_everything_that_is_ever_said():
    words = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")
    known = {word for text in vocabulary_texts() for word in words.findall(text)}
    assert len(known) < 300
    said = set()
    for spec, question in PAIRS:
        said.update(*(words.findall(t) for t in (question.text, *question.choices)))
        said.update(*(words.findall(t) for _, _, t in make_captions(spec)))
        said.update(*(words.findall(query.text) for query in make_grounding(spec, 2, limit=8)))
    assert said <= known, said - known


def test_a_video_with_more_scenes_than_ordinals_is_refused():
    video = sample_long_video(0, 90, level="basic", num_needles=1)
    assert len(video.scenes) > len(ORDINALS)
    with pytest.raises(InputError, match="make_needle_questions"):
        make_questions(video, 0)


@pytest.mark.parametrize("phrases", [["a"], ["a", "b"], ["a b", "c", "d"]])
def test_joined_phrases_can_be_split_again(phrases):
    assert split_phrases(join_phrases(phrases)) == phrases
    assert split_phrases("a, and b") == ["a", "b"]
