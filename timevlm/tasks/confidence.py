"""How far a likelihood may be trusted: questions and choices outside of what a model knows.

A softmax over choices says which of them is likeliest, and says it with full confidence of choices
that are all absurd to the model. Three things tell that it does not know what it is asked:

- *The choices hold hardly any probability.* What a model would answer stands somewhere else. nano
  gave less than a thousandth to all choices together in 1 of 185 questions from its world, and less
  than 1e-40 to choices in words that it has to spell.
- *A choice has a word that the model has no token for.* It cannot say it, so its likelihood says
  nothing. `TimeVLMProcessor.unknown_words` finds such words.
- *The question has such a word.* That is either a filler, without which nano was right about as
  often as with it (60 and 62 % of 185 questions), or the very point of the question; nothing tells
  which, hence even odds for every word.

Trust is the product of the three, and what is not trusted goes to all choices alike: a model that
knows nothing is as sure of each as chance is. The ranking of the choices does not change.
"""

import math
from collections.abc import Sequence

# Choices that hold this share of the probability are trusted by half.
NONE_WEIGHT = 1e-4
TRUST_PER_UNKNOWN_WORD = 0.5


def choices_trust(log_likelihoods: Sequence[float], num_unknown: int = 0) -> float:
    """Trust in the likelihoods (natural logarithm, of whole answers) of choices, 0..1.

    `num_unknown` of the choices have words that the model cannot say.
    """
    held = min(1.0, math.fsum(math.exp(min(0.0, value)) for value in log_likelihoods))
    sayable = 1.0 - num_unknown / len(log_likelihoods)
    return sayable * held / (held + NONE_WEIGHT * (1.0 - held)) if held > 0 else 0.0


def question_trust(num_unknown_words: int) -> float:
    """Trust in the answer to a question with so many words that the model does not know, 0..1."""
    return TRUST_PER_UNKNOWN_WORD**num_unknown_words


def trusted(confidences: Sequence[float], trust: float) -> list[float]:
    """Confidences that sum to one, with what is not trusted shared by all alike."""
    evenly = (1.0 - trust) / len(confidences)
    return [trust * confidence + evenly for confidence in confidences]
