"""Telling times by pointing: an answer copies a timestamp from the frames that it looks at.

A time is hundreds of words, most of them rarely seen in training, and each would have to be learnt
through the few channels of an attention's values. But an answer never tells a time that no frame
has. So the model decides by itself that a word of a time comes, and where it looks decides which:
within the words of one kind (`<12`, `34`, `.5s>`) the logits of those that are written in the
timestamps of the frames that the deep attention looks at are raised, and the kind keeps its
probability. After pointer networks (Vinyals et al., arXiv 1506.03134) and their mixture with a
vocabulary (See et al., arXiv 1704.04368, section 2.2), with log-linear weights in place of a gate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.vision.times import NONE, NUM_PAIRS, WORDS_PER_TIME

# Words of each kind: openings `<12`, pairs `34`, ends `.5s>`.
KIND_SIZES = (100, 100, 10)
FIRST_WEIGHT = 8.0  # attention of a half outweighs e^4 in likelihood


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
        pointed = logits.clone()
        for kind, (first, size) in enumerate(zip(self.first_ids, KIND_SIZES, strict=True)):
            own = logits[..., first : first + size]
            raised = own + self.weight[kind] * found[kind]
            change = own.logsumexp(dim=-1, keepdim=True) - raised.logsumexp(dim=-1, keepdim=True)
            pointed[..., first : first + size] = raised + change
        return pointed
