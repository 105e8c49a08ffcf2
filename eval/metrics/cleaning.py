"""What a reply says once the wrapping around its answer is gone.

Models think aloud, tag their answer and decorate it. Both parsers (choices, spans) read the same
cleaned text, so that a reply cannot mean one thing to one of them and another to the other.
"""

import re
import unicodedata

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
# A chat template may open the thought inside the prompt, and a length limit may cut it off.
_THOUGHT_END = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_START = re.compile(r"<think(?:ing)?>.*$", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|$)", re.DOTALL | re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^<>|]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn|unk)>", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_DECORATION = str.maketrans("", "", "*`$")


def clean_reply(text: str) -> str:
    """`text` without thoughts, special tokens and decoration, in Unicode form NFKC.

    Where `<answer>` tags exist, only the content of the last one is left. "" if nothing is left.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _THOUGHT.sub(" ", text)
    text = _THOUGHT_END.sub("", text)
    text = _THOUGHT_START.sub("", text)
    answers = _ANSWER.findall(text)
    if answers:
        text = answers[-1]
    text = _SPECIAL.sub(" ", text).translate(_DECORATION)
    unwrapped = _BOXED.sub(r"\1", text)
    while unwrapped != text:  # \boxed{\text{B}} is unwrapped from the inside
        text, unwrapped = unwrapped, _BOXED.sub(r"\1", unwrapped)
    return text.strip()
