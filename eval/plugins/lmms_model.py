"""The classes that lmms-eval builds for `--model timevlm`; needs lmms-eval."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from eval.plugins.answering import Answerer, PluginSettings
from eval.plugins.lmms import (
    Question,
    in_given_order,
    losses,
    read_chat,
    read_likelihood,
    read_simple,
    replies,
)
from timevlm import InputError


class TimeVLMSimple(lmms):
    """TimeVLM for tasks that give a text and visuals; also for likelihoods of answers.

    `options` are the fields of `PluginSettings`, as `--model_args` names them. lmms-eval adds its
    batch sizes, which say nothing here: what questions share is a watched video, not a batch.
    """

    is_simple = True

    def __init__(
        self,
        *,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **options: Any,  # --model_args; PluginSettings refuses names that it does not know
    ) -> None:
        super().__init__()
        settings = PluginSettings.read(_on_own_device(options))
        self.answerer = Answerer(settings)

    @property
    def device(self) -> torch.device:
        """Where the model runs; lmms-eval gathers counts of several processes there."""
        return self.answerer.vlm.model.device

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """A reply to each request. Raises VideoError or InputError."""
        questions = self._read(requests, read_simple)
        return self._in_order(replies(self.answerer, questions), len(requests))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """(loss, whether greedy decoding writes it) of each request's continuation.

        Wrapped, because lmms-eval (0.7 to 0.7.3) makes a text of a bare pair of numbers and then
        fails to read it.
        """
        questions = self._read(requests, read_likelihood)
        pairs = self._in_order(losses(self.answerer, questions), len(requests))
        return [GenerationResult(pair) for pair in pairs]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refused: these tasks show new pictures between turns. Raises InputError."""
        raise InputError(
            f"{len(requests)} questions of several rounds were asked; this model watches a video "
            "once and answers questions of one round"
        )

    def _read(self, requests: Sequence[Instance], read: Callable[..., Question]) -> list[Question]:
        sampling = self.answerer.settings.sampling
        return [read(request.args, self.task_dict, sampling) for request in requests]

    def _in_order(self, pairs: Iterable[tuple[int, Any]], count: int) -> list[Any]:
        """The values in the order of the requests; shows how far they are."""
        counted = tqdm(pairs, total=count, desc="timevlm", disable=self.rank != 0)
        return in_given_order(counted, count)


class TimeVLMChat(TimeVLMSimple):
    """TimeVLM for tasks that give messages; lmms-eval takes this one unless `--force_simple`."""

    is_simple = False

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """A reply to each request. Raises VideoError or InputError."""
        questions = self._read(requests, read_chat)
        return self._in_order(replies(self.answerer, questions), len(requests))


def _on_own_device(options: dict[str, Any]) -> dict[str, Any]:
    """The options; without a device each process of a launcher gets a GPU of its own."""
    if options.get("device") is None and torch.cuda.is_available():
        return {**options, "device": f"cuda:{os.environ.get('LOCAL_RANK', '0')}"}
    return options
