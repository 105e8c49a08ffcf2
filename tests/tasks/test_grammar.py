import random
import time

import pytest

from timevlm.processing import TimeVLMProcessor
from timevlm.tasks.captioning import format_captions, parse_captions
from timevlm.tasks.grammar import (
    AllowedTokens,
    CaptionGrammar,
    CaptionLimits,
    SpanGrammar,
    TimestampTrie,
    WordTokens,
)
from timevlm.tasks.grounding import format_spans, parse_spans, snap_spans
from timevlm.tasks.timestamps import round_seconds
from timevlm.tokenization import build_tokenizer

TEXTS = ["a red circle moves left, then stops.", "the blue square spins"]
FRAMES = [
    [0.0],
    [0.0, 0.04, 0.08, 0.12],
    [0.5 * index for index in range(30)],
    [7.3 * index for index in range(200)],
    [99.8, 99.9, 100.0, 100.1, 999.9, 1000.0, 36000.0],
]


@pytest.fixture(scope="module")
def processor():
    return TimeVLMProcessor(build_tokenizer(TEXTS), tokens_per_frame=2)


def walk(grammar, rng, vocab_size):
    """Ids of a random legal answer; every choice is checked against `advance`."""
    state = grammar.start()
    ids = []
    while not grammar.finished(state):
        allowed = grammar.allowed(state)
        choices = [token for token in range(vocab_size) if token in allowed]
        assert choices, f"dead end after {ids}"
        illegal = rng.randrange(vocab_size)
        if illegal not in allowed:
            with pytest.raises(ValueError, match="token"):
                grammar.advance(state, illegal)
        ids.append(rng.choice(choices))
        state = grammar.advance(state, ids[-1])
    assert grammar.allowed(state) == AllowedTokens(())
    with pytest.raises(ValueError, match="not allowed"):
        grammar.advance(state, ids[-1])
    return ids


def accepts(grammar, ids):
    state = grammar.start()
    for token in ids:
        assert token in grammar.allowed(state), f"token {token} of {ids} is refused"
        state = grammar.advance(state, token)
    return grammar.finished(state)


@pytest.mark.parametrize("frames", FRAMES)
def test_any_walk_through_the_span_grammar_is_an_answer(processor, frames):
    rng = random.Random(0)
    times = {round_seconds(frame) for frame in frames}
    grammar = processor.span_grammar(frames, max_spans=3)
    for _ in range(40):
        spans = parse_spans(processor.decode(walk(grammar, rng, len(processor.tokenizer))))
        assert 1 <= len(spans) <= 3
        assert {time for span in spans for time in span} <= times


@pytest.mark.parametrize("frames", FRAMES)
def test_the_span_grammar_takes_every_formatted_answer(processor, frames):
    rng = random.Random(1)
    for _ in range(60):
        starts = [rng.uniform(0, frames[-1]) for _ in range(rng.randrange(1, 5))]
        spans = snap_spans([(start, start + rng.uniform(0, 40)) for start in starts], frames)
        grammar = processor.span_grammar(frames, max_spans=len(spans))
        assert accepts(grammar, processor.answer_ids(format_spans(spans)))


def test_the_span_grammar_reaches_exactly_the_legal_answers(processor):
    frames = [0.0, 9.9, 10.0, 110.0]
    grammar = processor.span_grammar(frames, max_spans=2)
    found = []

    def explore(state, ids):
        if grammar.finished(state):
            found.append(tuple(parse_spans(processor.decode(ids))))
        for token in grammar.allowed(state).ids:
            explore(grammar.advance(state, token), [*ids, token])

    explore(grammar.start(), [])
    one = [((a, b),) for a in frames for b in frames if a <= b]
    two = [(*x, *y) for x in one for y in one if x[0][1] < y[0][0]]
    assert sorted(found) == sorted(one + two)


def test_no_third_span_where_two_are_allowed_or_no_time_is_left(processor):
    for max_spans, text in ((2, "<0.0s> - <0.0s>, <1.0s> - <1.0s>"), (9, "<0.0s> - <4.0s>")):
        grammar = processor.span_grammar([0, 1, 2, 3, 4], max_spans=max_spans)
        state = grammar.start()
        for token in processor.answer_ids(text)[:-1]:
            state = grammar.advance(state, token)
        assert grammar.allowed(state) == AllowedTokens((processor.end_token_id,))


@pytest.mark.parametrize("frames", FRAMES)
def test_any_walk_through_the_caption_grammar_is_an_answer(processor, frames):
    rng = random.Random(0)
    times = {round_seconds(frame) for frame in frames}
    limits = CaptionLimits(max_lines=3, max_words=4, max_word_tokens=3)
    grammar = processor.caption_grammar(frames, limits=limits)
    for _ in range(30):
        captions = parse_captions(processor.decode(walk(grammar, rng, len(processor.tokenizer))))
        assert 1 <= len(captions) <= 3
        for start, end, text in captions:
            assert {start, end} <= times
            assert 1 <= len(text.split(" ")) <= 4


def test_the_caption_grammar_takes_every_formatted_answer(processor):
    rng = random.Random(2)
    frames = FRAMES[2]
    words = [
        "a",
        "red",
        "circle,",
        "stops.",
        "zigzags",
        "\u732b",
        "12",
        "x-y",
        "->",
        "&",
        "caf\u00e9",
    ]
    grammar = processor.caption_grammar(frames)
    for _ in range(200):
        count = rng.randrange(1, 6)
        indices = [sorted(rng.sample(range(len(frames)), count)) for _ in range(2)]
        times = [(frames[min(pair)], frames[max(pair)]) for pair in zip(*indices, strict=True)]
        captions = [
            (start, end, " ".join(rng.choices(words, k=rng.randrange(1, 12))))
            for start, end in times
        ]
        assert accepts(grammar, processor.answer_ids(format_captions(captions)))


def test_captions_go_forward(processor):
    grammar = processor.caption_grammar([0.0, 1.0, 2.0, 3.0])
    tokens = {t: processor.timestamp_ids([t])[0][0] for t in (0.0, 1.0, 2.0, 3.0)}

    def after(text, num_left_out=0):
        state = grammar.start()
        for token in processor.answer_ids(text)[: -1 - num_left_out]:
            state = grammar.advance(state, token)
        return state

    state = after("<1.0s> - <2.0s> red\n")
    assert grammar.allowed(state) == AllowedTokens(tuple(sorted((tokens[2.0], tokens[3.0]))))
    for back in (0.0, 1.0):
        with pytest.raises(ValueError, match="leads to no timestamp"):
            grammar.advance(state, tokens[back])
    state = after("<1.0s> - <2.0s> red\n<2.0s> - <3.0s>", num_left_out=2)
    assert grammar.allowed(state) == AllowedTokens((tokens[3.0],))
    (newline,) = processor.answer_ids("\n")[:-1]
    assert newline in grammar.allowed(after("<0.0s> - <2.0s> red"))
    assert newline not in grammar.allowed(after("<0.0s> - <3.0s> red"))


def test_text_cannot_open_a_time_or_a_turn(processor):
    grammar = processor.caption_grammar([0.0])
    state = grammar.start()
    for token in processor.answer_ids("<0.0s> - <0.0s> red")[:-1]:
        state = grammar.advance(state, token)
    allowed = grammar.allowed(state)
    assert processor.end_token_id in allowed
    vocabulary = processor.tokenizer.get_vocab()
    opening = {token_id for token, token_id in vocabulary.items() if "<" in token}
    assert len(opening) > 100
    assert [token for token in opening if token in allowed] == [processor.end_token_id]


@pytest.mark.parametrize("decimals_apart", [0.1, 3.6])
def test_ten_thousand_frames_are_cheap(processor, decimals_apart):
    seconds = [index * decimals_apart for index in range(10_000)]
    timestamps = processor.timestamp_ids(seconds)
    durations = []
    for _ in range(3):
        begin = time.perf_counter()
        grammar = SpanGrammar(timestamps, dash=[1], comma=[2], end_id=3, max_spans=8)
        durations.append(time.perf_counter() - begin)
    assert min(durations) < 0.3
    ids = walk(processor.span_grammar(seconds, max_spans=8), random.Random(0), 600)
    state = grammar.start()
    begin = time.perf_counter()
    for _ in range(200):
        assert len(grammar.allowed(state).ids) <= 100
    assert (time.perf_counter() - begin) / 200 < 1e-3
    assert parse_spans(processor.decode(ids))


def test_a_state_is_a_value(processor):
    grammar = processor.span_grammar([0.0, 1.0], max_spans=2)
    ids = processor.answer_ids("<0.0s> - <0.0s>, <1.0s> - <1.0s>")
    states = [grammar.start()]
    for token in ids:
        states.append(grammar.advance(states[-1], token))
    assert [grammar.advance(states[i], token) for i, token in enumerate(ids)] == states[1:]
    assert len(set(states)) == len(states)


@pytest.mark.parametrize(
    ("timestamps", "message"),
    [
        ([], "at least one timestamp"),
        ([[]], "no tokens"),
        ([[1], [1, 2]], "begins with another"),
        ([[1, 2], [1]], "not new"),
        ([[1], [2], [1]], "not new"),
    ],
)
def test_trie_refuses_ambiguous_times(timestamps, message):
    with pytest.raises(ValueError, match=message):
        TimestampTrie(timestamps)


def test_neighbours_with_one_timestamp_count_once():
    assert len(TimestampTrie([[1, 2], [1, 2], [1, 3]])) == 2


def test_grammars_refuse_arguments_without_an_answer():
    words = WordTokens(space_id=5, openers=frozenset({6}), others=frozenset({7}))
    with pytest.raises(ValueError, match="max_spans is 0"):
        SpanGrammar([[1]], dash=[2], comma=[3], end_id=4, max_spans=0)
    with pytest.raises(ValueError, match="token of its own"):
        SpanGrammar([[1]], dash=[2], comma=[4], end_id=4, max_spans=1)
    with pytest.raises(ValueError, match="no tokens"):
        SpanGrammar([[1]], dash=[], comma=[3], end_id=4, max_spans=1)
    with pytest.raises(ValueError, match="no word holds"):
        CaptionGrammar([[1]], dash=[2], newline_id=7, end_id=4, words=words)
    with pytest.raises(ValueError, match="allow no caption"):
        CaptionLimits(max_words=0)


def test_allowed_tokens_are_a_set():
    allowed = AllowedTokens((2, 5, 9))
    assert [token for token in range(11) if token in allowed] == [2, 5, 9]
    assert 0 not in AllowedTokens(())


def test_ids_beyond_the_tokenizer_are_never_allowed(processor):
    """Logits are often padded to a round width."""
    grammar = processor.caption_grammar([0.0])
    state = grammar.start()
    for token in processor.answer_ids("<0.0s> - <0.0s> red")[:-1]:
        assert max(grammar.allowed(state).ids) < len(processor.tokenizer)
        state = grammar.advance(state, token)
    assert max(grammar.allowed(state).ids) < len(processor.tokenizer)
