"""Training on clips longer than memory: subclips, carried buffers, accumulated gradients.

Kondratyuk et al. (2021), section 3.2: a clip is cut in n subclips; each goes forward from the
buffers that the one before has left, the loss is taken, and its gradient is accumulated; gradients
stop at the buffers, so that only one subclip's activations are alive at a time. After the last one
the optimizer takes one step. Memory depends on the subclip's length alone; `bench_movinet.py
--memory` measures it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from recognizers.base import State, StreamingRecognizer, detach
from recognizers.errors import FrameError

Loss = Callable[[Tensor, Tensor], Tensor]


def subclips(clip: Tensor, length: int) -> Iterator[Tensor]:
    """Views of clip (B, T, ...) in pieces of `length` frames; the last one may be shorter."""
    if length < 1:
        raise FrameError(f"subclips of {length} frames: use at least one")
    yield from clip.split(length, dim=1)


def backward_through_stream(
    model: StreamingRecognizer,
    clip: Tensor,
    target: Tensor,
    *,
    subclip_length: int,
    loss: Loss = F.cross_entropy,
    state: State | None = None,
) -> tuple[float, State]:
    """Accumulate the gradients of a whole clip, one subclip in memory at a time.

    Args:
        model: any streaming recognizer, in training mode.
        clip: (B, T, 3, H, W); it may lie on another device, each subclip is moved on its own.
        target: what `loss` compares the logits (B, K) after a subclip with.
        subclip_length: frames that are differentiated through together.
        loss: mean over the batch; weighted here by the subclip's share of the frames.
        state: carried from earlier frames; a zero state without it.

    Returns:
        The loss over the clip, and the state after it, without history. The gradients are in the
        parameters, as after `backward`.
    """
    model.check_frames(clip)
    batch_size, num_frames, _, height, width = clip.shape
    if state is None:
        state = model.init_state(batch_size, height, width)
    total = torch.zeros((), device=model.device)
    for piece in subclips(clip, subclip_length):
        logits, state = model.step(piece.to(model.device), detach(state))
        value = loss(logits[:, -1], target) * (piece.shape[1] / num_frames)
        value.backward()
        total += value.detach()
    return total.item(), detach(state)
