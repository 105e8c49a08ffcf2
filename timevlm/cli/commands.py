"""The commands that look at a video: ask, ground, caption, watch, chat."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.cli import session, show
from timevlm.cli.options import (
    MEMORY_SUFFIX,
    ChoicesCommand,
    Output,
    WatchSettings,
    output_options,
    watch_options,
)
from timevlm.errors import ChoiceError, InputError, TimeVLMError
from timevlm.results import Answer, Span, spans_to_csv, to_srt, to_vtt
from timevlm.tasks.grounding import grounding_prompt
from timevlm.tasks.qa import check_choices, check_question

if TYPE_CHECKING:
    from timevlm.api import TimeVLM
    from timevlm.memory import VideoMemory

LOW_CONFIDENCE = 0.5  # below, an answer comes with a word of caution


@click.command(cls=ChoicesCommand)
@watch_options
@click.argument("question", required=False)
@click.option(
    "--choices",
    "--choice",
    "choices",
    multiple=True,
    metavar="A B C...",
    help="Answer with one of these; the values end at the next option.",
)
@click.option("--question-file", metavar="FILE", help="One question a line (- for stdin).")
@click.option("--seed", type=click.IntRange(-(2**63), 2**64 - 1), help="Seed of sampled answers.")
@output_options("json")
def ask(
    video: Path,
    question: str | None,
    choices: tuple[str, ...],
    question_file: str | None,
    seed: int | None,
    settings: WatchSettings,
    output: Output,
) -> None:
    """Answer QUESTION about VIDEO, a video file or a saved memory (.tvm).

    \b
    timevlm ask video.mp4 "What happens after the red ball stops?"
    timevlm ask video.mp4 "Which color comes first?" --choices red green blue
    timevlm ask video.mp4 --question-file questions.txt --json
    """
    questions = _questions(question, question_file)
    if len(choices) == 1:
        raise ChoiceError(f"one choice, {choices[0]!r}, leaves nothing to choose; give two or more")
    for text in questions:  # a video is watched for longer than anyone waits for a refusal
        check_question(text)
    if choices:
        check_choices(choices)
    show.check_output(output.path, video)
    vlm, memory = session.open_video(video, settings, questions)
    answers = [vlm.ask(memory, text, choices=choices or None, seed=seed) for text in questions]
    _print_warnings(line for answer in answers for line in answer.warnings)
    _print_caution(vlm, [answer.confidence for answer in answers], settings)
    records: Any = [answer.to_dict() for answer in answers]
    if question_file is None:
        records = records[0]
    lines = _answers_lines(answers)
    show.emit(output, {"json": lambda: _json(records)}, lines)


@click.command()
@watch_options
@click.argument("query")
@output_options("json", "csv", "vtt")
def ground(video: Path, query: str, settings: WatchSettings, output: Output) -> None:
    """Find when QUERY happens in VIDEO, a video file or a saved memory (.tvm).

    \b
    timevlm ground video.mp4 "the blue square spins"
    timevlm ground video.mp4 "the blue square spins" --csv -o spans.csv
    """
    grounding_prompt(query)  # refused before a video is watched for it
    show.check_output(output.path, video)
    vlm, memory = session.open_video(video, settings, [query])
    spans = vlm.ground(memory, query)
    warnings = [*memory.warnings, *vlm.unknown_words_warnings(query)]
    _print_warnings(warnings)
    _print_caution(vlm, [max((span.score for span in spans), default=1.0)], settings)
    record = {"query": query, "spans": [span.to_dict() for span in spans]}
    record |= _provenance(memory) | {"warnings": warnings}
    forms = {
        "json": lambda: _json(record),
        "csv": lambda: spans_to_csv(spans),
        "vtt": lambda: to_vtt(sorted(spans, key=_start), label=query),
    }
    show.emit(output, forms, [*show.span_lines(spans), *show.plan_lines(memory.plan)])


@click.command()
@watch_options
@output_options("json", "srt", "vtt")
def caption(video: Path, settings: WatchSettings, output: Output) -> None:
    """Describe VIDEO, a video file or a saved memory (.tvm), as captions with times.

    \b
    timevlm caption video.mp4
    timevlm caption video.mp4 -o video.srt
    """
    show.check_output(output.path, video)
    vlm, memory = session.open_video(video, settings)
    captions = vlm.caption(memory)
    _print_warnings(memory.warnings)
    record = {"captions": [item.to_dict() for item in captions]}
    forms = {
        "json": lambda: _json(record | _provenance(memory)),
        "srt": lambda: to_srt(captions),
        "vtt": lambda: to_vtt(captions),
    }
    show.emit(output, forms, [*show.caption_lines(captions), *show.plan_lines(memory.plan)])


@click.command()
@watch_options
@click.option("-o", "--output", required=True, metavar="FILE.tvm", help="File for the memory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def watch(video: Path, output: str, as_json: bool, settings: WatchSettings) -> None:
    """Watch VIDEO once and save what is remembered of it.

    \b
    timevlm watch video.mp4 -o video.tvm
    timevlm ask video.tvm "What happens first?"
    """
    path = Path(output)
    if path.suffix != MEMORY_SUFFIX:
        raise InputError(f"-o {path} is not a memory file name; end it in {MEMORY_SUFFIX}")
    show.check_output(path, video)
    _, memory = session.open_video(video, settings)
    show.atomic_write(path, memory.save)
    _print_warnings(memory.warnings)
    num_bytes = path.stat().st_size
    facts = {
        "memory": str(path),
        "num_frames": memory.num_frames,
        "start": memory.start_seconds,
        "end": memory.end_seconds,
        "num_bytes": num_bytes,
        "timings": memory.timings.to_dict(),
    }
    seconds = memory.end_seconds - memory.start_seconds
    text = f"  {memory.num_frames} frames of {seconds:.1f} s in {num_bytes / 1e6:.1f} MB"
    lines = [((str(path), "bold"), (text, "")), *show.plan_lines(memory.plan)]
    lines.append(show.timing_line(memory.timings))
    stdout = Output(format="json" if as_json else "text", path=None)
    show.emit(stdout, {"json": lambda: _json(facts | _provenance(memory))}, lines)


@click.command()
@watch_options
def chat(video: Path, settings: WatchSettings) -> None:
    """Talk about VIDEO, a video file or a saved memory (.tvm); an empty line or Ctrl-D ends."""
    vlm, memory = session.open_video(video, settings)
    _print_warnings(memory.warnings)
    conversation = vlm.chat(memory)
    for question in _prompted_lines():
        try:
            answer = conversation.send(question)
        except TimeVLMError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            continue
        show.print_lines(show.answer_lines(answer)[:2])


def _prompted_lines() -> Iterator[str]:
    """Lines of stdin until it ends; on a terminal with a prompt, until an empty line."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            click.echo()
            return
        if not line:
            return
        yield line


def _questions(question: str | None, question_file: str | None) -> list[str]:
    if (question is None) == (question_file is None):
        raise click.UsageError("give either QUESTION or --question-file FILE")
    if question is not None:
        return [question]
    try:
        if question_file == "-":
            text = sys.stdin.read()
        else:
            text = Path(question_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(
            f"{question_file} cannot be read: {reason}; give a text file with one question a line"
        ) from error
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    if not questions:
        raise InputError(f"{question_file} holds no question; write one a line")
    return questions


def _answers_lines(answers: Sequence[Answer]) -> list[show.Line]:
    if len(answers) == 1:
        return show.answer_lines(answers[0])
    lines: list[show.Line] = []
    for answer in answers:
        lines += [((answer.question, "dim"),), *show.answer_lines(answer), ()]
    return lines[:-1]


def _print_warnings(lines: Iterator[str] | Sequence[str]) -> None:
    for line in dict.fromkeys(lines):
        session.print_warning(line)


def _print_caution(vlm: "TimeVLM", confidences: Sequence[float], settings: WatchSettings) -> None:
    """Say what the model knows when it is unsure: a question outside of that is the usual cause."""
    num_low = sum(confidence < LOW_CONFIDENCE for confidence in confidences)
    if num_low and vlm.trained_on:
        known = vlm.trained_on.rstrip(".")
        session.print_note(
            f"note: {num_low} of {len(confidences)} answers with low confidence; "
            f"{vlm.name} was trained on: {known}",
            settings,
        )


def _provenance(memory: "VideoMemory") -> dict[str, Any]:
    return {
        "video": memory.video_path,
        "model": memory.model_name,
        "plan": memory.plan,
        "warnings": list(memory.warnings),
    }


def _json(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2)


def _start(span: Span) -> float:
    return span.start
