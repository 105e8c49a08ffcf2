"""From a path to a memory: load the model, then watch the video or fetch what was kept of it."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timevlm.cli.options import MEMORY_SUFFIX, WatchSettings
from timevlm.errors import InputError, MemoryFileError
from timevlm.prefilter.names import OFF, resolve_name
from timevlm.results import Timings

if TYPE_CHECKING:
    from timevlm.api import TimeVLM
    from timevlm.memory import VideoMemory
    from timevlm.prefilter import Prefilter
    from timevlm.video.sampling import SamplingPlan


def load_model(name: str, device: str) -> "TimeVLM":
    """The model that a command runs. Raises ModelError."""
    silence_libraries()
    from timevlm.api import TimeVLM

    return TimeVLM.from_pretrained(name, device=device)


def silence_libraries() -> None:
    """Keep other libraries' notes off the terminal; to be called before they are imported."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    for module in ("torch", "transformers", "huggingface_hub"):
        warnings.filterwarnings("ignore", module=module)


def open_video(
    video: Path, settings: WatchSettings, questions: Sequence[str] = ()
) -> tuple["TimeVLM", "VideoMemory"]:
    """The model and what it remembers of VIDEO, a video file or a saved memory.

    `questions` tell a pre-filter what to look for. What can be refused without the model is refused
    before it is loaded.
    """
    if video.suffix == MEMORY_SUFFIX:
        return _open_memory(video, settings)
    _check_video(video, settings)
    vlm = load_model(settings.model, settings.device)
    plan = vlm.make_plan(**_sampling(settings))
    prefilter = _prefilter(settings, questions)
    watch = _watch_with_cache if settings.use_cache else _watch
    return vlm, watch(vlm, video, settings, plan, prefilter)


def _open_memory(path: Path, settings: WatchSettings) -> tuple["TimeVLM", "VideoMemory"]:
    if settings.plan_flags:
        raise InputError(
            f"{settings.plan_flags[0]} cannot change the saved memory {path}; "
            "watch the video again with it"
        )
    if not path.is_file():
        raise MemoryFileError(f"{path} is no file; make one with: timevlm watch VIDEO -o {path}")
    vlm = load_model(settings.model, settings.device)
    return vlm, _reused(vlm.remember(path))


def _check_video(video: Path, settings: WatchSettings) -> None:
    silence_libraries()
    from timevlm.video.limits import DecodeLimits
    from timevlm.video.sampling import SamplingPlan
    from timevlm.video.source import check_file

    check_file(video, DecodeLimits())
    SamplingPlan(**_sampling(settings))
    if settings.prefilter != OFF:
        resolve_name(settings.prefilter)


def _sampling(settings: WatchSettings) -> dict[str, Any]:
    names = ("fps", "start", "end", "max_frames")
    return {name: getattr(settings, name) for name in names}


def _prefilter(settings: WatchSettings, questions: Sequence[str]) -> "Prefilter | None":
    if settings.prefilter == OFF:
        return None
    from timevlm.prefilter import load_prefilter

    return load_prefilter(settings.prefilter).about(*questions)


def _watch_with_cache(
    vlm: "TimeVLM",
    video: Path,
    settings: WatchSettings,
    plan: "SamplingPlan",
    prefilter: "Prefilter | None",
) -> "VideoMemory":
    from timevlm.cache import MemoryCache, cache_key
    from timevlm.video.identity import file_sha256

    sha256 = file_sha256(video)
    asked = plan.to_dict()
    if prefilter is not None:
        asked["prefilter"] = prefilter.identity()
    key = cache_key(video_sha256=sha256, plan=asked, model_fingerprint=vlm.fingerprint)
    cache = MemoryCache(warn=print_warning)

    def load(path: Path) -> "VideoMemory":
        memory = vlm.remember(path)
        if memory.video_sha256 != sha256:
            raise MemoryFileError(f"{path} holds another video than its name says")
        return memory

    found = cache.get(key, load)
    if found is not None:
        print_note(f"using the cached memory of {video} (--no-cache watches again)", settings)
        return replace(_reused(found), video_path=str(video))
    memory = _watch(vlm, video, settings, plan, prefilter)
    # A file that changed while it was watched must not be found under its old content.
    if memory.video_sha256 == sha256:
        cache.put(key, memory)
    return memory


def _reused(memory: "VideoMemory") -> "VideoMemory":
    # Answers report the time spent for them; nothing was decoded or encoded this time.
    return replace(memory, timings=Timings())


def _watch(
    vlm: "TimeVLM",
    video: Path,
    settings: WatchSettings,
    plan: "SamplingPlan",
    prefilter: "Prefilter | None",
) -> "VideoMemory":
    extra = {} if prefilter is None else {"prefilter": prefilter}
    with watching_progress(video.name, settings) as progress:
        return vlm.watch(video, plan=plan, progress=progress, isolate=True, **extra)


@contextlib.contextmanager
def watching_progress(
    name: str, settings: WatchSettings
) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr as a callback (frames done, frames planned); None if off."""
    if settings.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(f"watching {escape(name)}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("watch", total=None)
        # A total that changes (a pre-filter's candidates, then the chosen frames) begins anew.
        yield lambda done, planned: bar.update(task, completed=done, total=planned)


def print_warning(line: str) -> None:
    """One warning on stderr."""
    click.echo(f"warning: {' '.join(line.split())}", err=True)


def print_note(line: str, settings: WatchSettings) -> None:
    """One remark on stderr, unless --quiet."""
    if not settings.quiet:
        click.echo(line, err=True)
