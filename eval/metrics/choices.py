"""Which option a free-text reply chooses: ordered rules, never a guess.

A reply that fits no rule is unparsed and scores as wrong. The rules run from the most to the least
explicit form, and each result carries the name of the rule that produced it, so that a report can
show what it rests on. What published scripts do instead lives in `choices_compat`, reached through
`rules="official" | "timeviper" | "lmms"`, for studies of how much a score owes to its parser.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.metrics.choices_compat import compat_choice
from eval.metrics.cleaning import clean_reply
from timevlm.errors import InputError

RULE_SETS = ("ours", "official", "timeviper", "lmms")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNPARSED = "unparsed"

_SURROUNDING = " \t\r\n.,:;!?'\"()[]{}<>-_#"
# Words that may follow a letter which is not an article: "A because ...", never "A dog ...".
_CONNECTIVES = (
    "because|since|as|and|or|over|rather|instead|due|given|based|which|while|although|where|when"
)
# After a letter that is also an English word, a lower-case word means that it is the word.
_ARTICLE = rf"(?!(?<=[AI])\s+(?!(?:{_CONNECTIVES})\b)[a-z][\w'-]*)"
_NO_WORD = r"(?![A-Za-z0-9'\u2019])"
_BRACKETED = r"[(\[{]\s*(?P<bracketed>[A-Za-z])\s*[)\]}]"
# "the answer is B", "Best option: (b)", "I choose C over A"; a small letter only ends its line.
_STRONG = re.compile(
    r"(?i:\b(?:(?:answer|option|choice)s?\s*(?:(?:is|was|would\s+be|should\s+be|must\s+be)\b"
    r"\s*[:=-]?|[:=-])|(?:answer|choose|pick|select)\b)\s*"
    r"(?:(?:the\s+)?(?:option|choice|letter)\s*[:=]?\s*)?)[\"']?"
    rf"(?:{_BRACKETED}|(?P<letter>[A-Z]){_NO_WORD}{_ARTICLE}"
    r"|(?P<small>[a-z])(?=[.\"' \t]*(?:[\r\n]|$)))"
)
# "option B" in passing: a sentence about an option ("option B shows ...") does not choose it.
_WEAK = re.compile(
    rf"(?i:\b(?:option|choice)\s*)(?:{_BRACKETED}|(?P<letter>[A-Z]){_NO_WORD})(?!\s+[a-z]+\s)"
)
_VERDICT = re.compile(
    r"(?<![\w'])[(\[]?(?P<letter>[A-Z])[)\]]?\s+(?:is|seems|looks)\s+"
    r"(?:the\s+)?(?:only\s+)?(?:most\s+)?(?:correct|right|best|accurate|answer)\b"
)
_DENIED = re.compile(
    r"(?:\bnot|n't|\bnor|\bneither|\brather than|\binstead of|\bthan)\s+(?:the\s+)?\W*$",
    re.IGNORECASE,
)
_SHARED = re.compile(r"\b(?:and|or)\s+\W*$", re.IGNORECASE)  # "A and B is correct" chooses neither
_CAPITAL_IN_BRACKETS = re.compile(r"[(\[{]\s*([A-Z])\s*[)\]}]")
_NOT_REJECTED = r"(?!\s*(?:is|seems|looks)\s+(?:not|wrong|incorrect|false)\b)"
_LINE_MARKER = re.compile(r"^\s*[(\[]?([A-Za-z])[.):\]](?=\s|$)", re.MULTILINE)
_AT_END = re.compile(r"(?:^|[\s(\[,:;.>\"'-])([A-Z])[\s)\].!\"']*$")
_STANDALONE = re.compile(r"(?<![\w'\u2019])([A-Z])(?![\w'\u2019])(?!\s+[a-z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """The option that a reply chooses and the rule that found it."""

    choice: int | None
    """Index into the options; None if the reply is unparsed."""
    rule: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceGrade:
    """An extraction held against the gold answer."""

    choice: int | None
    rule: str
    correct: bool


def extract_choice(
    text: str, options: Sequence[str], *, rules: str = "ours", bench: str = "videomme"
) -> Extraction:
    """The option that `text` chooses.

    `options` are texts without letters; only their letters can be chosen. `bench` names the
    benchmark whose published script `rules="official"` (and, for its letters, "lmms") follows.
    Raises InputError for an unknown rule set or without options. Scripts that need the gold
    answer to read a reply (MVBench's, MLVU's) are only complete in `grade_choice`.
    """
    _check(options, rules)
    if rules != "ours":
        choice, rule = compat_choice(text, options, rules=rules, bench=bench)
        return Extraction(choice=choice, rule=rule)
    return _extract_ours(text, options)


def grade_choice(
    text: str,
    options: Sequence[str],
    gold: int,
    *,
    rules: str = "ours",
    bench: str = "videomme",
    equal_text_counts: bool = False,
) -> ChoiceGrade:
    """What `text` chooses, and whether that is the gold option; unparsed is wrong.

    `equal_text_counts`: an option with the very text of the gold option is right too (benchmarks
    with duplicate candidates). Raises InputError as `extract_choice` does, and for a gold index
    outside the options.
    """
    _check(options, rules)
    if not 0 <= gold < len(options):
        raise InputError(f"gold {gold} is no index into {len(options)} options; check the sample")
    if rules != "ours":
        choice, rule = compat_choice(text, options, rules=rules, bench=bench, gold=gold)
    else:
        found = _extract_ours(text, options)
        choice, rule = found.choice, found.rule
    correct = choice == gold
    if equal_text_counts and choice is not None:
        correct = _plain(options[choice]) == _plain(options[gold])
    return ChoiceGrade(choice=choice, rule=rule, correct=correct)


def _check(options: Sequence[str], rules: str) -> None:
    if rules not in RULE_SETS:
        raise InputError(f"unknown rule set {rules!r}; use one of {', '.join(RULE_SETS)}")
    if not 1 <= len(options) <= len(LETTERS):
        raise InputError(
            f"got {len(options)} options, allowed are 1 to {len(LETTERS)}; check the sample"
        )


def _extract_ours(text: str, options: Sequence[str]) -> Extraction:
    letters = LETTERS[: len(options)]
    cleaned = clean_reply(text)
    for rule, find in (
        ("letter", _whole_text),
        ("leading", _leading_marker),
        ("anchored", _last_anchored),
        ("bracketed", _last_bracketed),
    ):
        letter = find(cleaned, letters)
        if letter is not None:
            return Extraction(choice=letters.index(letter), rule=rule)
    named = _only_option_text(cleaned, options)
    if named is not None:
        return Extraction(choice=named, rule="option_text")
    for rule, find in (("at_end", _at_end), ("standalone", _only_standalone)):
        letter = find(cleaned, letters)
        if letter is not None:
            return Extraction(choice=letters.index(letter), rule=rule)
    return Extraction(choice=None, rule=UNPARSED)


def _whole_text(text: str, letters: str) -> str | None:
    """Rule 2: nothing but one letter, in any case, with punctuation around it."""
    core = text.strip(_SURROUNDING).upper()
    return core if len(core) == 1 and core in letters else None


def _leading_marker(text: str, letters: str) -> str | None:
    """Rule 3: a marker opens the reply, unless the reply lists the options."""
    if _is_listing(text, letters):
        return None
    for pattern in (
        r"\s*[(\[{]\s*([A-Za-z])\s*[)\]}]",
        r"\s*([A-Za-z])[.):](?=\s|$)",
        r"\s*([A-Z])[ \t]*(?:[\r\n,]|$)",
    ):
        match = re.match(pattern + _NOT_REJECTED, text)
        if match and match[1].upper() in letters:
            return match[1].upper()
    return None


def _last_anchored(text: str, letters: str) -> str | None:
    """Rule 4: the last letter that a word such as "answer" or "option" points at."""
    last: tuple[int, str] | None = None
    for position, letter in _anchored(text):
        if letter in letters and (last is None or position >= last[0]):
            last = (position, letter)
    return last[1] if last else None


def _anchored(text: str) -> Iterator[tuple[int, str]]:
    for pattern in (_STRONG, _WEAK):
        for match in pattern.finditer(text):
            groups = match.groupdict()
            letter = groups["bracketed"] or groups["letter"] or groups.get("small")
            # A small "a" may be the article of a text that was cut off: only "answer: a" counts.
            if groups.get("small") in ("a", "i"):
                before = text[: match.start("small")].rstrip(" \"'")
                if not before.endswith((":", "=")):
                    continue
            if not _DENIED.search(text[: match.start()]):
                yield match.end(), letter.upper()
    for match in _VERDICT.finditer(text):
        before = text[: match.start()]
        if not _DENIED.search(before) and not _SHARED.search(before):
            yield match.end(), match["letter"]


def _last_bracketed(text: str, letters: str) -> str | None:
    """Rule 5: the last capital in brackets, unless the reply lists the options."""
    if _is_listing(text, letters):
        return None
    found = [letter for letter in _CAPITAL_IN_BRACKETS.findall(text) if letter in letters]
    return found[-1] if found else None


def _only_option_text(text: str, options: Sequence[str]) -> int | None:
    """Rule 6: the reply holds the words of exactly one option (the longest where they nest)."""
    plain = [_plain(option) for option in options]
    if len(set(plain)) < len(plain):
        return None  # two options read the same: their text names neither
    reply = _plain(text)
    found = [
        index
        for index, option in enumerate(plain)
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", reply)
    ]
    longest = [
        index
        for index in found
        if not any(plain[index] in plain[other] for other in found if other != index)
    ]
    return longest[0] if len(longest) == 1 else None


def _at_end(text: str, letters: str) -> str | None:
    """Rule 7: the reply ends with a capital that stands alone."""
    match = _AT_END.search(text)
    return match[1] if match and match[1] in letters else None


def _only_standalone(text: str, letters: str) -> str | None:
    """Rule 8: one capital alone occurs, and no lower-case word follows it."""
    found = {letter for letter in _STANDALONE.findall(text) if letter in letters}
    return found.pop() if len(found) == 1 else None


def _is_listing(text: str, letters: str) -> bool:
    markers = {letter.upper() for letter in _LINE_MARKER.findall(text)}
    return len(markers & set(letters)) >= 2


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().translate(str.maketrans("", "", "*`$"))
    return " ".join(text.split()).strip(" .,;:!?\"'")
