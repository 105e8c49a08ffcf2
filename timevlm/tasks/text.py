"""One normalisation of short answers, shared by everything that compares them."""

import unicodedata

# Sentence punctuation only: the plus of "C++" and the percent of "50%" are part of the answer.
_TRAILING = ".,;:!?\u3002"


def normalize_answer(text: str) -> str:
    """The form in which short answers are compared.

    Unicode NFKC, lower case, single spaces, no sentence punctuation at the end. A text of nothing
    but punctuation keeps it, so that only blank text becomes empty. Applying it twice changes
    nothing.
    """
    # Lowering can leave a form that NFKC still changes, hence once more after it.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    spaced = " ".join(folded.split())
    return spaced.rstrip(_TRAILING + " ") or spaced


def answers_match(answer: str, expected: str) -> bool:
    """Whether two short answers are equal after normalisation."""
    return normalize_answer(answer) == normalize_answer(expected)
