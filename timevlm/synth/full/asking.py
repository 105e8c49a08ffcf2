"""What all question makers of level "full" share: wordings, spans, choices, references."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from timevlm.synth.choices import (
    NUM_CHOICES,
    Look,
    interval_choices,
    moment_choices,
    shuffled_choices,
)
from timevlm.synth.full.palette import COLOURS, NUMBERS, TRAVELLING
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import NOT_IN_VIDEO, QUESTION_WORDINGS, draw_wording
from timevlm.synth.items import Question, Span
from timevlm.synth.palette import ORDINALS, SHAPES
from timevlm.synth.timeline import Track
from timevlm.synth.wording import an, at_time, from_to, join_phrases
from timevlm.tasks.grounding import merge_spans

# How often "not in the video" is the answer where it can be, and a wrong choice elsewhere: about
# as often right as any other choice that is offered.
ABSENT_SHARE = 0.07
_DECOY_SHARE = 0.45


@dataclass(frozen=True, kw_only=True)
class Asker:
    """A video's facts with the random stream of its questions."""

    timeline: FullTimeline
    rng: random.Random

    @property
    def whole(self) -> list[Span]:
        """The span of the whole video."""
        return [(0.0, self.timeline.spec.duration_seconds)]

    def ask(
        self,
        kind: str,
        answer: str,
        choices: Sequence[str] | None,
        spans: Sequence[Span],
        **slots: str,
    ) -> Question | None:
        """The question in a wording of its split; None where there are no choices to offer."""
        if choices is None or len(choices) < 2:
            return None
        split = self.timeline.spec.split
        return Question(
            family=kind.split(".")[0],
            kind=kind,
            text=draw_wording(self.rng, QUESTION_WORDINGS, kind, split, slots),
            answer=answer,
            choices=tuple(choices),
            answer_spans=tuple(merge_spans(spans)),
        )

    def pick(self, tracks: Sequence[Track]) -> Track | None:
        """One of the tracks, None if there are none."""
        return self.rng.choice(tracks) if tracks else None

    def absent(self) -> bool:
        """Whether to ask about something that is not in the video."""
        return self.rng.random() < ABSENT_SHARE

    def rarely(self, topic: str, share: float) -> bool:
        """Whether this video is among the few in which the commonest answer may be asked for.

        The video decides and not a draw, so that trying again cannot make the answer common.
        """
        spec = self.timeline.spec
        return random.Random(f"{topic}:{spec.split}:{spec.seed}").random() < share

    def rationed(self, kind: str, count: int, common: dict[int, float]) -> bool:
        """Whether a count may be the answer here; `common` has the shares of common counts."""
        return count not in common or self.rarely(f"{kind}:{count}", common[count])

    def name(self, track: Track) -> str:
        """A name that means this track alone."""
        return self.rng.choice(self.timeline.names(track))

    def named(self) -> list[Track]:
        """The tracks that a name means alone."""
        return [t for t in self.timeline.tracks if self.timeline.names(t)]

    def absent_look(self) -> str:
        """A colour and shape that never come together, each word from the video if possible."""
        looks = self.timeline.looks()
        shapes, colours = sorted({s for _, s in looks}), sorted({c for c, _ in looks})
        absent = [(c, s) for c in colours for s in shapes if (c, s) not in looks]
        if not absent or self.rng.random() < 0.3:
            absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in looks]
        return " ".join(self.rng.choice(absent))

    def ordinal(self, index: int) -> str:
        """How a scene is counted: "second", or "last"."""
        last = index == len(self.timeline.scenes) - 1
        if last and index and self.rng.random() < 0.5:
            return "last"
        return ORDINALS[index]

    def scene_span(self, index: int) -> Span:
        """When a scene is shown."""
        return self.timeline.scenes[index].shown

    def shuffled(self, answer: str, wrong: Iterable[str], *, decoy: bool = False) -> list[str]:
        """At most four choices; a `decoy` is "not in the video" in place of a wrong one."""
        kept = list(wrong)[: NUM_CHOICES - 1]
        if decoy and kept and answer != NOT_IN_VIDEO and self.rng.random() < _DECOY_SHARE:
            kept[-1] = NOT_IN_VIDEO
        return list(shuffled_choices(self.rng, answer, kept))

    def words(self, answer: str, seen: set[str], allowed: Iterable[str]) -> list[str]:
        """Four of the allowed words, some of the wrong ones from the video; decoys too."""
        rng = self.rng
        near = sorted(seen - {answer})
        near = rng.sample(near, min(len(near), rng.randint(1, NUM_CHOICES - 1)))
        far = sorted(set(allowed) - {answer} - set(near))
        wrong = near + rng.sample(far, min(len(far), NUM_CHOICES - 1 - len(near)))
        rng.shuffle(wrong)
        return self.shuffled(answer, wrong, decoy=True)

    def numbers(self, answer: int, allowed: Iterable[int]) -> list[str]:
        """Four numbers as words out of the allowed ones."""
        wrong = [n for n in allowed if n != answer]
        wrong = self.rng.sample(wrong, min(len(wrong), NUM_CHOICES - 1))
        return self.shuffled(NUMBERS[answer], [NUMBERS[n] for n in wrong])

    def names_for(self, answer: str, others: Sequence[Track], exclude: str = "") -> list[str]:
        """Four objects "the red circle": the answer, others of the video, then absent looks."""
        names = {self.timeline.names(t)[0] for t in others if self.timeline.names(t)}
        wrong = sorted(names - {answer, exclude})
        wrong = self.rng.sample(wrong, min(len(wrong), NUM_CHOICES - 1))
        while len(wrong) < NUM_CHOICES - 1:
            look = self.absent_look()
            if look not in wrong:
                wrong.append(look)
        self.rng.shuffle(wrong)
        return self.shuffled(f"the {answer}", [f"the {name}" for name in wrong])

    def scenes_for(self, answer: int | None) -> list[str]:
        """Up to four scenes "the second scene"; None stands for "not in the video"."""
        count = len(self.timeline.scenes)
        others = [i for i in range(count) if i != answer]
        wrong = [f"the {ORDINALS[i]} scene" for i in self.rng.sample(others, min(3, len(others)))]
        if answer is None:
            return self.shuffled(NOT_IN_VIDEO, wrong)
        if len(wrong) < 3 or self.rng.random() < _DECOY_SHARE:
            wrong = [*wrong[:2], NOT_IN_VIDEO]
        return self.shuffled(f"the {ORDINALS[answer]} scene", wrong)

    def looks(self, right: Sequence[Look]) -> tuple[str, list[str]]:
        """The answer that lists these looks, and four lists of the same make-up.

        A wrong list has as many objects, colours and shapes, and none of the right looks.
        """
        seen_colours = sorted({c for c, _ in self.timeline.looks()})
        seen_shapes = sorted({s for _, s in self.timeline.looks()})
        wrong: dict[frozenset[Look], str] = {}
        while len(wrong) < NUM_CHOICES - 1:
            colours = self._renamed([c for c, _ in right], seen_colours, list(COLOURS))
            shapes = self._renamed([s for _, s in right], seen_shapes, list(SHAPES))
            listed = [(colours[c], shapes[s]) for c, s in right]
            if not set(listed) & set(right):
                wrong.setdefault(frozenset(listed), list_looks(listed))
        return list_looks(right), self.shuffled(list_looks(right), wrong.values())

    def _renamed(self, words: Sequence[str], seen: list[str], every: list[str]) -> dict[str, str]:
        different = list(dict.fromkeys(words))
        pool = seen if len(seen) >= len(different) and self.rng.random() < 0.5 else every
        return dict(zip(different, self.rng.sample(pool, len(different)), strict=True))

    def moment(
        self, kind: str, seconds: float, rests_on: Sequence[Span] = (), **slots: str
    ) -> Question | None:
        """A question whose answer is a moment."""
        choices = moment_choices(self.timeline, self.rng, seconds)
        spans = list(rests_on) or [self.timeline.around(seconds)]
        return self.ask(kind, at_time(seconds), choices, spans, **slots)

    def interval(self, kind: str, span: Span, **slots: str) -> Question | None:
        """A question whose answer is an interval."""
        choices = interval_choices(self.timeline, self.rng, span)
        return self.ask(kind, from_to(*span), choices, [span], **slots)

    def yes_no(self, kind: str, spans: Sequence[Span], **slots: str) -> Question | None:
        """A question whose answer is yes if there are spans, else no."""
        answer, wrong = ("yes", "no") if spans else ("no", "yes")
        return self.ask(kind, answer, self.shuffled(answer, [wrong]), spans or self.whole, **slots)

    def quiet_seconds(self, tracks: Sequence[Track] = ()) -> float | None:
        """A half or whole second away from every event, at which all the tracks are visible."""
        start = max((t.visible[0] for t in tracks), default=0.0)
        end = min((t.visible[1] for t in tracks), default=self.timeline.spec.duration_seconds)
        halves = [i / 2 for i in range(int(2 * start), int(2 * end) + 1) if start <= i / 2 < end]
        quiet = [seconds for seconds in halves if self.timeline.is_quiet(seconds)]
        return self.rng.choice(quiet) if quiet else None


Maker = Callable[[Asker], Question | None]


def list_looks(looks: Sequence[Look]) -> str:
    """Looks as a phrase: "a red circle and a blue star"."""
    return join_phrases([an(f"{colour} {shape}") for colour, shape in looks])


def shared_span(one: Track, other: Track) -> Span | None:
    """When both objects can be seen, None if never for two seconds."""
    start = max(one.visible[0], other.visible[0])
    end = min(one.visible[1], other.visible[1])
    return (start, end) if end - start >= 2.0 else None


def travels(track: Track) -> bool:
    """Whether the object goes from place to place."""
    return track.item.motion in TRAVELLING
