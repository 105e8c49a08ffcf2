"""The laws of the hybrid LLM: one result, however it is read, and nothing seen before its time."""

import pytest
import torch
from torch import Tensor

from tests.helpers import small_lm
from tests.llm.rows import (
    CASES,
    COMPRESSING,
    PREFIX,
    RAGGED_TEXTS,
    RAGGED_VIDEOS,
    TEXT,
    TOLERANCE,
    VIDEO,
    Rows,
    ask,
    random_rows,
    watch,
    whole,
)
from timevlm.errors import ModelError
from timevlm.llm import HybridLM, HybridState, Spans, TokenStore
from timevlm.llm.state import AttentionState, state_from_tensors, state_tensors


@pytest.fixture(params=CASES)
def lm(request) -> HybridLM:
    pattern, changes = CASES[request.param]
    return small_lm(pattern, **changes)


@pytest.mark.parametrize("sizes", [[VIDEO], [1] * VIDEO, [10, 1, 18], [8, 8, 8, 5]])
@torch.inference_mode()
def test_whole_equals_streamed_in_any_chunks(lm, sizes):
    rows = random_rows()
    found = ask(lm, rows.text, watch(lm, rows, sizes), [TEXT])
    torch.testing.assert_close(found, whole(lm, rows), **TOLERANCE)


@pytest.mark.parametrize("sizes", [[5, 6], [1] * TEXT, [6, 1, 4], [10, 1]])
@torch.inference_mode()
def test_whole_equals_prompt_then_any_steps(lm, sizes):
    rows = random_rows()
    found = ask(lm, rows.text, watch(lm, rows), sizes)
    torch.testing.assert_close(found, whole(lm, rows, prompt=sizes[0]), **TOLERANCE)


@torch.inference_mode()
def test_an_answer_read_with_its_prompt_equals_both_read_apart(lm):
    rows = random_rows()
    state = watch(lm, rows)
    together = lm.read_prompt(rows.text, state, rank_index=torch.full((2,), 4)).hidden
    torch.testing.assert_close(together, ask(lm, rows.text, state, [5, 6]), **TOLERANCE)


@torch.inference_mode()
def test_text_alone_needs_no_video(lm):
    rows = random_rows(video=0)
    found = ask(lm, rows.text, watch(lm, rows), [4, 7])
    torch.testing.assert_close(found, whole(lm, rows, prompt=4), **TOLERANCE)


@pytest.mark.parametrize("name", COMPRESSING)
@torch.inference_mode()
def test_keeping_everything_is_the_identity(name):
    pattern, changes = CASES[name]
    everything = [{**c, "keep": 1.0, "max_keep": None} for c in changes["transv"]]
    keeping = small_lm(pattern, transv=everything)
    plain = small_lm(pattern)
    plain.load_state_dict(keeping.state_dict(), strict=False)
    rows = random_rows()
    found = ask(keeping, rows.text, watch(keeping, rows, [20, 9]), [5, 6])
    torch.testing.assert_close(found, whole(plain, rows), **TOLERANCE)


@pytest.mark.parametrize("name", COMPRESSING)
@torch.inference_mode()
def test_compression_changes_the_result(name):
    # Else the laws above would hold of a model that ignores its configuration.
    pattern, changes = CASES[name]
    lm, plain = small_lm(pattern, **changes), small_lm(pattern)
    plain.load_state_dict(lm.state_dict(), strict=False)
    rows = random_rows()
    assert float((whole(lm, rows) - whole(plain, rows)).abs().max()) > 0.01


@torch.inference_mode()
def test_transfer_differs_from_dropping():
    rows = random_rows()
    transv = [{"layer": 1, "keep": 0.5}, {"layer": 3, "keep": 0.2, "rule": "attention"}]
    lm = small_lm("M*M*", transv=transv)
    moved = whole(lm, rows)
    lm.backbone.alpha.zero_()
    dropped = whole(lm, rows)
    assert float((moved - dropped).abs().max()) > 0.01
    without = small_lm("M*M*", transv=[{**c, "transfer": False} for c in transv])
    without.load_state_dict(lm.state_dict(), strict=False)
    torch.testing.assert_close(whole(without, rows), dropped, **TOLERANCE)


@pytest.mark.parametrize("sizes", [[29], [7, 7, 7, 7, 1]])
@torch.inference_mode()
def test_a_row_of_a_ragged_batch_equals_itself_alone(lm, sizes):
    rows = random_rows(batch=4)
    state = lm.init_state(torch.tensor(RAGGED_VIDEOS))
    state = lm.read_prefix(rows.prefix, state)
    start = 0
    for part in rows.video.split(sizes, dim=1):
        lengths = (torch.tensor(RAGGED_VIDEOS) - start).clamp(0, part.shape[1])
        state = lm.read_video(part, state, lengths)
        start += part.shape[1]
    out = lm.read_prompt(rows.text, state, torch.tensor(RAGGED_TEXTS))
    answers = torch.randn(4, 5, 32)
    lengths = torch.tensor([5, 2, 1, 3])
    after = lm.read_text(answers, out.state, lengths)
    last = lm.read_text(answers[:, :1], after.state)
    for i, (video, text) in enumerate(zip(RAGGED_VIDEOS, RAGGED_TEXTS, strict=True)):
        answer = torch.cat([answers[i : i + 1, : lengths[i]], answers[i : i + 1, :1]], dim=1)
        alone = Rows(
            rows.prefix[i : i + 1],
            rows.video[i : i + 1, :video],
            torch.cat([rows.text[i : i + 1, :text], answer], dim=1),
        )
        expected = whole(lm, alone, prompt=text)[0]
        found = torch.cat([out.hidden[i, :text], after.hidden[i, : lengths[i]], last.hidden[i]])
        torch.testing.assert_close(found, expected, **TOLERANCE)


@torch.inference_mode()
def test_whole_rows_of_different_length_equal_themselves_alone(lm):
    spans = Spans(*map(torch.tensor, ([3, 1, 2], [29, 0, 12], [4, 11, 6])))
    x = torch.randn(3, int(spans.total.max()), 32)
    hidden, _ = lm(x, spans)
    for i in range(3):
        alone = Spans(*(part[i : i + 1] for part in (spans.prefix, spans.video, spans.text)))
        expected, _ = lm(x[i : i + 1, : int(alone.total)], alone)
        found = hidden[i, : expected.shape[1]]
        torch.testing.assert_close(found, expected[0], **TOLERANCE)


@torch.inference_mode()
def test_no_output_changes_before_its_input(lm):
    """Text after the prompt: token t changes what follows, and nothing before."""
    rows = random_rows(batch=1)
    state = watch(lm, rows)
    rank = torch.tensor([2])
    before = lm.read_prompt(rows.text, state, rank_index=rank).hidden
    for t in range(3, TEXT):
        text = rows.text.clone()
        text[:, t] += 1.0
        after = lm.read_prompt(text, state, rank_index=rank).hidden
        torch.testing.assert_close(after[:, :t], before[:, :t], atol=1e-6, rtol=0)
        assert float((after[:, t] - before[:, t]).abs().max()) > 1e-3


@pytest.mark.parametrize("pattern", ["M", "MM", "*", "M-*M*"])
@torch.inference_mode()
def test_whole_rows_are_causal_at_every_token(pattern):
    lm = small_lm(pattern)
    x = torch.randn(1, 14, 32)
    spans = Spans(*(torch.tensor([n]) for n in (2, 8, 4)))
    before, _ = lm(x, spans)
    for t in range(14):
        changed = x.clone()
        changed[:, t:] += torch.randn(1, 14 - t, 32)
        after, _ = lm(changed, spans)
        torch.testing.assert_close(after[:, :t], before[:, :t], atol=1e-6, rtol=0)
        assert float((after[:, t] - before[:, t]).abs().max()) > 1e-3


@torch.inference_mode()
def test_mamba_convolution_reaches_back_and_not_ahead():
    # With step sizes of zero the recurrence is silent: what is left is the convolution.
    lm = small_lm("M", time_step_limit=(0.0, 0.0), conv_kernel=4)
    x = torch.randn(1, 12, 32)
    spans = Spans(*(torch.tensor([n]) for n in (0, 0, 12)))
    before, _ = lm(x, spans)
    changed = x.clone()
    changed[:, 5] += 1.0
    difference = (lm(changed, spans)[0] - before).abs().amax(dim=(0, 2))
    assert (difference > 1e-5).nonzero().flatten().tolist() == [5, 6, 7, 8]


@torch.inference_mode()
def test_a_ranking_does_not_see_what_follows_the_prompt():
    lm = small_lm("M*M*", transv=[{"layer": 3, "keep": 0.3, "rule": "attention"}])
    rows = random_rows()
    state = watch(lm, rows)
    alone = lm.read_prompt(rows.text[:, :5], state).state
    longer = lm.read_prompt(rows.text, state, rank_index=torch.tensor([4, 4])).state
    torch.testing.assert_close(longer.ranking, alone.ranking, **TOLERANCE)
    assert torch.equal(longer.kept, alone.kept)


@torch.inference_mode()
def test_ranking_and_choice_belong_to_each_row():
    lm = small_lm("M*M*", transv=[{"layer": 3, "keep": 0.3, "rule": "attention"}])
    rows = random_rows()
    state = lm.init_state(torch.tensor([VIDEO, 10]))
    state = lm.read_prefix(rows.prefix, state)
    state = lm.read_video(rows.video, state, torch.tensor([VIDEO, 10]))
    out = lm.read_prompt(rows.text, state).state
    assert out.kept.sum(dim=1).tolist() == [int(0.3 * VIDEO), 3]
    assert float(out.ranking[1, 10:].abs().max()) == 0.0
    for i, length in ((0, VIDEO), (1, 10)):
        scores, chosen = out.ranking[i, :length], out.kept[i, :length]
        assert float(scores[chosen].min()) > float(scores[~chosen].max())


def every_tensor(state: HybridState) -> list[Tensor]:
    found = []
    state.map(lambda t: found.append(t) or t)
    return found


@torch.inference_mode()
def test_asking_leaves_the_state_as_it_was(lm):
    rows = random_rows()
    state = watch(lm, rows, [20, 9])
    before = [t.clone() for t in every_tensor(state)]
    first = ask(lm, rows.text, state, [5, 6])
    other = ask(lm, rows.text.flip(1), state, [4, 7])
    assert torch.equal(ask(lm, rows.text, state, [5, 6]), first)
    assert float((first - other).abs().max()) > 1e-3
    after = every_tensor(state)
    assert len(before) == len(after)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@torch.inference_mode()
def test_watching_on_leaves_the_earlier_state_as_it_was(lm):
    rows = random_rows()
    state = lm.init_state(torch.full((2,), VIDEO))
    early = lm.read_video(rows.video[:, :20], lm.read_prefix(rows.prefix, state))
    before = [t.clone() for t in every_tensor(early)]
    one = lm.read_video(rows.video[:, 20:], early)
    lm.read_video(-rows.video[:, 20:], early)
    assert all(torch.equal(a, b) for a, b in zip(before, every_tensor(early), strict=True))
    found = ask(lm, rows.text, one, [TEXT])
    torch.testing.assert_close(found, whole(lm, rows), **TOLERANCE)


@torch.inference_mode()
def test_select_rows_forks_a_video_for_several_questions(lm):
    rows = random_rows()
    index = torch.tensor([1, 0, 1, 1])
    questions = torch.randn(4, TEXT, 32)
    found = ask(lm, questions, watch(lm, rows).consolidated().select_rows(index), [6, 5])
    for i, row in enumerate(index.tolist()):
        alone = Rows(rows.prefix[row : row + 1], rows.video[row : row + 1], questions[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], whole(lm, alone, prompt=6), **TOLERANCE)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [2, 1, 2]])
@torch.inference_mode()
def test_rows_that_share_what_was_read_are_as_rows_of_their_own(lm, sizes):
    rows = random_rows(batch=1)
    asked = lm.read_prompt(rows.text[:, :6], watch(lm, rows)).state
    written = torch.randn(3, TEXT - 6, 32)
    state, found, texts = asked.shared_by(3), [], torch.arange(3)
    for part in written.split(sizes, dim=1):
        out = lm.read_text(part[texts], state)
        found.append(out.hidden[texts.argsort()])
        swap = torch.tensor([2, 0, 1])  # as beams change their places
        state, texts = out.state.select_rows(swap), texts[swap]
    for i in range(3):
        text = torch.cat([rows.text[:, :6], written[i : i + 1]], dim=1)
        expected = whole(lm, Rows(rows.prefix, rows.video, text), prompt=6)[:, 6:]
        torch.testing.assert_close(torch.cat(found, dim=1)[i : i + 1], expected, **TOLERANCE)


@torch.inference_mode()
def test_writing_copies_no_keys_of_what_was_read(lm):
    asked = lm.read_prompt(torch.randn(1, 6, 32), watch(lm, random_rows(batch=1))).state
    state = asked.shared_by(3)
    for _ in range(3):
        state = lm.read_text(torch.randn(3, 1, 32), state).state.select_rows(
            torch.tensor([2, 2, 0])
        )
    for before, after in zip(asked.layers, state.layers, strict=True):
        if isinstance(before, AttentionState):
            read, written = after.store.parts
            assert read.data_ptr() == before.store.parts[0].data_ptr()
            assert written.shape[:2] == (3, 3)


@torch.inference_mode()
def test_states_survive_as_tables_of_tensors(lm):
    rows = random_rows()
    state = lm.init_state(torch.tensor([VIDEO, 10]))
    state = lm.read_prefix(rows.prefix, state)
    for start in (0, 20):
        part = rows.video[:, start : start + 20]
        lengths = (torch.tensor([VIDEO, 10]) - start).clamp(0, part.shape[1])
        state = lm.read_video(part, state, lengths)
    tensors = state_tensors(state.consolidated())
    again = state_from_tensors(tensors, lm.config.pattern, len(lm.config.transv))
    assert set(state_tensors(again)) == set(tensors)
    assert torch.equal(ask(lm, rows.text, again, [5, 6]), ask(lm, rows.text, state, [5, 6]))


@torch.inference_mode()
def test_consolidating_changes_nothing(lm):
    rows = random_rows()
    state = watch(lm, rows, [20, 9])
    single = state.consolidated()
    assert len(single.held_video.parts) <= 1
    assert torch.equal(ask(lm, rows.text, single, [TEXT]), ask(lm, rows.text, state, [TEXT]))


def test_missing_tensors_are_named():
    lm = small_lm("M*")
    tensors = state_tensors(lm.init_state(torch.tensor([3])))
    del tensors["num_video_total"]
    with pytest.raises(KeyError, match="num_video_total"):
        state_from_tensors(tensors, "M*", 0)


@torch.inference_mode()
def test_a_question_is_read_once_and_first():
    lm = small_lm("M*")
    rows = random_rows()
    state = watch(lm, rows)
    with pytest.raises(ModelError, match="use read_prompt"):
        lm.read_text(rows.text, state)
    asked = lm.read_prompt(rows.text, state).state
    with pytest.raises(ModelError, match="fork the state from before it"):
        lm.read_prompt(rows.text, asked)


@torch.inference_mode()
def test_uniform_dropping_leaves_the_positions_of_linspace():
    lm = small_lm("*M*", transv=[{"layer": 1, "keep": 0.4}])
    rows = random_rows(batch=1)
    kept = torch.linspace(0, VIDEO - 1, int(0.4 * VIDEO)).long()
    for sizes in ([VIDEO], [11, 11, 7], [1] * VIDEO):
        state = watch(lm, rows, sizes).consolidated()
        assert state.layers[0].store.num_tokens == PREFIX + VIDEO
        assert state.layers[2].store.num_tokens == PREFIX + len(kept)
        dropped = [i for i in range(VIDEO) if i not in kept.tolist()]
        first = lm.backbone.layers[0]
        stream, _ = first(torch.cat([rows.prefix, rows.video], dim=1), None, None)
        lost = stream[:, PREFIX:][:, dropped]
        expected = lm.backbone.merge_modules[0].keys_values(lost)
        torch.testing.assert_close(state.transferred[0].parts[0], expected, **TOLERANCE)


def test_gradients_reach_the_gates_and_the_transfers():
    transv = [
        {"layer": 1, "keep": 0.5},
        {"layer": 2, "keep": 0.4, "transfer": False},
        {"layer": 4, "keep": 0.2, "rule": "attention"},
    ]
    lm = small_lm("M*-M*-", transv=transv)
    rows = random_rows()
    ask(lm, rows.text, watch(lm, rows, [20, 9]), [TEXT]).square().sum().backward()
    parameters = dict(lm.backbone.named_parameters())
    del parameters["embeddings.weight"]  # vectors are read here, not ids
    streamed = {name: p.grad.clone() for name, p in parameters.items()}
    assert bool((streamed["alpha"].abs() > 0).all())
    for c in (0, 2):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            assert float(streamed[f"merge_modules.{c}.{name}.weight"].abs().max()) > 0
    lm.zero_grad()
    whole(lm, rows).square().sum().backward()
    for name, parameter in parameters.items():
        scale = max(1.0, float(parameter.grad.abs().max()))
        torch.testing.assert_close(streamed[name], parameter.grad, atol=1e-5 * scale, rtol=1e-3)


def test_a_fresh_model_transfers_nothing_but_learns_to():
    from timevlm.llm import HybridConfig

    config = small_lm("M*", transv=[{"layer": 1, "keep": 0.5}]).config
    lm = HybridLM(HybridConfig(**config.to_dict()))
    assert torch.equal(lm.backbone.alpha, torch.zeros(1))
    rows = random_rows()
    whole(lm, rows).square().sum().backward()
    assert float(lm.backbone.alpha.grad.abs()) > 0


@torch.inference_mode()
def test_half_precision_keeps_its_dtype_and_a_float32_scan_state():
    transv = [{"layer": 1, "keep": 0.5}, {"layer": 4, "keep": 0.2, "rule": "attention"}]
    lm = small_lm("M*-M*-", transv=transv).to(torch.bfloat16)
    rows = Rows(*(t.to(torch.bfloat16) for t in vars(random_rows()).values()))
    state = watch(lm, rows, [20, 9])
    out = lm.read_prompt(rows.text, state)
    assert out.hidden.dtype == torch.bfloat16
    assert state.layers[0].ssm.dtype == torch.float32
    assert state.layers[1].store.parts[0].dtype == torch.bfloat16
    assert torch.isfinite(out.hidden).all()


def test_an_empty_store_holds_nothing():
    store = TokenStore().append(torch.randn(2, 0, 3), None)
    assert (store.parts, store.num_tokens) == ((), 0)
