"""METEOR 1.5 through its original Java program, which the package pycocoevalcap carries.

There is no other METEOR that gives published numbers (nltk's is another metric), so this one is an
optional extra that says what is missing. The program is started once with the locale en-US: under
a locale with decimal commas it prints numbers that no parser reads. Every read has a time limit,
and its error stream is thrown away, because a full pipe would stop it for good.

Denkowski and Lavie, "Meteor Universal", WMT 2014.
"""

import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from eval.metrics.captioning import CaptionScore, Words
from timevlm.errors import InputError, TimeVLMError

PACKAGE = "pycocoevalcap"
_JAR = "meteor-1.5.jar"
# Loading the paraphrase table takes seconds, more on a busy machine; later lines take milliseconds.
READ_SECONDS = 120.0
_SEPARATOR = "|||"


class MeteorError(TimeVLMError):
    """METEOR cannot be started here, or stopped answering."""


def meteor_command() -> tuple[list[str], Path]:
    """The command that starts METEOR and the folder to start it in.

    Raises MeteorError if the package or Java is not installed.
    """
    spec = find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    jar = Path(next(iter(folders))) / "meteor" / _JAR if folders else None
    if jar is None or not jar.is_file():
        raise MeteorError(
            f"METEOR needs the package {PACKAGE}, which is not installed; "
            'run: pip install "timevlm[meteor]"'
        )
    java = shutil.which("java")
    if java is None:
        raise MeteorError("METEOR needs Java, but there is no java on the PATH; install a JRE (8+)")
    locale = ["-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8"]
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    return [java, *locale, "-Xmx2G", "-jar", jar.name, *options], jar.parent


def meteor_available() -> bool:
    """Whether `Meteor()` can be started on this machine."""
    try:
        meteor_command()
    except MeteorError:
        return False
    return True


class Meteor:
    """A running METEOR process; use it as a context manager.

    Raises MeteorError if the program cannot be started.
    """

    def __init__(
        self, command: Sequence[str] | None = None, *, read_seconds: float = READ_SECONDS
    ) -> None:
        folder: Path | None = None
        if command is None:
            command, folder = meteor_command()
        self._read_seconds = read_seconds
        try:
            self._process = subprocess.Popen(
                list(command),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            raise MeteorError(f"METEOR cannot be started ({error}); is Java installed?") from error
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What it no longer reads is written on closing: it has been said that it stopped.
                with suppress(BrokenPipeError):
                    stream.close()

    def __call__(
        self, hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
    ) -> CaptionScore:
        """METEOR in [0, 1] of aligned captions; `corpus` is METEOR's own pooled score.

        A blank caption or an item whose references are all blank scores 0 and stays out of the
        pooled score. Raises InputError for lists that are not aligned, MeteorError if the program
        stops or is silent for `read_seconds`.
        """
        if len(hypotheses) != len(references):
            raise InputError(
                f"got {len(hypotheses)} captions and references for {len(references)}; align them"
            )
        lines = []
        for words, refs in zip(hypotheses, references, strict=True):
            texts = [_text(ref) for ref in refs]
            texts = [text for text in texts if text]
            lines.append((_text(words), texts))
        scorable = [index for index, (text, refs) in enumerate(lines) if text and refs]
        if not scorable:
            return CaptionScore(corpus=0.0, each=(0.0,) * len(lines))
        statistics = []
        for index in scorable:
            text, refs = lines[index]
            self._write(f" {_SEPARATOR} ".join(["SCORE", *refs, text]))
            statistics.append(self._read())
        self._write(f" {_SEPARATOR} ".join(["EVAL", *statistics]))
        each = [0.0] * len(lines)
        for index in scorable:
            each[index] = self._number()
        return CaptionScore(corpus=self._number(), each=tuple(each))

    def _collect(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            try:
                for line in stream:
                    self._lines.put(line.strip())
            except ValueError:
                pass  # closed while waiting: the process is being ended
        self._lines.put(None)

    def _write(self, line: str) -> None:
        stream = self._process.stdin
        assert stream is not None  # it was opened as a pipe
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError) as error:
            raise MeteorError(f"METEOR stopped ({error}); is Java 8 or newer installed?") from error

    def _read(self) -> str:
        try:
            line = self._lines.get(timeout=self._read_seconds)
        except queue.Empty:
            raise MeteorError(
                f"METEOR was silent for {self._read_seconds:g} s; try again on an idler machine"
            ) from None
        if line is None:
            raise MeteorError("METEOR stopped; it needs Java 8 or newer and 2 GB of memory")
        return line

    def _number(self) -> float:
        line = self._read()
        try:
            return float(line)
        except ValueError:
            raise MeteorError(f"METEOR printed {line!r} instead of a score") from None


def _text(words: Words) -> str:
    """One line without the separator; "" if nothing is left."""
    return " ".join(" ".join(words).replace(_SEPARATOR, " ").split())
