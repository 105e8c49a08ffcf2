"""BLEU, ROUGE-L and CIDEr-D of captions, in plain Python.

Definitions and corner cases are those of the COCO caption evaluation, whose numbers the field
publishes; the tests hold the three against that package. Inputs are words (`caption_tokens`): one
hypothesis and one or more references for each item, aligned. METEOR needs Java: `eval.metrics.
meteor`.

    BLEU      Papineni et al., ACL 2002: corpus level, closest reference length
    ROUGE-L   Lin, 2004: F of the longest common subsequence, beta 1.2, best P and best R
    CIDEr-D   Vedantam et al., CVPR 2015: TF-IDF n-gram similarity, clipped, length penalty
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from timevlm.errors import InputError

Words = Sequence[str]
NGrams = Counter[tuple[str, ...]]

MAX_N = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
CIDER_SCALE = 10.0
# COCO's constants: an n-gram order that the hypothesis is too short for gives 0, not a failure.
_SMALL, _TINY = 1e-9, 1e-15


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionScore:
    """A score of a set of captions and of each of them."""

    corpus: float
    each: tuple[float, ...]


def bleu(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]], *, max_n: int = MAX_N
) -> CaptionScore:
    """BLEU-`max_n` in [0, 1]; `corpus` pools the counts of all items before dividing.

    Raises InputError if the lists are empty, not aligned, or an item has no reference.
    """
    _check(hypotheses, references)
    matches, totals = [0] * max_n, [0] * max_n
    length, reference_length = 0, 0
    each = []
    for words, refs in zip(hypotheses, references, strict=True):
        item_matches, item_totals = _ngram_matches(words, refs, max_n)
        closest = min((abs(len(ref) - len(words)), len(ref)) for ref in refs)[1]
        each.append(_bleu(item_matches, item_totals, len(words), closest))
        matches = [a + b for a, b in zip(matches, item_matches, strict=True)]
        totals = [a + b for a, b in zip(totals, item_totals, strict=True)]
        length += len(words)
        reference_length += closest
    return CaptionScore(corpus=_bleu(matches, totals, length, reference_length), each=tuple(each))


def rouge_l(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> CaptionScore:
    """ROUGE-L in [0, 1]; `corpus` is the mean. A blank caption scores 0.

    Raises InputError as `bleu` does.
    """
    _check(hypotheses, references)
    each = tuple(_rouge_l(words, refs) for words, refs in zip(hypotheses, references, strict=True))
    return CaptionScore(corpus=sum(each) / len(each), each=each)


def cider_d(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> CaptionScore:
    """CIDEr-D in [0, 10]; `corpus` is the mean.

    Document frequencies come from the references at hand, so a score depends on the whole set: a
    set of one item scores 0 whatever it says (every n-gram is in all documents), two identical
    and distinct items score 10. Raises InputError as `bleu` does.
    """
    _check(hypotheses, references)
    counted = [[_ngrams(ref) for ref in refs] for refs in references]
    frequency: NGrams = Counter()
    for refs in counted:
        frequency.update({ngram for ref in refs for ngram in ref})
    log_size = math.log(len(hypotheses))
    each = []
    for words, refs in zip(hypotheses, counted, strict=True):
        hypothesis = _tfidf(_ngrams(words), frequency, log_size)
        total = sum(_cider_similarity(hypothesis, _tfidf(r, frequency, log_size)) for r in refs)
        each.append(CIDER_SCALE * total / len(refs))
    return CaptionScore(corpus=sum(each) / len(each), each=tuple(each))


def _check(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not hypotheses:
        raise InputError("there are no captions to score; run at least one sample")
    if len(hypotheses) != len(references):
        raise InputError(
            f"got {len(hypotheses)} captions and references for {len(references)}; align them"
        )
    if not all(references):
        raise InputError("a caption has no reference to be scored against; drop it")
    if isinstance(hypotheses[0], str):
        raise InputError("captions must be lists of words; split them with tokenize() first")


def _ngrams(words: Words, max_n: int = MAX_N) -> NGrams:
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, max_n + 1)
        for start in range(len(words) - n + 1)
    )


def _ngram_matches(words: Words, refs: Sequence[Words], max_n: int) -> tuple[list[int], list[int]]:
    """Clipped n-gram matches and n-gram counts of one caption, for n = 1 .. max_n."""
    allowed: NGrams = Counter()
    for ref in refs:
        allowed |= _ngrams(ref, max_n)
    matches = [0] * max_n
    for ngram, count in _ngrams(words, max_n).items():
        matches[len(ngram) - 1] += min(count, allowed[ngram])
    return matches, [max(0, len(words) - n) for n in range(max_n)]


def _bleu(matches: Sequence[int], totals: Sequence[int], length: int, reference: int) -> float:
    precision = 1.0
    for match, total in zip(matches, totals, strict=True):
        precision *= (match + _TINY) / (total + _SMALL)
    score = precision ** (1.0 / len(matches))
    ratio = (length + _TINY) / (reference + _SMALL)
    return score * math.exp(1.0 - 1.0 / ratio) if ratio < 1.0 else score


def _rouge_l(words: Words, refs: Sequence[Words]) -> float:
    if not words:
        return 0.0
    common = [_common_subsequence(words, ref) for ref in refs]
    precision = max(common) / len(words)
    recall = max(c / len(ref) if ref else 0.0 for c, ref in zip(common, refs, strict=True))
    if precision == 0.0 or recall == 0.0:
        return 0.0
    weight = ROUGE_BETA**2
    return (1.0 + weight) * precision * recall / (recall + weight * precision)


def _common_subsequence(first: Words, second: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


@dataclass(frozen=True, slots=True)
class _Vector:
    """TF-IDF weights of a caption by n-gram length, their norms, and its number of bigrams."""

    weights: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    num_bigrams: int


def _tfidf(counts: NGrams, frequency: NGrams, log_size: float) -> _Vector:
    weights: tuple[dict[tuple[str, ...], float], ...] = tuple({} for _ in range(MAX_N))
    num_bigrams = 0
    for ngram, count in counts.items():
        idf = log_size - math.log(max(1.0, frequency[ngram]))
        weights[len(ngram) - 1][ngram] = count * idf
        num_bigrams += count if len(ngram) == 2 else 0
    norms = tuple(math.sqrt(sum(w * w for w in part.values())) for part in weights)
    return _Vector(weights, norms, num_bigrams)


def _cider_similarity(hypothesis: _Vector, reference: _Vector) -> float:
    """Mean over n of the clipped cosine, times the penalty for a difference in length.

    COCO measures lengths in bigrams; the difference is that of words but for one-word captions.
    """
    total = 0.0
    for n in range(MAX_N):
        theirs = reference.weights[n]
        value = sum(
            min(weight, theirs[ngram]) * theirs[ngram]
            for ngram, weight in hypothesis.weights[n].items()
            if ngram in theirs
        )
        if hypothesis.norms[n] and reference.norms[n]:
            value /= hypothesis.norms[n] * reference.norms[n]
        total += value
    difference = hypothesis.num_bigrams - reference.num_bigrams
    return total / MAX_N * math.exp(-(difference**2) / (2.0 * CIDER_SIGMA**2))
