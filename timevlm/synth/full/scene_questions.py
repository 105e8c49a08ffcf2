"""Makers of questions about presence, counts, scenes, text, camera, transitions and light."""

from collections.abc import Sequence

from timevlm.synth.full.asking import Asker, Maker
from timevlm.synth.full.palette import (
    CAMERA_MOVES,
    CAMERA_STILL,
    COLOURS,
    LIGHT_CHANGES,
    LIGHT_STEADY,
    MAX_OBJECTS,
    MAX_SCENES,
    MOTIONS,
    NUMBERS,
    OVERLAY_WORDS,
    TRANSITIONS,
)
from timevlm.synth.full.wording import NOT_IN_VIDEO, time_slot, with_transition
from timevlm.synth.items import Question
from timevlm.synth.palette import ORDINALS, SHAPES
from timevlm.synth.timeline import Track
from timevlm.synth.wording import an

_MAX_LISTED = 4
# How often counts that are common in the world may be answers, so that none is a good guess.
_COMMON_OBJECTS = {1: 0.45, 2: 0.45, 3: 0.7}
_COMMON_ALIKE = {0: 0.3, 1: 0.4}
_COMMON_REPETITIONS = {1: 0.35, 2: 0.7}
_COMMON_FEW = {0: 0.35, 1: 0.5}
# About how often the world shows each motion: what is asked for in vain should be as common.
_MOTION_SHARES = {
    **{"left": 9, "right": 7, "up": 7, "down": 6, "diagonal": 5, "circle": 4, "bounce": 4},
    **{"spin": 9, "blink": 8, "grow": 3, "shrink": 4},
}


def _exist_object(asker: Asker) -> Question | None:
    """Half of the questions name a shape alone, half a colour and shape; half of each is there."""
    timeline, rng = asker.timeline, asker.rng
    present = rng.random() < 0.5
    if rng.random() < 0.5:
        shown = {t.item.shape for t in timeline.tracks}
        shapes = [shape for shape in SHAPES if (shape in shown) == present]
        if not shapes:
            return None
        shape = rng.choice(shapes)
        spans = [t.visible for t in timeline.with_shape(shape)]
        return asker.yes_no("exist.object", spans, an_object=an(shape))
    if not present:
        return asker.yes_no("exist.object", [], an_object=an(asker.absent_look()))
    colour, shape = rng.choice(sorted(timeline.looks()))
    spans = [s for t in timeline.with_look(colour, shape) if (s := t.colour_span(colour))]
    return asker.yes_no("exist.object", spans, an_object=an(f"{colour} {shape}"))


def _exist_motion(asker: Asker) -> Question | None:
    timeline = asker.timeline
    if asker.rng.random() < 0.5:
        motions = sorted({t.item.motion for t in timeline.tracks} - {"still"})
    else:
        motions = [
            motion
            for motion in MOTIONS
            if motion != "still" and not any(timeline.may_do(t, motion) for t in timeline.tracks)
        ]
    if not motions:
        return None
    spans_of = {m: [t.moving for t in timeline.tracks if t.item.motion == m] for m in motions}
    weights = [1 if spans_of[m] else _MOTION_SHARES[m] for m in motions]
    motion = asker.rng.choices(motions, weights)[0]
    words, spans = MOTIONS[motion], spans_of[motion]
    slots = {"do": words.do, "does": words.does, "doing": words.doing}
    return asker.yes_no("exist.motion", spans, **slots)


def _absent_looks(asker: Asker, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        look = asker.absent_look()
        if look not in found:
            found.append(look)
    return found


def _exist_which(asker: Asker) -> Question | None:
    timeline = asker.timeline
    looks = sorted(timeline.looks())
    if asker.rng.random() < 0.5 and len(looks) >= 3:
        answer = an(asker.absent_look())
        wrong = [an(" ".join(look)) for look in asker.rng.sample(looks, 3)]
        choices = asker.shuffled(answer, wrong)
        return asker.ask("exist.which_not", answer, choices, asker.whole)
    colour, shape = asker.rng.choice(looks)
    answer = an(f"{colour} {shape}")
    choices = asker.shuffled(answer, [an(look) for look in _absent_looks(asker, 3)])
    spans = [s for t in timeline.with_look(colour, shape) if (s := t.colour_span(colour))]
    return asker.ask("exist.which", answer, choices, spans)


def _visible_at(asker: Asker, seconds: float) -> list[Track]:
    return [t for t in asker.timeline.tracks if t.visible[0] <= seconds < t.visible[1]]


def _state_at(asker: Asker) -> Question | None:
    seconds = asker.quiet_seconds()
    if seconds is None:
        return None
    seen = _visible_at(asker, seconds)
    if not 1 <= len(seen) <= _MAX_LISTED or any(t.item.motion == "blink" for t in seen):
        return None
    answer, choices = asker.looks([(t.item.colour_at(seconds), t.item.shape) for t in seen])
    spans = [asker.timeline.around(seconds)]
    return asker.ask("state.at", answer, choices, spans, time=time_slot(asker.rng, seconds))


def _state_colour_at(asker: Asker) -> Question | None:
    tracks = [t for t in asker.timeline.only_shapes() if t.item.motion != "blink"]
    changing = [t for t in tracks if t.item.changes]
    track = asker.pick(changing if changing and asker.rng.random() < 0.8 else tracks)
    seconds = None if track is None else asker.quiet_seconds([track])
    if seconds is None:
        return None
    answer = track.item.colour_at(seconds)
    wrong = [colour for colour in track.item.colours if colour != answer]
    rest = [colour for colour in COLOURS if colour not in track.item.colours]
    choices = asker.shuffled(answer, [*wrong, *asker.rng.sample(rest, 3)])
    slots = {"shape": track.item.shape, "time": time_slot(asker.rng, seconds)}
    return asker.ask("state.colour_at", answer, choices, [asker.timeline.around(seconds)], **slots)


def _state_motion_at(asker: Asker) -> Question | None:
    steady = [
        t
        for t in asker.named()
        if t.item.motion not in ("blink", "still") and not asker.timeline.camera_moves(t)
    ]
    track = asker.pick(steady)
    seconds = None if track is None else asker.quiet_seconds([track])
    if seconds is None:
        return None
    own, still = MOTIONS[track.item.motion].does, MOTIONS["still"].does
    start, end = track.moving
    answer, other = (own, still) if start <= seconds < end else (still, own)
    wrong = [MOTIONS[m].does for m in asker.timeline.wrong_motions(track) if m != "still"]
    if len(wrong) < 2:
        return None
    # Resting is offered whether or not the object ever rests: offering it gives nothing away.
    choices = asker.shuffled(answer, [other, *asker.rng.sample(wrong, 2)])
    slots = {"thing": asker.name(track), "time": time_slot(asker.rng, seconds)}
    return asker.ask("state.motion_at", answer, choices, [asker.timeline.around(seconds)], **slots)


def listable(asker: Asker, index: int) -> bool:
    """Whether a scene's objects can be listed in an answer."""
    objects = asker.timeline.scenes[index].objects
    return len(objects) <= _MAX_LISTED and not any(item.changes for item in objects)


def _scene_nth(asker: Asker) -> Question | None:
    indices = [i for i in range(len(asker.timeline.scenes)) if listable(asker, i)]
    if not indices:
        return None
    index = asker.rng.choice(indices)
    objects = asker.timeline.scenes[index].objects
    answer, choices = asker.looks([(item.colour, item.shape) for item in objects])
    spans = [asker.scene_span(index)]
    return asker.ask("scene.nth", answer, choices, spans, ordinal=asker.ordinal(index))


def _count_objects(asker: Asker) -> Question | None:
    scenes = asker.timeline.scenes
    # A count first, then a scene that has it: rarer counts are asked as often as common ones.
    counts = sorted({len(scene.objects) for scene in scenes})
    counts = [n for n in counts if asker.rationed("objects", n, _COMMON_OBJECTS)]
    if not counts:
        return None
    count = asker.rng.choice(counts)
    index = asker.rng.choice([i for i, s in enumerate(scenes) if len(s.objects) == count])
    choices = asker.numbers(count, range(1, MAX_OBJECTS + 2))
    spans, ordinal = [asker.scene_span(index)], asker.ordinal(index)
    return asker.ask("count.objects", NUMBERS[count], choices, spans, ordinal=ordinal)


def _count_alike(asker: Asker) -> Question | None:
    """How many objects of a scene share a shape or a colour."""
    by_shape = asker.rng.random() < 0.5
    allowed: Sequence[str] = SHAPES if by_shape else tuple(COLOURS)
    found: dict[int, list[tuple[int, str]]] = {}
    for index, scene in enumerate(asker.timeline.scenes):
        if not by_shape and any(item.changes for item in scene.objects):
            continue
        words = [item.shape if by_shape else item.colour for item in scene.objects]
        for word in allowed:
            found.setdefault(words.count(word), []).append((index, word))
    kind = "count.shape" if by_shape else "count.colour"
    counts = [n for n in sorted(found) if asker.rationed(kind, n, _COMMON_ALIKE)]
    if not counts:
        return None
    count = asker.rng.choice(counts)
    index, word = asker.rng.choice(found[count])
    slots = {"a_shape": an(word), "colour": word, "ordinal": asker.ordinal(index)}
    choices = asker.numbers(count, range(4 if count < 4 else MAX_OBJECTS + 1))
    return asker.ask(kind, NUMBERS[count], choices, [asker.scene_span(index)], **slots)


def _count_repetitions(asker: Asker) -> Question | None:
    tracks = [t for t in asker.named() if t.item.num_bounces or t.item.num_blinks]
    track = asker.pick(tracks)
    if track is None:
        return None
    count = track.item.num_bounces or track.item.num_blinks
    kind = "count.bounces" if track.item.num_bounces else "count.blinks"
    if not asker.rationed(kind, count, _COMMON_REPETITIONS):
        return None
    choices = asker.numbers(count, range(1, 6))
    return asker.ask(kind, NUMBERS[count], choices, [track.moving], thing=asker.name(track))


def _count_scenes(asker: Asker) -> Question | None:
    count = len(asker.timeline.scenes)
    choices = asker.numbers(count, range(1, MAX_SCENES + 1))
    return asker.ask("count.scenes", NUMBERS[count], choices, asker.whole)


def _count_scenes_with_shape(asker: Asker) -> Question | None:
    counts = {s: len({t.scene_index for t in asker.timeline.with_shape(s)}) for s in SHAPES}
    allowed = [n for n in set(counts.values()) if asker.rationed("with", n, _COMMON_FEW)]
    if not allowed:
        return None
    count = asker.rng.choice(sorted(allowed))
    shape = asker.rng.choice([s for s in SHAPES if counts[s] == count])
    spans = [t.visible for t in asker.timeline.with_shape(shape)] or asker.whole
    choices = asker.numbers(count, range(max(4, count + 1)))
    kind = "count.scenes_with_shape"
    return asker.ask(kind, NUMBERS[count], choices, spans, a_shape=an(shape))


def _count_transitions(asker: Asker) -> Question | None:
    found = [kind for _, kind in asker.timeline.transitions()]
    counts = {kind: found.count(kind) for kind in TRANSITIONS}
    allowed = [n for n in set(counts.values()) if asker.rationed("transition", n, _COMMON_FEW)]
    if not allowed:
        return None
    count = asker.rng.choice(sorted(allowed))
    kind = asker.rng.choice([k for k, n in counts.items() if n == count])
    spans = asker.timeline.transition_spans(kind) or asker.whole
    choices = asker.numbers(count, range(max(4, count + 1)))
    slot = an(TRANSITIONS[kind])
    return asker.ask("count.transitions", NUMBERS[count], choices, spans, a_transition=slot)


def _count_camera(asker: Asker) -> Question | None:
    moves = [s.camera for s in asker.timeline.scenes if s.camera is not None]
    if not asker.rationed("camera", len(moves), _COMMON_FEW):
        return None
    spans = [(m.start_seconds, m.end_seconds) for m in moves] or asker.whole
    choices = asker.numbers(len(moves), range(max(4, len(moves) + 1)))
    return asker.ask("count.camera", NUMBERS[len(moves)], choices, spans)


def _texts_like(asker: Asker, text: str) -> list[str]:
    """Three wrong texts of the same sort, numbers partly one digit away."""
    if not text.isdigit():
        return asker.rng.sample([word for word in OVERLAY_WORDS if word != text], 3)
    tens, ones = divmod(int(text), 10)
    near = [n for n in range(10, 100) if (n // 10 == tens) != (n % 10 == ones)]
    others = asker.rng.sample(near, 2)
    far = [n for n in range(10, 100) if n not in others and n != int(text)]
    return [str(n) for n in (*others, asker.rng.choice(far))]


def _reading(asker: Asker) -> Question | None:
    scenes = asker.timeline.scenes
    written = [i for i, scene in enumerate(scenes) if scene.overlay is not None]
    if not written:
        if not asker.rarely("text", 0.2):
            return None
        word, number = asker.rng.choice(OVERLAY_WORDS), str(asker.rng.randint(10, 99))
        wrong = [word, number, *_texts_like(asker, word)]
        return asker.ask(
            "reading.only", NOT_IN_VIDEO, asker.shuffled(NOT_IN_VIDEO, wrong), asker.whole
        )
    index = asker.rng.choice(written)
    overlay = scenes[index].overlay
    span = (overlay.start_seconds, overlay.end_seconds)
    kinds = ["scene", "at", "when", *(("only", "only") if len(written) == 1 else ())]
    kind = f"reading.{asker.rng.choice(kinds)}"
    if kind == "reading.when":
        return asker.interval(kind, span, text=overlay.text)
    wrong = _texts_like(asker, overlay.text)
    asker.rng.shuffle(wrong)
    choices = asker.shuffled(overlay.text, wrong, decoy=kind == "reading.only")
    seconds = [s / 2 for s in range(int(2 * span[0]) + 1, int(2 * span[1]))]
    seconds = [s for s in seconds if span[0] + 0.5 <= s <= span[1] - 0.5]
    slots = {"ordinal": asker.ordinal(index)}
    if kind == "reading.at":
        slots["time"] = time_slot(asker.rng, asker.rng.choice(seconds))
    return asker.ask(kind, overlay.text, choices, [span], **slots)


def _camera(asker: Asker) -> Question | None:
    scenes, rng = asker.timeline.scenes, asker.rng
    kind = rng.choice(("scene", "scene", "which_scene", "when", "any"))
    if kind == "scene":
        moving = [i for i, s in enumerate(scenes) if s.camera is not None]
        resting = [i for i, s in enumerate(scenes) if s.camera is None]
        # Most cameras rest: asked after as they come, guessing that would pay.
        pool = moving
        if asker.rarely("camera", 0.25) and (not moving or rng.random() < 0.3):
            pool = resting
        if not pool:
            return None
        index = rng.choice(pool)
        move = scenes[index].camera
        answer = CAMERA_STILL.does if move is None else CAMERA_MOVES[move.kind].does
        every = [CAMERA_STILL.does, *(words.does for words in CAMERA_MOVES.values())]
        wrong = rng.sample([does for does in every if does != answer], 3)
        spans = [asker.scene_span(index)]
        if move is not None:
            spans = [(move.start_seconds, move.end_seconds)]
        choices = asker.shuffled(answer, wrong)
        return asker.ask("camera.scene", answer, choices, spans, ordinal=asker.ordinal(index))
    moves = {
        move: [i for i, s in enumerate(scenes) if s.camera is not None and s.camera.kind == move]
        for move in CAMERA_MOVES
    }
    absent = [move for move, found in moves.items() if not found]
    once = [move for move, found in moves.items() if len(found) == 1]
    if kind == "any":
        present = [move for move in CAMERA_MOVES if move not in absent]
        if not present and not asker.rarely("no camera", 0.3):
            return None
        chosen = present if rng.random() < 0.5 else absent
        if not chosen:
            return None
        words = CAMERA_MOVES[(move := rng.choice(chosen))]
        spans = [_camera_span(asker, index) for index in moves[move]]
        slots = {"do": words.do, "does": words.does, "doing": words.doing}
        return asker.yes_no("camera.any", spans, **slots)
    missing = kind == "which_scene" and absent and asker.absent()
    if not once and not missing:
        return None
    words = CAMERA_MOVES[(move := rng.choice(absent if missing else once))]
    slots = {"do": words.do, "does": words.does, "doing": words.doing}
    if kind == "when":
        return asker.interval("camera.when", _camera_span(asker, moves[move][0]), **slots)
    spans = asker.whole if missing else [_camera_span(asker, moves[move][0])]
    return _which_scene(
        asker, "camera.which_scene", None if missing else moves[move][0], spans, slots
    )


def _camera_span(asker: Asker, index: int) -> tuple[float, float]:
    move = asker.timeline.scenes[index].camera
    return (move.start_seconds, move.end_seconds)


def _which_scene(
    asker: Asker,
    kind: str,
    index: int | None,
    spans: Sequence[tuple[float, float]],
    slots: dict[str, str],
) -> Question | None:
    if len(asker.timeline.scenes) < 3:
        return None
    choices = asker.scenes_for(index)
    answer = NOT_IN_VIDEO if index is None else f"the {ORDINALS[index]} scene"
    return asker.ask(kind, answer, choices, spans, **slots)


def _transition(asker: Asker) -> Question | None:
    timeline, rng = asker.timeline, asker.rng
    found = timeline.transitions()
    if not found:
        return None
    kind = rng.choice(("scene", "scene", "which_scene", "any"))
    if kind == "scene":
        names = sorted({k for _, k in found if k != "cut" or asker.rarely("cut", 0.35)})
        if not names:
            return None
        name = rng.choice(names)
        index = rng.choice([i for i, k in found if k == name])
        answer = with_transition(name)
        wrong = rng.sample([with_transition(k) for k in TRANSITIONS if k != name], 3)
        window = timeline.scenes[index].transition_window
        spans = [timeline.around(window[1]) if name == "cut" else window]
        choices = asker.shuffled(answer, wrong)
        return asker.ask("transition.scene", answer, choices, spans, ordinal=asker.ordinal(index))
    kinds = [k for _, k in found]
    absent = [k for k in TRANSITIONS if k not in kinds]
    if kind == "any":
        name = rng.choice(sorted(set(kinds)) if rng.random() < 0.5 or not absent else absent)
        spans = timeline.transition_spans(name)
        return asker.yes_no("transition.any", spans, a_transition=an(TRANSITIONS[name]))
    missing = bool(absent) and asker.absent()
    once = [(i, k) for i, k in found if kinds.count(k) == 1]
    if not once and not missing:
        return None
    index, name = (None, rng.choice(absent)) if missing else rng.choice(once)
    spans = timeline.transition_spans(name) or asker.whole
    slots = {"a_transition": an(TRANSITIONS[name])}
    return _which_scene(asker, "transition.which_scene", index, spans, slots)


def _brightness(asker: Asker) -> Question | None:
    timeline, rng = asker.timeline, asker.rng
    scenes = timeline.scenes
    kind = rng.choice(("scene", "scene", "which_scene", "when"))
    steady = [i for i in range(len(scenes)) if not timeline.dims(i)]
    lit = [i for i in steady if scenes[i].light is not None]
    if kind == "scene":
        dark = [i for i in steady if scenes[i].light is None]
        # As with resting cameras: a light that stays the same is the most common.
        pool = lit
        if asker.rarely("light", 0.3) and (not lit or rng.random() < 0.3):
            pool = dark
        if not pool:
            return None
        index = rng.choice(pool)
        change = scenes[index].light
        answer = LIGHT_STEADY if change is None else LIGHT_CHANGES[change.kind]
        every = [*LIGHT_CHANGES.values(), LIGHT_STEADY]
        choices = asker.shuffled(answer, [text for text in every if text != answer])
        spans = [asker.scene_span(index)]
        if change is not None:
            spans = [(change.start_seconds, change.end_seconds)]
        return asker.ask("brightness.scene", answer, choices, spans, ordinal=asker.ordinal(index))
    # Fades and flashes also brighten and darken the picture.
    if len(steady) < len(scenes):
        return None
    kinds = [scenes[i].light.kind for i in lit]
    once = [i for i in lit if kinds.count(scenes[i].light.kind) == 1]
    if not once:
        return None
    index = rng.choice(once)
    change = scenes[index].light
    slots = {"does": LIGHT_CHANGES[change.kind]}
    if kind == "when":
        start, end = change.start_seconds, change.end_seconds
        return asker.moment("brightness.when", start, [(start, end)], **slots)
    spans = [(change.start_seconds, change.end_seconds)]
    return _which_scene(asker, "brightness.which_scene", index, spans, slots)


MAKERS: dict[str, tuple[Maker, ...]] = {
    "exist": (_exist_object, _exist_motion, _exist_which, _exist_which),
    "state": (_state_at, _state_colour_at, _state_motion_at),
    "scene": (_scene_nth,),
    "count": (
        _count_objects,
        _count_alike,
        _count_repetitions,
        _count_repetitions,
        _count_scenes,
        _count_scenes_with_shape,
        _count_transitions,
        _count_camera,
    ),
    "reading": (_reading,),
    "camera": (_camera,),
    "transition": (_transition,),
    "brightness": (_brightness,),
}
