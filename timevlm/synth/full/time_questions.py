"""Makers of questions about when things happen, in which order, and for how long."""

from dataclasses import replace

from timevlm.synth.full.asking import Asker, Maker
from timevlm.synth.full.palette import MAX_SCENES, MOTIONS, NUMBERS
from timevlm.synth.full.scene_questions import listable
from timevlm.synth.full.timeline import Event
from timevlm.synth.full.wording import number_word
from timevlm.synth.items import Question, Span
from timevlm.synth.palette import ORDINALS
from timevlm.synth.timeline import Track

_MIN_EVENT_GAP = 1.0
_MIN_ORDER_GAP = 2.0
_MIN_LONGER_RATIO = 1.5
_SECONDS_GAP = 2
_SECONDS_SLACK = 0.2
_SECONDS_REACH = 6  # wrong lengths are as plausible as the right one
_COMMON_SECONDS = {3: 0.3, 4: 0.3, 5: 0.4, 6: 0.6}
_COMMON_BETWEEN = {0: 0.4, 1: 0.7}


def _pair_question(
    asker: Asker, kinds: tuple[str, str], pair: tuple[Track, Track], spans: list[Span]
) -> Question | None:
    """Ask which of two comes first in a sense (first kind) or second (second kind)."""
    names = [asker.name(track) for track in pair]
    place = asker.rng.randrange(2)
    answer = f"the {names[place]}"
    asker.rng.shuffle(names)
    choices = [f"the {name}" for name in names]
    return asker.ask(kinds[place], answer, choices, spans, a=names[0], b=names[1])


def _order_of_two(asker: Asker) -> Question | None:
    named = asker.named()
    pairs = [(a, b) for a in named for b in named if b.visible[0] - a.visible[0] >= _MIN_ORDER_GAP]
    if not pairs:
        return None
    pair = asker.rng.choice(pairs)
    return _pair_question(asker, ("order.first", "order.last"), pair, [t.visible for t in pair])


def _order_of_scenes(asker: Asker) -> Question | None:
    scenes = asker.timeline.scenes
    kind, step = asker.rng.choice((("after", 1), ("before", -1)))
    track = asker.pick(
        [
            t
            for t in asker.named()
            if 0 <= t.scene_index + step < len(scenes) and listable(asker, t.scene_index + step)
        ]
    )
    if track is None:
        return None
    index = track.scene_index + step
    answer, choices = asker.looks([(o.colour, o.shape) for o in scenes[index].objects])
    spans = [track.visible, asker.scene_span(index)]
    return asker.ask(f"order.{kind}", answer, choices, spans, thing=asker.name(track))


def _order_between(asker: Asker) -> Question | None:
    named = asker.named()
    pairs = [(a, b) for a in named for b in named if b.scene_index > a.scene_index]
    if not pairs:
        return None
    counts = sorted({b.scene_index - a.scene_index - 1 for a, b in pairs})
    counts = [n for n in counts if asker.rationed("between", n, _COMMON_BETWEEN)]
    if not counts:
        return None
    count = asker.rng.choice(counts)
    pair = list(
        asker.rng.choice([p for p in pairs if p[1].scene_index - p[0].scene_index - 1 == count])
    )
    asker.rng.shuffle(pair)
    choices = asker.numbers(count, range(MAX_SCENES - 1))
    slots = {"a": asker.name(pair[0]), "b": asker.name(pair[1])}
    spans = [asker.scene_span(t.scene_index) for t in pair]
    return asker.ask("order.between", NUMBERS[count], choices, spans, **slots)


def _order_of_events(asker: Asker) -> Question | None:
    events = list(asker.timeline.events)
    asker.rng.shuffle(events)
    chosen: list[Event] = []
    for event in events:
        if all(abs(event.seconds - other.seconds) >= _MIN_EVENT_GAP for other in chosen):
            chosen.append(event)
    chosen = chosen[:4]
    if len(chosen) < 3:
        return None
    kind, best = asker.rng.choice((("first", min), ("last", max)))
    right = best(chosen, key=lambda event: event.seconds)
    choices = asker.shuffled(right.text, [e.text for e in chosen if e is not right])
    spans = {event.text: asker.timeline.around(event.seconds) for event in chosen}
    question = asker.ask(f"order.event_{kind}", right.text, choices, list(spans.values()))
    if question is None:
        return None
    return replace(question, choice_spans=tuple(spans[choice] for choice in question.choices))


def _order_next_event(asker: Asker) -> Question | None:
    events = asker.timeline.events
    kind, step = asker.rng.choice((("after", 1), ("before", -1)))
    found = []
    for index in range(len(events)):
        near, far = index + step, index + 2 * step
        if not 0 <= near < len(events):
            continue
        gap = abs(events[near].seconds - events[index].seconds)
        # The one after the next must not be mistaken for the next.
        beyond = 0 <= far < len(events)
        clear = not beyond or abs(events[far].seconds - events[near].seconds) >= _MIN_EVENT_GAP
        if gap >= _MIN_EVENT_GAP and clear:
            found.append((events[index], events[near]))
    if not found or len(events) < 4:
        return None
    given, right = asker.rng.choice(found)
    others = [e.text for e in events if e is not given and e is not right]
    choices = asker.shuffled(right.text, asker.rng.sample(others, min(3, len(others))))
    spans = [asker.timeline.around(event.seconds) for event in (given, right)]
    return asker.ask(f"order.event_{kind}", right.text, choices, spans, event=given.text)


def _when_moment(asker: Asker) -> Question | None:
    """When an object appears or vanishes, sharply and within the video."""
    kind, side = asker.rng.choice((("when.appear", 0), ("when.vanish", 1)))
    ends = (0.0, asker.timeline.spec.duration_seconds)
    tracks = [
        t
        for t in asker.named()
        if t.visible[side] != ends[side] and asker.timeline.is_sharp(t.visible[side])
    ]
    track = asker.pick(tracks)
    if track is None:
        return None
    return asker.moment(kind, track.visible[side], thing=asker.name(track))


def _when_visible(asker: Asker) -> Question | None:
    sharp = [t for t in asker.named() if all(map(asker.timeline.is_sharp, t.visible))]
    track = asker.pick([t for t in sharp if t.item.motion != "blink"])
    if track is None:
        return None
    return asker.interval("when.visible", track.visible, thing=asker.name(track))


def _when_motion(asker: Asker) -> Question | None:
    track = asker.pick([t for t in asker.named() if t.item.motion != "still"])
    if track is None:
        return None
    words = MOTIONS[track.item.motion]
    slots = {"thing": asker.name(track), "do": words.do, "doing": words.doing}
    return asker.interval("when.motion", track.moving, **slots)


def _when_stop(asker: Asker) -> Question | None:
    stops = [(t, s) for t in asker.named() if (s := asker.timeline.stop_seconds(t)) is not None]
    if not stops:
        return None
    track, seconds = asker.rng.choice(stops)
    return asker.moment("when.stop", seconds, thing=asker.name(track))


def _when_change(asker: Asker) -> Question | None:
    track = asker.pick([t for t in asker.timeline.only_shapes() if t.item.changes])
    if track is None:
        return None
    item = track.item
    slots = {"shape": item.shape, "colour": item.changed_colour}
    return asker.moment("when.change", item.change_seconds, **slots)


def _when_meet(asker: Asker) -> Question | None:
    meetings = [event for event in asker.timeline.events if event.kind == "meet"]
    if not meetings:
        return None
    event = asker.rng.choice(meetings)
    return asker.moment("when.meet", event.seconds, event=event.text)


def _when_scene(asker: Asker) -> Question | None:
    scenes = asker.timeline.scenes
    sharp = [i for i in range(1, len(scenes)) if asker.timeline.is_sharp(scenes[i].start_seconds)]
    if not sharp:
        return None
    index = asker.rng.choice(sharp)
    return asker.moment("when.scene", scenes[index].start_seconds, ordinal=asker.ordinal(index))


def _length(track: Track) -> float:
    return track.visible[1] - track.visible[0]


def _duration_of_two(asker: Asker) -> Question | None:
    named = [t for t in asker.named() if t.item.motion != "blink"]
    pairs = [
        (a, b)
        for a in named
        for b in named
        if _length(a) >= max(_MIN_LONGER_RATIO * _length(b), _length(b) + 2.0)
    ]
    if not pairs:
        return None
    pair = asker.rng.choice(pairs)
    kinds = ("duration.longer", "duration.shorter")
    return _pair_question(asker, kinds, pair, [t.visible for t in pair])


def _duration_seconds(asker: Asker) -> Question | None:
    """How many whole seconds something lasts; wrong choices keep two seconds away."""
    found = []
    for track in asker.named():
        if track.item.motion != "blink" and all(map(asker.timeline.is_sharp, track.visible)):
            found.append(("duration.seconds", track, track.visible))
        if track.item.motion not in ("blink", "still"):
            found.append(("duration.motion", track, track.moving))
    lengths = [(kind, track, span, span[1] - span[0]) for kind, track, span in found]
    whole = [
        (kind, track, span, round(length))
        for kind, track, span, length in lengths
        if abs(length - round(length)) <= _SECONDS_SLACK and round(length) < len(NUMBERS)
    ]
    whole = [row for row in whole if asker.rationed(row[0], row[3], _COMMON_SECONDS)]
    if not whole:
        return None
    kind, track, span, count = asker.rng.choice(whole)
    near = range(max(1, count - _SECONDS_REACH), min(len(NUMBERS), count + _SECONDS_REACH + 1))
    apart = [n for n in near if abs(n - count) >= _SECONDS_GAP]
    wrong: list[int] = []
    for number in asker.rng.sample(apart, len(apart)):
        if all(abs(number - other) >= _SECONDS_GAP for other in wrong):
            wrong.append(number)
    answer = number_word(count, "second")
    choices = asker.shuffled(answer, [number_word(n, "second") for n in wrong])
    words = MOTIONS[track.item.motion]
    slots = {"thing": asker.name(track), "do": words.do, "doing": words.doing}
    return asker.ask(kind, answer, choices, [span], **slots)


def _duration_of_scenes(asker: Asker) -> Question | None:
    scenes = asker.timeline.scenes
    if len(scenes) < 2:
        return None
    order = sorted(range(len(scenes)), key=lambda i: _scene_length(asker, i))
    kind, index, rival = asker.rng.choice(
        (("longest", order[-1], order[-2]), ("shortest", order[0], order[1]))
    )
    lengths = sorted((_scene_length(asker, index), _scene_length(asker, rival)))
    if lengths[1] < 1.25 * lengths[0] or lengths[1] - lengths[0] < 1.5:
        return None
    others = asker.rng.sample([i for i in order if i != index], min(3, len(scenes) - 1))
    answer = f"the {ORDINALS[index]} scene"
    choices = asker.shuffled(answer, [f"the {ORDINALS[i]} scene" for i in others])
    return asker.ask(f"duration.{kind}_scene", answer, choices, asker.whole)


def _scene_length(asker: Asker, index: int) -> float:
    start, end = asker.scene_span(index)
    return end - start


MAKERS: dict[str, tuple[Maker, ...]] = {
    "order": (
        _order_of_two,
        _order_of_scenes,
        _order_between,
        _order_of_events,
        _order_of_events,
        _order_next_event,
    ),
    "when": (
        _when_moment,
        _when_visible,
        _when_motion,
        _when_stop,
        _when_change,
        _when_meet,
        _when_scene,
    ),
    "duration": (_duration_of_two, _duration_seconds, _duration_of_scenes),
}
