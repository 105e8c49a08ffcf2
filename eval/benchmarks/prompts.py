"""Wording shared by the prompts of several benchmarks, and the forms of option lines.

"official" follows what a benchmark's own evaluation asks, "timeviper" what the TimeViper paper's
evaluation asks, "plain" is one short form for all. The words are ours where only the content of a
published prompt is fixed; every prompt's hash is written into the results.
"""

import re
from collections.abc import Sequence

from eval.benchmarks.base import Style
from eval.records import Prompt
from eval.subtitles import Cue, all_texts, cues_at_frames

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_EMBEDDED = re.compile(r"\n\s*\(?([A-Z])[).:]\s*(?=\S)")


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Option texts without their own leading letter ("A. ", "(A) ", "A) "), spaces trimmed."""
    texts = []
    for letter, option in zip(LETTERS, options, strict=False):
        texts.append(re.sub(rf"^\s*\(?{letter}[).:]\s*", "", option, count=1).strip())
    return tuple(texts)


def distinct(options: Sequence[str]) -> list[int]:
    """Indices of the options that differ in more than case, blanks and closing punctuation."""
    first: dict[str, int] = {}
    for index, text in enumerate(options):
        first.setdefault(" ".join(text.lower().split()).rstrip(".,;:!? "), index)
    return list(first.values())


def split_question(text: str) -> tuple[str, tuple[str, ...]]:
    """Stem and options of a question with its options on lines of their own, "(A) ..." or "A. ...".

    Lines count as options from the first that opens with A on, as long as the letters go up by
    one; a stem of several lines stays whole. Without such lines the options are empty.
    """
    marks = list(_EMBEDDED.finditer(text))
    for first, mark in enumerate(marks):
        if mark[1] != "A":
            continue
        run = []
        for letter, following in zip(LETTERS, marks[first:], strict=False):
            if following[1] != letter:
                break
            run.append(following)
        if len(run) < 2:
            continue
        ends = [following.start() for following in run[1:]] + [len(text)]
        options = tuple(text[m.end() : end].strip() for m, end in zip(run, ends, strict=True))
        return text[: mark.start()].strip(), options
    return text.strip(), ()


def dotted(options: Sequence[str]) -> str:
    """Option lines "A. text"."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))


def bracketed(options: Sequence[str]) -> str:
    """Option lines "(A) text"."""
    return "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))


def letter_list(count: int) -> str:
    """The allowed letters in words: "A, B, C, or D", "A or B", "A"."""
    letters = list(LETTERS[:count])
    if count < 3:
        return " or ".join(letters)
    return f"{', '.join(letters[:-1])}, or {letters[-1]}"


def plain_choice(question: str, options: Sequence[str]) -> Prompt:
    """The short form that is the same for every benchmark."""
    return Prompt(
        text=f"{question}\n{dotted(options)}\nAnswer with the letter of the right option."
    )


def timeviper_choice(question: str, options: Sequence[str]) -> Prompt:
    """The form of the TimeViper paper's evaluation; the answer begins with "Best Option: ("."""
    request = "Please provide your answer by stating the letter followed by the full option."
    return Prompt(
        text=f"{question}\n{bracketed(options)}\n{request}", answer_prefix="Best Option: ("
    )


def common_choice(question: str, options: Sequence[str], style: Style) -> Prompt:
    """The `plain` or `timeviper` form."""
    return (timeviper_choice if style == "timeviper" else plain_choice)(question, options)


def subtitle_lines(cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[str]:
    """Texts of the cues at the frames, or of all cues where no frame times are known."""
    return cues_at_frames(cues, frame_seconds) if len(frame_seconds) else all_texts(cues)


def with_subtitles(text: str, lines: Sequence[str]) -> str:
    """The prompt text behind a block of subtitle lines; the text alone if there are none."""
    if not lines:
        return text
    return "\n".join(["This video's subtitles are listed below:", *lines, text])


def timeviper_grounding(query: str, *, num_frames: int, duration_seconds: float) -> Prompt:
    """Length of the video and number of frames, then the query; spans as 'start to end'."""
    return Prompt(
        text=f"The video lasts for {duration_seconds:.2f} seconds, and {num_frames} frames are "
        "uniformly sampled from it. Investigate the video to find the segment that matches the "
        f'query "{query}" and give its start and end timestamps in seconds, in the form '
        "'start to end' seconds."
    )


def event_grounding(query: str) -> Prompt:
    """The form that lmms-eval and VideoChat-Flash ask for, with its worked example."""
    return Prompt(
        text=f"Look for the event that this sentence describes: '{query}'. Say when it begins and "
        "ends, in seconds, in the form 'The event happens in the start time - end time'. For "
        "example: The event happens in the 3.5 - 11.0 seconds."
    )


def plain_grounding(query: str) -> Prompt:
    """The short form that is the same for every benchmark."""
    return Prompt(
        text=f"When does this happen: {query}\nAnswer with the start and end in seconds, "
        "'start - end'."
    )


def grounding(query: str, style: Style, *, num_frames: int, duration_seconds: float) -> Prompt:
    """The prompt of a grounding query in any style."""
    if style == "timeviper":
        return timeviper_grounding(query, num_frames=num_frames, duration_seconds=duration_seconds)
    return event_grounding(query) if style == "official" else plain_grounding(query)


def dense_captions(style: Style, *, num_frames: int, duration_seconds: float) -> Prompt:
    """Ask for every event with its time, one line each."""
    request = (
        "Localize the events of the video and describe each of them. Write one line per event, "
        "'start - end seconds, description', for example: 12.0 - 18.5 seconds, a man pours milk "
        "into a bowl."
    )
    if style == "plain":
        return Prompt(text=request)
    return Prompt(
        text=f"The video lasts for {duration_seconds:.2f} seconds, and {num_frames} frames are "
        f"uniformly sampled from it. {request}"
    )
