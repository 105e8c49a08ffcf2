"""What a harness's prompt asks: the question, its options, or the event to find.

Other harnesses hand a model one text, made for models that write words: an instruction, the
question, options on lines of their own, one more instruction. TimeVLM compares the options'
likelihoods and decodes spans under a grammar, so the parts are taken out of the text again. A text
without such parts is asked as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_OPTION = re.compile(r"\s*(?:\((?P<bracketed>[A-Z])\)|(?P<bare>[A-Z])[.):])\s*(?P<text>\S.*)")
# Video-MME's own instruction; other lines before it (subtitles) belong to the question.
_INSTRUCTION = re.compile(r"Select the best answer to the following multiple-choice question")
_LABEL = re.compile(r"^\s*Question\s*:\s*", re.IGNORECASE)
_HEADING = re.compile(r"^\s*(?:Options?|Choices?|Candidates?)\s*:?\s*$", re.IGNORECASE)
# Charades-STA as lmms-eval words it.
_EVENT = re.compile(
    r"give you the textual sentence:\s*(?P<query>\S.*?)[\s.]*Please return its start time and end",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt's parts: options for a choice, `is_event` for "when does this happen"."""

    question: str
    options: tuple[str, ...] = ()
    is_event: bool = False


def read_prompt(text: str) -> Asked:
    """The parts of a prompt; a prompt without options or an event is a question as it stands.

    Options are the last lines that count up from A, two at least ("A. red", "(A) red", "A) red",
    "A: red"); lines between two of them belong to the first, lines after the last one are
    instructions. The letters that a reply may have are those of the options, in order.
    """
    lines = text.strip().splitlines()
    starts = [i for i, line in enumerate(lines) if _letter(line) == "A"]
    for start in reversed(starts):
        options = _options(lines[start:])
        question = _question(lines[:start])
        if len(options) > 1 and question:
            return Asked(question, options)
    event = _EVENT.search(text)
    if event is not None:
        return Asked(event["query"], is_event=True)
    return Asked(text.strip())


def _letter(line: str) -> str | None:
    match = _OPTION.fullmatch(line)
    return None if match is None else match["bracketed"] or match["bare"]


def _options(lines: Sequence[str]) -> tuple[str, ...]:
    """The options of lines that begin with option A."""
    options: list[str] = []
    between: list[str] = []
    for line in lines:
        if _letter(line) == chr(ord("A") + len(options)):
            if options:
                options[-1] = " ".join([options[-1], *between])
            between = []
            options.append(_OPTION.fullmatch(line)["text"].strip())
        elif line.strip():
            between.append(line.strip())
    return tuple(options)


def _question(lines: Sequence[str]) -> str:
    """The lines before the options without instruction, label and heading."""
    kept = [line for line in lines if line.strip() and not _INSTRUCTION.search(line)]
    if kept and _HEADING.match(kept[-1]):
        kept = kept[:-1]
    return "\n".join(_LABEL.sub("", line) for line in kept).strip()
