"""How published scripts read a multiple-choice reply, rebuilt for parity studies.

Never used for our own scores: each of these takes some right answers for wrong ones or the other
way round (see `docs/eval/metrics.md`). They are rebuilt from the behaviour of

    official/videomme       the letter that the Video-MME script takes: the first of A-D after a few
                            phrases are removed; two of its phrases were glued together by a missing
                            comma, so "Best answer: C" gives B
    official/longvideobench the same with A-E; where the original draws a random letter, None here
    official/lvbench        the text between the first brackets, first character
    official/mlvu           the character before the first ")", else the whole reply
    official/mvbench        the first word overlaps the gold marker "(b)": an empty reply is right
    timeviper               the first character (the second after "("); an empty reply is A
    lmms                    lmms-eval 0.7.2's shared extractor: the best of several formats
"""

import re
from collections.abc import Callable, Sequence

_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)
# A missing comma joins two pairs of them, which then never match.
_PHRASES_GLUED = (*_PHRASES[:4], _PHRASES[4] + _PHRASES[5], _PHRASES[6] + _PHRASES[7])
_LMMS_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is"),
    *("the best answer is", "best answer is", "the correct option is", "correct option is"),
    *("the best option is", "best option is", "the choice is", "choice is"),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is"),
)
# Format of a candidate -> its rank; the higher rank wins, then the later position.
_LMMS_MARKS = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
_LMMS_START, _LMMS_END, _LMMS_PHRASE, _LMMS_FALLBACK = 10, 9, 7, 0
# Tasks for which lmms-eval passes A-D whatever the number of options.
_LMMS_FOUR_LETTERS = ("videomme", "mlvu")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_Reader = Callable[[str, str, int | None], str | None]


def compat_choice(
    text: str, options: Sequence[str], *, rules: str, bench: str, gold: int | None = None
) -> tuple[int | None, str]:
    """(option index or None, rule name) as the published script would have it.

    A letter beyond the options is None: the originals compare it with the gold letter and never
    find it right. `gold` matters to `official` for MVBench alone, whose check reads the gold.
    """
    letters = _LETTERS[: len(options)]
    if rules == "timeviper":
        letter, rule = _timeviper(text), "timeviper"
    elif rules == "lmms":
        letter, rule = _lmms(text, "ABCD" if bench in _LMMS_FOUR_LETTERS else letters), "lmms"
    else:
        reader = _OFFICIAL.get(bench, _videomme)
        rule = f"official/{bench if bench in _OFFICIAL else 'videomme'}"
        letter = reader(text, letters, gold)
    if letter is None or len(letter) != 1 or letter not in letters:
        return None, rule
    return letters.index(letter), rule


def _timeviper(text: str) -> str | None:
    if text in ("", "("):
        return "A"
    return text[1] if text[0] == "(" else text[0]


def _first_capital(text: str, capitals: str, phrases: Sequence[str]) -> str | None:
    text = text.strip()
    for phrase in phrases:
        text = text.replace(phrase, "")
    match = re.search(f"[{capitals}]", text)
    return match[0] if match else None


def _videomme(text: str, letters: str, gold: int | None) -> str | None:
    return _first_capital(text, "ABCD", _PHRASES_GLUED)


def _longvideobench(text: str, letters: str, gold: int | None) -> str | None:
    return _first_capital(text, "ABCDE", _PHRASES)


def _lvbench(text: str, letters: str, gold: int | None) -> str | None:
    words = text.split(")")[0].split("(")[-1].split()
    return words[0][0] if words else None


def _mlvu(text: str, letters: str, gold: int | None) -> str | None:
    position = text.find(")")
    return text[max(position - 1, 0) : position] if position >= 0 else text


def _mvbench(text: str, letters: str, gold: int | None) -> str | None:
    first = text.lower().split(" ")[0]
    candidates = letters if gold is None else letters[gold]
    for letter in candidates:
        marker = f"({letter.lower()})"
        if first.replace(".", "") in marker or marker in first:
            return letter
    match = re.search(r"[a-z]", first)
    return match[0].upper() if match and gold is not None and match[0].upper() in letters else None


_OFFICIAL: dict[str, _Reader] = {
    "videomme": _videomme,
    "longvideobench": _longvideobench,
    "lvbench": _lvbench,
    "mlvu": _mlvu,
    "mvbench": _mvbench,
}


def _lmms(text: str, letters: str) -> str | None:
    if not text.strip():
        return None
    core = text.strip()
    for mark in ",.!?;:'\"":
        core = core.strip(mark)
    padded = f" {core} "
    found: list[tuple[int, int, str]] = []  # rank, position, letter
    for form, rank in _LMMS_MARKS.items():
        for letter in letters:
            position = padded.rfind(form.format(letter))
            if position >= 0:
                found.append((rank, position, letter))
    lowered = padded.lower()
    for phrase in _LMMS_PHRASES:
        start = lowered.find(phrase)
        if start >= 0:
            positions = ((padded.find(letter, start + len(phrase)), letter) for letter in letters)
            found += [(_LMMS_PHRASE, at, letter) for at, letter in positions if at >= 0]
    core = padded.strip()
    for letter in letters:
        if core.startswith(letter) and not core[1:2].isalpha():
            found.append((_LMMS_START, 0, letter))
        if core.endswith(letter) and not core[-2:-1].isalpha():
            found.append((_LMMS_END, len(padded) - 1, letter))
    if not found:
        found = [
            (_LMMS_FALLBACK, padded.rfind(letter), letter) for letter in letters if letter in padded
        ]
    return max(found, key=lambda item: item[:2])[2] if found else None
