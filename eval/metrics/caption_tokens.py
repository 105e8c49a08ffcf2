"""Words of a caption, split as caption scores have always split them.

Published CIDEr, BLEU, ROUGE and METEOR numbers rest on the Penn Treebank tokenizer of Stanford
CoreNLP, lower-cased, with most punctuation dropped. `tokenize` follows it in plain Python on the
language of captions (contractions, hyphens, fractions, clock times, abbreviations), so that the
scores need no Java. One oddity is kept: round and other brackets stay as words ("-lrb-"), because
the usual list of dropped punctuation has them in capitals and the text is lower-cased before.
"""

import re
import unicodedata

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
_CLITICS = (
    (re.compile(r"(?<=\w)(n't)\b"), r" \1"),
    (re.compile(r"(?<=\w)('(?:s|m|d|re|ve|ll))\b(?!')"), r" \1"),
    (re.compile(r"\b(can)(not)\b"), r"\1 \2"),
    (re.compile(r"\b(gon|wan|got)(na|ta)\b"), r"\1 \2"),
    (re.compile(r"\b(gim|lem)(me)\b"), r"\1 \2"),
)
_TOKEN = re.compile(
    r"(?:mr|mrs|ms|dr|prof|sr|jr|vs|etc|st|mt)\.(?=\s|$)"  # abbreviations keep their point
    r"|(?:[a-z]\.){2,}"  # e.g., u.s.
    r"|n't|'(?:s|m|d|re|ve|ll)\b"
    r"|\d+(?:[.,:/-]\d+)+(?![\w])"  # 5.50, 1,000, 12:30, 1/2, 3-4
    r"|@\w+"
    r"|\w+(?:[-/']\w+)*"
    r"|\.\.\.|--|[^\w\s]"
)
_DROPPED = frozenset([*"'`.?!,:-;\"", "--", "...", "\u2013", "\u2014", "\u2026"])
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def tokenize(caption: str) -> list[str]:
    """The words of a caption, lower-cased, without punctuation; [] for a blank one."""
    text = unicodedata.normalize("NFC", caption).translate(_QUOTES).lower()
    for pattern, replacement in _CLITICS:
        text = pattern.sub(replacement, text)
    words = (_BRACKETS.get(word, word) for word in _TOKEN.findall(text))
    return [word for word in words if word not in _DROPPED]
