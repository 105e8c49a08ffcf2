"""What a reply says once the wrapping around its answer is gone.

Models think aloud, tag their answer and decorate it. Both parsers (choices, spans) read the same
cleaned text, so that a reply cannot mean one thing to one of them and another to the other.
"""

import re
import unicodedata

_THOUGHT_TAG = re.compile(r"(</?think(?:ing)?>)", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|$)", re.DOTALL | re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^<>|]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn|unk)>", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_MATH = re.compile(r"\\[()\[\]]")
_DECORATION = str.maketrans("", "", "*`$")


def clean_reply(text: str) -> str:
    """`text` without thoughts, special tokens and decoration, in Unicode form NFKC.

    Where `<answer>` tags exist, only the content of the last one is left. "" if nothing is left.
    """
    text = _without_thoughts(unicodedata.normalize("NFKC", text))
    answers = _ANSWER.findall(text)
    if answers:
        text = answers[-1]
    text = _MATH.sub(" ", _SPECIAL.sub(" ", text)).translate(_DECORATION)
    unwrapped = _BOXED.sub(r"\1", text)
    while unwrapped != text:  # \boxed{\text{B}} is unwrapped from the inside
        text, unwrapped = unwrapped, _BOXED.sub(r"\1", unwrapped)
    return text.strip()


def _without_thoughts(text: str) -> str:
    """Also where a length limit cut the thought off, or the prompt held its opening tag."""
    kept: list[str] = []
    thinking = False
    for part in _THOUGHT_TAG.split(text):
        if not _THOUGHT_TAG.fullmatch(part):
            if not thinking:
                kept.append(part)
        elif part.startswith("</"):
            if not thinking:
                kept.clear()
            thinking = False
        else:
            thinking = True
    return " ".join(kept)
