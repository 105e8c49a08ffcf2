"""Token-level grammars of answers that hold times: what cannot be parsed cannot be generated.

A grammar is immutable and its states are values. For a state it says which tokens may come next;
for a token it gives the next state:

    state = grammar.start()
    while not grammar.finished(state):
        token_id = choose(grammar.allowed(state))
        state = grammar.advance(state, token_id)

Every path ends: no state is without a legal token, and counts are bounded. Times come from a trie
over the token ids of the video's own timestamps. All constraints on times are lower bounds ("not
before the previous end"), so each node of the trie keeps the latest timestamp below it: a branch is
open if that one is late enough.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """The token ids that may come next, sorted.

    Always written out, never "all except": a model's logits may have more columns than its
    tokenizer has tokens, and a complement would let those through.
    """

    ids: tuple[int, ...]

    def __contains__(self, token_id: int) -> bool:
        index = bisect_left(self.ids, token_id)
        return index < len(self.ids) and self.ids[index] == token_id


class TimestampTrie:
    """The token sequences of a video's timestamps in time order, indexed 0, 1, 2, ...

    Neighbours with equal tokens (frames closer than the resolution of a timestamp) count as one.
    Raises ValueError without timestamps, or if they do not form a prefix-free list in which equals
    are neighbours.
    """

    def __init__(self, timestamps: Iterable[Sequence[int]]) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._latest: list[int] = [-1]
        self._is_leaf: list[bool] = [False]
        self._size = 0
        previous: tuple[int, ...] | None = None
        for sequence in timestamps:
            tokens = tuple(sequence)
            if tokens != previous:
                self._insert(tokens)
            previous = tokens
        if self._size == 0:
            raise ValueError("a grammar of times needs at least one timestamp")

    def __len__(self) -> int:
        return self._size

    def allowed(self, node: int, lowest: int) -> tuple[int, ...]:
        """Sorted ids that lead from `node` to a timestamp with an index of at least `lowest`."""
        latest = self._latest
        return tuple(
            sorted(
                token for token, child in self._children[node].items() if latest[child] >= lowest
            )
        )

    def child(self, node: int, token_id: int, lowest: int) -> int:
        """The node after `token_id`. Raises ValueError if `allowed` does not list the token."""
        child = self._children[node].get(token_id)
        if child is None or self._latest[child] < lowest:
            raise ValueError(f"token {token_id} leads to no timestamp of the video from here")
        return child

    def leaf_index(self, node: int) -> int | None:
        """Index of the timestamp that ends at `node`, None inside of one."""
        return self._latest[node] if self._is_leaf[node] else None

    def _insert(self, tokens: tuple[int, ...]) -> None:
        if not tokens:
            raise ValueError(f"timestamp {self._size} has no tokens")
        node = 0
        is_new = False
        for token in tokens:
            if self._is_leaf[node]:
                raise ValueError(f"timestamp {tokens} begins with another one")
            child = self._children[node].get(token)
            is_new = child is None
            if child is None:
                child = len(self._children)
                self._children[node][token] = child
                self._children.append({})
                self._latest.append(self._size)
                self._is_leaf.append(False)
            self._latest[child] = self._size
            node = child
        if not is_new:
            raise ValueError(
                f"timestamp {tokens} is not new: times are not in order, or it is a prefix"
            )
        self._is_leaf[node] = True
        self._size += 1


class RangeState(NamedTuple):
    """Where a `<start> - <end>` stands; `position` is a trie node or an offset into the dash."""

    phase: Literal["start", "dash", "end", "done"]
    position: int
    lowest: int  # lowest index that the time in work may have
    start: int  # index of the chosen start, -1 before
    lowest_end: int = 0  # lowest index that the end may have, whatever the start


class _Ranges:
    """The grammar of one `<start> - <end>` with start <= end, both timestamps of the video."""

    def __init__(self, timestamps: Iterable[Sequence[int]], dash: Sequence[int]) -> None:
        self.trie = TimestampTrie(timestamps)
        self._dash = tuple(dash)
        if not self._dash:
            raise ValueError("the separator between start and end has no tokens")

    def begin(self, lowest: int, lowest_end: int = 0) -> RangeState:
        return RangeState("start", 0, lowest, -1, lowest_end)

    def allowed(self, state: RangeState) -> tuple[int, ...]:
        if state.phase == "dash":
            return (self._dash[state.position],)
        return self.trie.allowed(state.position, state.lowest)

    def advance(self, state: RangeState, token_id: int) -> RangeState:
        """The next state; once it is "done", its `lowest` is the index of the end."""
        if state.phase == "dash":
            _expect(token_id, self._dash[state.position])
            if state.position + 1 < len(self._dash):
                return state._replace(position=state.position + 1)
            return state._replace(phase="end", position=0)
        node = self.trie.child(state.position, token_id, state.lowest)
        index = self.trie.leaf_index(node)
        if index is None:
            return state._replace(position=node)
        if state.phase == "start":
            return RangeState("dash", 0, max(index, state.lowest_end), index)
        return RangeState("done", 0, index, state.start)


class SpanState(NamedTuple):
    """Where an answer of `SpanGrammar` stands."""

    phase: Literal["range", "after", "comma", "finished"]
    range: RangeState
    num_spans: int  # spans begun
    position: int = 0  # offset into the comma


class SpanGrammar:
    """Answers `<3.0s> - <9.0s>, <12.0s> - <15.0s>` and the end token.

    Guarantees at least one and at most `max_spans` spans, start <= end, every time a timestamp of
    the video, each span after the end of the one before. `timestamps` are the token ids of the
    video's timestamps in time order, `dash` and `comma` those of the two separators. Raises
    ValueError for arguments that allow no answer or are ambiguous.
    """

    def __init__(
        self,
        timestamps: Iterable[Sequence[int]],
        *,
        dash: Sequence[int],
        comma: Sequence[int],
        end_id: int,
        max_spans: int,
    ) -> None:
        self._ranges = _Ranges(timestamps, dash)
        self._comma = tuple(comma)
        self._end_id = end_id
        self._max_spans = max_spans
        if not self._comma or self._comma[0] == end_id:
            raise ValueError("the separator between spans must begin with a token of its own")
        if max_spans < 1:
            raise ValueError(f"max_spans is {max_spans}; it must be at least 1")

    def start(self) -> SpanState:
        """The state before the first token."""
        return SpanState("range", self._ranges.begin(0), 1)

    def finished(self, state: SpanState) -> bool:
        """Whether the end token has been taken."""
        return state.phase == "finished"

    def allowed(self, state: SpanState) -> AllowedTokens:
        """The tokens that may come next; none once finished."""
        match state.phase:
            case "range":
                return AllowedTokens(self._ranges.allowed(state.range))
            case "comma":
                return AllowedTokens((self._comma[state.position],))
            case "after" if self._may_continue(state):
                return AllowedTokens(tuple(sorted((self._comma[0], self._end_id))))
            case "after":
                return AllowedTokens((self._end_id,))
        return AllowedTokens(())

    def advance(self, state: SpanState, token_id: int) -> SpanState:
        """The state after `token_id`. Raises ValueError for a token that is not allowed."""
        match state.phase:
            case "range":
                next_range = self._ranges.advance(state.range, token_id)
                phase = "after" if next_range.phase == "done" else "range"
                return state._replace(phase=phase, range=next_range)
            case "after" if token_id == self._end_id:
                return state._replace(phase="finished")
            case "after" if self._may_continue(state):
                return self._advance_comma(state._replace(phase="comma", position=0), token_id)
            case "comma":
                return self._advance_comma(state, token_id)
        raise ValueError(f"token {token_id} is not allowed after the last span")

    def _may_continue(self, state: SpanState) -> bool:
        is_room = state.range.lowest + 1 < len(self._ranges.trie)
        return is_room and state.num_spans < self._max_spans

    def _advance_comma(self, state: SpanState, token_id: int) -> SpanState:
        _expect(token_id, self._comma[state.position])
        if state.position + 1 < len(self._comma):
            return state._replace(position=state.position + 1)
        following = self._ranges.begin(state.range.lowest + 1)
        return SpanState("range", following, state.num_spans + 1)


class CaptionState(NamedTuple):
    """Where an answer of `CaptionGrammar` stands."""

    phase: Literal["range", "text", "finished"]
    range: RangeState
    num_lines: int  # lines begun
    num_words: int = 0  # words begun in this line
    num_word_tokens: int = 0  # tokens of the word in work
    after_space: bool = False  # the word in work is still a lone space


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTokens:
    """The tokens that the text of a caption is made of; every other token is forbidden in it."""

    space_id: int  # a single space, nothing else
    openers: frozenset[int]  # a space and at least one more character: they begin a word
    others: frozenset[int]  # no white space: they continue a word


class CaptionGrammar:
    """Answers of lines `<0.0s> - <9.0s> a red circle`, newlines between, and the end token.

    Guarantees at least one and at most `max_lines` lines, start <= end, every time a timestamp of
    the video, each start after the start and each end after the end of the line above (a model that
    is stuck comes to the end of the video), and per line 1 to `max_words` words with single spaces,
    each of at most `max_word_tokens` tokens (an unknown word is spelled in bytes).
    Raises ValueError for arguments that allow no answer or are ambiguous.
    """

    def __init__(
        self,
        timestamps: Iterable[Sequence[int]],
        *,
        dash: Sequence[int],
        newline_id: int,
        end_id: int,
        words: WordTokens,
        limits: "CaptionLimits | None" = None,
    ) -> None:
        self._ranges = _Ranges(timestamps, dash)
        self._newline_id = newline_id
        self._end_id = end_id
        self._words = words
        self._limits = limits or CaptionLimits()
        closing = {newline_id, end_id}
        if len(closing) < 2 or closing & ({words.space_id} | words.openers | words.others):
            raise ValueError("newline and end must be two tokens that no word holds")
        if not words.others:
            raise ValueError("no token can follow the space that opens an unknown word")
        self._text_tokens: dict[tuple[bool, bool, bool, bool], AllowedTokens] = {
            (space, continued, closed, further): self._text_set(space, continued, closed, further)
            for space in (False, True)
            for continued in (False, True)
            for closed in (False, True)
            for further in (False, True)
        }

    def start(self) -> CaptionState:
        """The state before the first token."""
        return CaptionState("range", self._ranges.begin(0), 1)

    def finished(self, state: CaptionState) -> bool:
        """Whether the end token has been taken."""
        return state.phase == "finished"

    def allowed(self, state: CaptionState) -> AllowedTokens:
        """The tokens that may come next; none once finished."""
        match state.phase:
            case "range":
                return AllowedTokens(self._ranges.allowed(state.range))
            case "text":
                return self._text_tokens[self._text_options(state)]
        return AllowedTokens(())

    def advance(self, state: CaptionState, token_id: int) -> CaptionState:
        """The state after `token_id`. Raises ValueError for a token that is not allowed."""
        if state.phase == "range":
            next_range = self._ranges.advance(state.range, token_id)
            phase = "text" if next_range.phase == "done" else "range"
            return state._replace(phase=phase, range=next_range)
        if state.phase == "finished":
            raise ValueError(f"token {token_id} is not allowed after the end")
        may_open, may_continue, may_end, may_break = self._text_options(state)
        words = self._words
        if may_end and token_id == self._end_id:
            return state._replace(phase="finished")
        if may_break and token_id == self._newline_id:
            following = self._ranges.begin(state.range.start + 1, state.range.lowest + 1)
            return CaptionState("range", following, state.num_lines + 1)
        if may_open and (token_id == words.space_id or token_id in words.openers):
            return state._replace(
                num_words=state.num_words + 1,
                num_word_tokens=1,
                after_space=token_id == words.space_id,
            )
        if may_continue and token_id in words.others:
            return state._replace(num_word_tokens=state.num_word_tokens + 1, after_space=False)
        raise ValueError(f"token {token_id} is not allowed in the text of a caption here")

    def _text_options(self, state: CaptionState) -> tuple[bool, bool, bool, bool]:
        """Whether a word may open, the word go on, the answer end, a new line follow."""
        is_word = state.num_words > 0 and not state.after_space
        # The end of this line's range, in `lowest`, must leave a later one.
        is_room = state.range.lowest + 1 < len(self._ranges.trie)
        return (
            not state.after_space and state.num_words < self._limits.max_words,
            state.num_words > 0 and state.num_word_tokens < self._limits.max_word_tokens,
            is_word,
            is_word and is_room and state.num_lines < self._limits.max_lines,
        )

    def _text_set(
        self, may_open: bool, may_continue: bool, may_end: bool, may_break: bool
    ) -> AllowedTokens:
        ids: set[int] = set()
        if may_open:
            ids |= {self._words.space_id} | self._words.openers
        if may_continue:
            ids |= self._words.others
        if may_end:
            ids.add(self._end_id)
        if may_break:
            ids.add(self._newline_id)
        return AllowedTokens(tuple(sorted(ids)))


class LineGrammar:
    """One line of captions, from a state of their grammar at which a line begins."""

    def __init__(self, captions: CaptionGrammar, place: CaptionState) -> None:
        self._place = place
        self.allowed = captions.allowed
        self.advance = captions.advance

    def start(self) -> CaptionState:
        """The state before the line."""
        return self._place

    def finished(self, state: CaptionState) -> bool:
        """Whether the next line is begun, or the answer is over."""
        return state.phase == "finished" or state.num_lines > self._place.num_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionLimits:
    """How much `CaptionGrammar` lets a model write."""

    max_lines: int = 64
    max_words: int = 128
    """Words per line; a scene of five objects, a camera, light and text takes 47 of `nano`'s."""
    max_word_tokens: int = 32
    """Tokens per word; a word outside the vocabulary takes one for its space and one per byte."""

    def __post_init__(self) -> None:
        if self.max_lines < 1 or self.max_words < 1 or self.max_word_tokens < 2:
            raise ValueError(f"limits that allow no caption: {self}")


def _expect(token_id: int, expected: int) -> None:
    if token_id != expected:
        raise ValueError(f"token {token_id} is not allowed inside a separator; expected {expected}")
