"""Which process works on which videos, without any talk between processes.

A video belongs to the shard that a stable hash of its path names, so that all its questions meet
one process, and every process knows its part without asking. Processes started by torchrun or
`accelerate launch` read their place from the environment; `--shard i/n` names it by hand, for
machines that share nothing but (perhaps) a disk.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from timevlm.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Part `index` of `count`, both from the user; the whole is 0 of 1."""

    index: int = 0
    count: int = 1
    helps: bool = False
    """Whether this process goes on with what other shards have left once its own is done."""
    local_rank: int | None = None
    """Number of the GPU to use on this machine; None: the model's own choice."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise InputError(
                f"shard {self.index}/{self.count} does not exist; write i/n with i from 0 to n-1"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def owns(self, video: str) -> bool:
        """Whether the video belongs to this shard."""
        return shard_of(video, self.count) == self.index


def shard_of(video: str, count: int) -> int:
    """The shard, from 0 to count - 1, of a video: the same on every machine and in every run."""
    digest = hashlib.sha256(video.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse_shard(text: str) -> Shard:
    """The shard written `i/n`, i from 0. Raises InputError."""
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise InputError(f"{text!r} is not a shard; write i/n with i from 0 to n-1, such as 0/4")
    return Shard(index=int(index), count=int(count))


def shard_from_environment(environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard of a process that torchrun or `accelerate launch` started, else the whole.

    Raises InputError where the variables make no sense.
    """
    if "WORLD_SIZE" not in environment:
        return Shard()
    try:
        index, count = int(environment.get("RANK", "0")), int(environment["WORLD_SIZE"])
        local = int(environment.get("LOCAL_RANK", index))
    except ValueError:
        raise InputError(
            "RANK, LOCAL_RANK or WORLD_SIZE in the environment is not a number; "
            "start with torchrun or accelerate launch, or use --shard i/n"
        ) from None
    return Shard(index=index, count=count, helps=count > 1, local_rank=local)
