"""TimeVLM for lmms-eval: what its entry point loads, and how its requests are answered.

    python -m lmms_eval --model timevlm --model_args pretrained=nano --tasks TASK

lmms-eval finds `manifest` through the entry point group `lmms_eval.models` and imports the classes
of `eval.plugins.lmms_model` when the model is chosen. A failing plug-in would keep lmms-eval from
loading those after it, so `manifest` imports nothing but lmms-eval's own record. docs/eval/lmms.md
has the installation, the options and a run.

The tuples of lmms-eval's requests (0.7.3) are read here and nowhere else:

    simple      (context, gen_kwargs, doc_to_visual, doc_id, task, split)
    chat        (context, doc_to_messages, gen_kwargs, doc_id, task, split)
    likelihood  (context, continuation or doc_to_target, doc_to_visual, doc_id, task, split)
"""

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from timevlm.errors import InputError, VideoError

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest
    from PIL.Image import Image

    from eval.plugins.answering import Answerer, VideoPart

Documents = Mapping[str, Mapping[str, Sequence[Any]]]
"""lmms-eval's `task_dict`: task -> split -> documents."""


def manifest() -> "ModelManifest":
    """What lmms-eval registers: the model `timevlm` in both of its interfaces."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="timevlm",
        simple_class_path="eval.plugins.lmms_model.TimeVLMSimple",
        chat_class_path="eval.plugins.lmms_model.TimeVLMChat",
    )


@dataclass(frozen=True, slots=True)
class Question:
    """A request, read. `show` gives the visual when it is needed, since pictures may be large."""

    key: Hashable
    """Equal for questions about the same video, or about the same document's pictures."""
    show: "Callable[[], VideoPart | list[Image]]"
    text: str
    continuation: str = ""
    """The answer to score, where the request is for a likelihood."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The task's generation settings."""


def read_simple(arguments: tuple[Any, ...], documents: Documents, sampling: str) -> Question:
    """A request for a reply, in the simple interface."""
    context, gen_kwargs, doc_to_visual, *place = arguments
    key, show = _visual(doc_to_visual, place, documents, sampling)
    return Question(key, show, context, options=gen_kwargs)


def read_chat(arguments: tuple[Any, ...], documents: Documents, sampling: str) -> Question:
    """A request for a reply, in the chat interface: the turns' texts one after the other."""
    _, doc_to_messages, gen_kwargs, *place = arguments

    def parts(document: Any) -> list[Mapping[str, Any]]:
        return [part for turn in doc_to_messages(document) for part in _parts(turn["content"])]

    def visuals(document: Any) -> list[Any]:
        return [_visual_of(part) for part in parts(document) if part["type"] != "text"]

    doc_id, task, split = place
    spoken = [p["text"] for p in parts(documents[task][split][doc_id]) if p["type"] == "text"]
    key, show = _visual(visuals, place, documents, sampling)
    return Question(key, show, "\n".join(spoken).strip(), options=gen_kwargs)


def read_likelihood(arguments: tuple[Any, ...], documents: Documents, sampling: str) -> Question:
    """A request for a likelihood. Raises InputError for one without a document."""
    if len(arguments) != 6:
        raise InputError(
            "a likelihood without a video was asked for (acc_mutual_info does that); this model "
            "scores answers to questions about a video"
        )
    context, target, doc_to_visual, *place = arguments
    doc_id, task, split = place
    continuation = (
        target if isinstance(target, str) else str(target(documents[task][split][doc_id]))
    )
    key, show = _visual(doc_to_visual, place, documents, sampling)
    return Question(key, show, context, continuation)


def _visual(
    visuals_of: "Callable[[Any], Sequence[Any] | None] | None",
    place: Sequence[Any],
    documents: Documents,
    sampling: str,
) -> "tuple[Hashable, Callable[[], VideoPart | list[Image]]]":
    """Key and visual of the document at (doc_id, task, split); text tasks have no `visuals_of`."""
    from eval.plugins.answering import VideoPart, read_visual

    doc_id, task, split = place

    def show() -> "VideoPart | list[Image]":
        items = visuals_of(documents[task][split][doc_id]) if visuals_of else None
        return read_visual(items or (), sampling)

    shown = show()
    return (shown if isinstance(shown, VideoPart) else tuple(place)), show


def _parts(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _visual_of(part: Mapping[str, Any]) -> Any:
    """The video or picture of a message's part, with its times where it has some."""
    if part["type"] not in ("video", "image"):
        raise InputError(f"a question has {part['type']}; this model reads videos and pictures")
    url = part["url"]
    if part["type"] == "image" or isinstance(url, Mapping):
        return url
    return {"url": url, "start_time": part.get("start_time"), "end_time": part.get("end_time")}


def replies(answerer: "Answerer", questions: Sequence[Question]) -> Iterator[tuple[int, str]]:
    """(index, reply) of every question, all questions of a video one after the other.

    Raises VideoError for a video that cannot be decoded, unless the settings ask for empty
    replies.
    """
    sampled = sorted({str(k) for q in questions for k, v in _sampling_of(q).items() if v})
    if sampled:
        warnings.warn(f"replies are greedy; {', '.join(sampled)} is ignored", stacklevel=2)
    broken: dict[Hashable, str] = {}
    num_empty = 0
    for index in in_video_order(questions):
        question, text = questions[index], ""
        if question.key not in broken:
            try:
                limits = _limits(question.options)
                text = answerer.answer(question.show(), question.text, **limits)
            except VideoError as error:
                if answerer.settings.broken_videos == "raise":
                    raise
                broken[question.key] = str(error)
        num_empty += question.key in broken
        yield index, text
    if broken:
        reasons = "; ".join(broken.values())
        warnings.warn(f'{num_empty} questions were answered by "": {reasons}', stacklevel=2)


def losses(
    answerer: "Answerer", questions: Sequence[Question]
) -> Iterator[tuple[int, tuple[float, bool]]]:
    """(index, (loss, is greedy)) of every question's continuation.

    lmms-eval's multiple choice picks the smallest first value, so that it is a loss: minus the
    log-probability, in nats, summed over the continuation's tokens and the end of the turn.
    """
    ordered = in_video_order(questions)
    for _, group in groupby(ordered, key=lambda i: (questions[i].key, questions[i].text)):
        members = list(group)  # the answers to one question share its prompt
        question = questions[members[0]]
        answers = [questions[index].continuation for index in members]
        scores = answerer.score(question.show(), question.text, answers)
        for index, score in zip(members, scores, strict=True):
            yield index, (-score.log_probability, score.is_greedy)


def in_video_order(questions: Sequence[Question]) -> list[int]:
    """Indices, those of one video next to each other, else in the given order."""
    groups: dict[Hashable, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(question.key, []).append(index)
    return [index for members in groups.values() for index in members]


def in_given_order(pairs: Iterable[tuple[int, Any]], count: int) -> list[Any]:
    """The values of (index, value) pairs by index. Raises InputError if one is missing."""
    values = dict(pairs)
    if sorted(values) != list(range(count)):
        raise InputError(f"{count} requests were made, but {len(values)} were answered")
    return [values[index] for index in range(count)]


def _limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of a task's generation settings concerns greedy replies."""
    limits: dict[str, Any] = {}
    if options.get("max_new_tokens"):
        limits["max_new_tokens"] = int(options["max_new_tokens"])
    until = options.get("until") or ()
    limits["until"] = (until,) if isinstance(until, str) else tuple(until)
    return limits


def _sampling_of(question: Question) -> dict[str, Any]:
    options = question.options
    beams = options.get("num_beams") or 1
    return {
        "do_sample": options.get("do_sample"),
        "temperature": options.get("temperature"),
        "num_beams": beams > 1,
    }
