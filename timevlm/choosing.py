"""Multiple choice: the likelihood of every choice, the best one, and how sure that is."""

from collections.abc import Sequence

from timevlm.generation import candidate_log_likelihoods
from timevlm.model import TimeVLMForConditionalGeneration, TimeVLMOutput
from timevlm.processing import TimeVLMProcessor
from timevlm.tasks.confidence import choices_trust, trusted
from timevlm.tasks.qa import candidate_texts, choice_confidences
from timevlm.tasks.times import mark_times


def choice_log_likelihoods(
    model: TimeVLMForConditionalGeneration,
    processor: TimeVLMProcessor,
    prompt: TimeVLMOutput,
    choices: Sequence[str],
    frame_seconds: Sequence[float],
) -> list[float]:
    """Log-probability of every choice as the answer, in its model's style, times as timestamps."""
    texts = candidate_texts(choices, style=model.config.choice_style)
    marked = [mark_times(text, frame_seconds, "from") for text in texts]
    if len(set(marked)) < len(marked):  # two times that fall on one frame
        marked = list(texts)
    candidates = [processor.answer_ids(text) for text in marked]
    return candidate_log_likelihoods(model, prompt, candidates)


def ranked_confidences(
    log_likelihoods: Sequence[float],
    temperature: float,
    *,
    num_unknown: int = 0,
    trust: float = 1.0,
) -> tuple[int, list[float]]:
    """Index of the likeliest choice, and the probability of each, summing to one.

    `num_unknown` choices have words that the model does not know; `trust` is that in its answer to
    the question as such (`timevlm.tasks.confidence`). Raises as `choice_confidences` does.
    """
    confidences = choice_confidences(log_likelihoods, temperature)
    best = max(range(len(log_likelihoods)), key=lambda i: log_likelihoods[i])
    trust *= choices_trust(log_likelihoods, num_unknown)
    return best, trusted(confidences, trust)
