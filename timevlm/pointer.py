"""Answers that point: times are copied from the frames looked at, orders from when that was.

A time is hundreds of words, most of them rarely seen in training, and each would have to be learnt
through the few channels of an attention's values. But an answer never tells a time that no frame
has. So the model decides by itself that a word of a time comes, and where it looks decides which:
within the words of one kind (`<12`, `34`, `.5s>`) the logits of those that are written in the
timestamps of the frames that the deep attention looks at are raised, and the kind keeps its
probability. After pointer networks (Vinyals et al., arXiv 1506.03134) and their mixture with a
vocabulary (See et al., arXiv 1704.04368, section 2.2), with log-linear weights in place of a gate.

What came first is decided in the same way. Each word of the question that names a thing looks at
that thing, and the frames it looks at are early or late; one answer word cannot look at two things
and compare when they were, with a single attention after the video's tokens were chosen. So among
the words that name things, those of the question are raised by how late theirs was seen, times a
weight (negative: by how early) that the model reads from where the answer stands.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.state import valid_mask
from timevlm.vision.times import NONE, NUM_PAIRS, WORDS_PER_TIME, written_seconds

# Words of each kind: openings `<12`, pairs `34`, ends `.5s>`.
KIND_SIZES = (100, 100, 10)
FIRST_WEIGHT = 8.0  # attention of a half outweighs e^4 in likelihood
GAIN = 30.0  # small weights are to outweigh what else speaks for a word
NEAR = 0.02  # of the video: how far from the mean an order has half of its weight


class TimePointer(nn.Module):
    """Raises the words of the times that are looked at.

    `first_ids` are the token ids of `<0`, `00` and `.0s>`; the other words of a kind follow theirs.
    """

    def __init__(self, first_ids: tuple[int, int, int]) -> None:
        super().__init__()
        self.first_ids = first_ids
        self.weight = nn.Parameter(torch.full((len(KIND_SIZES),), FIRST_WEIGHT))

    def forward(self, logits: Tensor, ids: Tensor, looks: Tensor, words: Tensor) -> Tensor:
        """Next-token logits (B, L, V) after ids (B, L), with their times pointed at.

        looks (B, L, K): how much each token attends to each of K vision tokens, whose timestamps
        are written in words (B, K, 4), as `timestamp_words` gives them.
        """
        _, pair, _ = self.first_ids
        seen = [
            looks @ F.one_hot(words[..., place].long(), NONE + 1).to(looks.dtype)[..., :NONE]
            for place in range(WORDS_PER_TIME)
        ]
        # After an opening comes the second word of a time, after a pair the third.
        follows_pair = ((ids >= pair) & (ids < pair + KIND_SIZES[1]))[..., None]
        pairs = torch.where(follows_pair, seen[2], seen[1])
        found = (seen[0], pairs, seen[NUM_PAIRS][..., : KIND_SIZES[2]])
        for kind, (first, size) in enumerate(zip(self.first_ids, KIND_SIZES, strict=True)):
            of_kind = slice(first, first + size)
            logits = raise_words(logits, of_kind, self.weight[kind] * found[kind])
        return logits


class OrderPointer(nn.Module):
    """Raises words of the question that name things by when these were seen.

    `named_ids` are the token ids of all words that name things.
    """

    def __init__(self, named_ids: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self.named_ids = list(named_ids)
        self.weight = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, logits: Tensor, hidden: Tensor, lateness: Tensor) -> Tensor:
        """Next-token logits (B, L, V) of hidden states (B, L, D), with words raised.

        lateness (B, N) is by how much later the prompt's words look than all others of its named
        words (`more_than_others` of `when_seen`); named words keep their probability together.
        """
        counts = counted(hidden, self.weight)
        # Bounded, and the order stays: minutes of hours count nearly as much as the whole video.
        return raise_words(
            logits, self.named_ids, counts[..., None] * F.softsign(lateness / NEAR)[:, None]
        )


def when_seen(looks: Tensor, marks: Tensor, num_marks: Tensor) -> Tensor:
    """When in the video what each of looks (B, L, K) is at is seen, on average: (B, L), 0 to 1.

    From the first of the times marks (B, K, 4), of which num_marks (B,) count, to the last.
    """
    elapsed = elapsed_seconds(marks, num_marks)
    places = elapsed / elapsed.amax(dim=1, keepdim=True).clamp(min=1.0)
    return (looks @ places.to(looks.dtype)[..., None]).squeeze(-1)


def elapsed_seconds(marks: Tensor, num_marks: Tensor) -> Tensor:
    """Seconds (B, K) from the first of the times marks (B, K, 4), 0 for what does not count."""
    seconds, there = written_seconds(marks), valid_mask(num_marks, marks.shape[1])
    first = seconds.masked_fill(~there, torch.inf).amin(dim=1, keepdim=True)
    return (seconds - first).masked_fill(~there, 0.0)


def asking_tokens(ids: Tensor, num_asked: Tensor, opener_id: int) -> Tensor:
    """Which of ids (B, L) are of the question: (B, L) bool.

    A prompt is the first num_asked (B,) of them, and its question comes after the last `opener_id`,
    the token that opens a person's turn: what was asked earlier in a chat does not ask again.
    """
    in_prompt = valid_mask(num_asked, ids.shape[1])
    openers_from_here = ((ids == opener_id) & in_prompt).flip(1).cumsum(dim=1).flip(1)
    return in_prompt & (openers_from_here == 0)


def asked_words(ids: Tensor, named_ids: Sequence[int], asks: Tensor) -> Tensor:
    """Where each of N words stands last among the ids (B, L) that asks (B, L) tells: (B, N).

    Counted from 1; 0 for words that do not stand there.
    """
    position = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    named = torch.tensor(named_ids, device=ids.device)
    is_word = (ids[..., None] == named) & asks[..., None]
    return (is_word * position[:, None]).amax(dim=1)


def first_and_last(stands: Tensor, num_tokens: int) -> Tensor:
    """The places (B, 2) of the first and the last word that stands (B, N), of `asked_words`.

    Counted from 0; where none stands, places among the num_tokens that mean nothing.
    """
    first = stands.masked_fill(stands == 0, num_tokens).amin(dim=1)
    return torch.stack([first, stands.amax(dim=1).clamp(min=1)], dim=1) - 1


def more_than_others(seen: Tensor, stands: Tensor) -> Tensor:
    """By how much the values (B, L, Q) at words are above the mean of all that ask: (B, N, Q).

    stands (B, N) is from `asked_words`; words that do not ask have 0.
    """
    asks = (stands > 0)[..., None]
    index = (stands - 1).clamp(min=0)[..., None].expand(-1, -1, seen.shape[2])
    values = seen.gather(1, index) * asks
    mean = values.sum(dim=1, keepdim=True) / asks.sum(dim=1, keepdim=True).clamp(min=1)
    return (values - mean) * asks


def counted(hidden: Tensor, weight: Tensor) -> Tensor:
    """How much, and which way round, something counts where answers stand, in float32.

    From hidden states (B, L, D): (B, L) by weight (D,), or (B, L, Q) by weights (Q, D).
    """
    return GAIN * (hidden.to(weight.dtype) @ weight.transpose(0, -1)).float()


def raise_numbers(
    logits: Tensor, number_ids: Sequence[int], value: Tensor, counts: Tensor, near: float
) -> Tensor:
    """Logits (B, L, V) with the words for zero, one, two and so on raised near to a value.

    value (B, L), or (B, 1) for all places, and how much it counts there (B, L); numbers that are
    `near` away have half of the difference that there can be.
    """
    number = torch.arange(len(number_ids), device=logits.device)
    off = F.softsign((number - value[..., None]).abs() / near)
    return raise_words(logits, number_ids, -counts[..., None] * off)


def raise_words(logits: Tensor, word_ids: Sequence[int] | slice, by: Tensor) -> Tensor:
    """Logits (B, L, V) with N words raised by (B, L, N); these keep their probability together."""
    own = logits[..., word_ids]
    raised = own + by
    change = own.logsumexp(dim=-1, keepdim=True) - raised.logsumexp(dim=-1, keepdim=True)
    pointed = logits.clone()
    pointed[..., word_ids] = raised + change
    return pointed
