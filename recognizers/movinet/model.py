"""MoViNet: a streaming 3-D convolutional network for video recognition, A0 to A5.

Kondratyuk et al., CVPR 2021 (arXiv 2103.11511). A stem, five stages of inverted bottlenecks whose
depthwise convolutions reach over time, a head, a cumulative average, two dense layers. In the
streaming network every temporal convolution reads the past from a stream buffer and every average
is cumulative, so memory does not grow with the video; frames may come in chunks of any length.

State (see `init_state`): per block its stream buffer and pooled sum, the head's pooled sum, and
the number of frames seen by each stream.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recognizers.base import State, StreamingRecognizer
from recognizers.errors import StateError
from recognizers.movinet.config import BlockConfig, MoViNetConfig
from recognizers.movinet.layers import Block, ConvNorm, cumulative_mean, frame_counts

NUM_FRAMES, HEAD_TOTAL = "num_frames", "head.total"


def buffer_name(index: int) -> str:
    """State entry of block `index`'s stream buffer, (B, k - 1, C, H, W)."""
    return f"blocks.{index}.buffer"


def total_name(index: int) -> str:
    """State entry of block `index`'s sum over frames, (B, C) float32."""
    return f"blocks.{index}.total"


class MoViNetRecognizer(StreamingRecognizer):
    """What the plain and the folded network share: the state's layout, and how they are called.

    One state serves both, so a stream can go on in the other.
    """

    config_class = MoViNetConfig
    config: MoViNetConfig

    @abstractmethod
    def features(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Averages (B, T, C) of the head over all frames so far, after each frame, and the state.

        For a base network the last one is the average over the clip.
        """

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., K) from the head's averages (..., C)."""

    @classmethod
    def config_from_dict(cls, fields: dict) -> MoViNetConfig:
        """The config from its JSON."""
        stages = tuple(
            tuple(BlockConfig(**{**block, "kernel": tuple(block["kernel"])}) for block in stage)
            for stage in fields["stages"]
        )
        return MoViNetConfig(**{**fields, "stages": stages})

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """State before the first frame, for pictures of height x width.

        Returns:
            "num_frames" (B,) int64; "blocks.I.buffer" (B, k - 1, C, H', W') for every block with a
            temporal convolution; "blocks.I.total" (B, C) and "head.total" (B, C), float32.

        Raises:
            StateError: a base network looks ahead and cannot stream.
        """
        self._refuse_base()
        return self._zero_state(batch_size, height, width, device, dtype)

    def _refuse_base(self) -> None:
        if not self.config.causal:
            raise StateError(
                "a base MoViNet looks at later frames and cannot stream: call the model on a whole "
                "clip, or create the stream variant"
            )

    def _zero_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None = None,
    ) -> State:
        device, dtype = device or self.device, dtype or self.dtype
        state = {}
        for name, shape in self.state_shapes(height, width).items():
            leaf_type = dtype if name.endswith("buffer") else torch.float32
            leaf_type = torch.int64 if name == NUM_FRAMES else leaf_type
            state[name] = torch.zeros(batch_size, *shape, dtype=leaf_type, device=device)
        return state

    def state_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shape of every state entry without its batch, for pictures of height x width."""
        shapes: dict[str, tuple[int, ...]] = {NUM_FRAMES: ()}
        height, width = _half(height), _half(width)
        factorised = self.config.conv_type == "2plus1d"
        for index, block in enumerate(self.config.blocks):
            size = height, width
            if block.stride == 2:
                height, width = _half(height), _half(width)
            if self.config.causal and block.kernel[0] > 1:
                # A 3-D convolution buffers its input, a factorised one what space has halved.
                size = (height, width) if factorised else size
                shapes[buffer_name(index)] = (block.kernel[0] - 1, block.expand_channels, *size)
            shapes[total_name(index)] = (block.expand_channels,)
        shapes[HEAD_TOTAL] = (self.config.head_channels,)
        return shapes

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, T, K) after each of the frames (B, T, 3, H, W), and the state after them."""
        self._refuse_base()
        features, state = self.features(frames, state)
        return self.classify(features), state

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (B, K) of a whole clip (B, T, 3, H, W); the only way to call a base network."""
        self.check_frames(clip)
        batch_size, _, _, height, width = clip.shape
        state = self._zero_state(batch_size, height, width, clip.device)
        features, _ = self.features(clip, state)
        return self.classify(features[:, -1])

    def check_state(self, frames: Tensor, state: State) -> None:
        """StateError unless the state is of this model, batch size and picture size."""
        batch_size, _, _, height, width = frames.shape
        expected = self.state_shapes(height, width)
        found = {name: tuple(leaf.shape[1:]) for name, leaf in state.items()}
        if found != expected or state[NUM_FRAMES].shape[0] != batch_size:
            raise StateError(
                f"the state does not fit {batch_size} streams of {height}x{width} in this model: "
                "make it with init_state, and keep the picture size"
            )


class MoViNet(MoViNetRecognizer):
    """A MoViNet as its config says; frames are RGB in [0, 1], any picture size."""

    family = "movinet"

    def __init__(self, config: MoViNetConfig, labels: Sequence[str] | None = None) -> None:
        super().__init__(config, labels)
        self.stem = ConvNorm(
            3, config.stem_channels, config, kernel=3, stride=2, activation=config.activation
        )
        blocks = config.blocks
        rates = [config.stochastic_depth * (i + 1) / len(blocks) for i in range(len(blocks))]
        self.blocks = nn.ModuleList(
            Block(block, config, rate) for block, rate in zip(blocks, rates, strict=True)
        )
        self.head = ConvNorm(
            blocks[-1].out_channels,
            config.head_channels,
            config,
            activation=config.activation,
        )
        self.dense = nn.Linear(config.head_channels, config.hidden_channels)
        # The dense layer's activation is swish in the streams too.
        self.dense_activation = nn.SiLU()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_channels, config.num_classes)
        self.apply(_initialize)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def features(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """See MoViNetRecognizer."""
        self.check_frames(frames)
        self.check_state(frames, state)
        counts = frame_counts(state[NUM_FRAMES], frames.shape[1])
        new_state = {NUM_FRAMES: counts[:, -1]}
        x = self.normalize(frames)
        batch = x.shape[:2]
        x = self.stem(x.flatten(0, 1)).unflatten(0, batch)
        for index, block in enumerate(self.blocks):
            buffer, total = buffer_name(index), total_name(index)
            x, new_buffer, new_state[total] = block(x, state.get(buffer), state[total], counts)
            if new_buffer is not None:
                new_state[buffer] = new_buffer
        x = self.head(x.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, batch)
        x, new_state[HEAD_TOTAL] = cumulative_mean(x, state[HEAD_TOTAL], counts)
        return x, new_state

    def classify(self, features: Tensor) -> Tensor:
        """See MoViNetRecognizer."""
        return self.classifier(self.dropout(self.dense_activation(self.dense(features))))


def _half(size: int) -> int:
    return (size + 1) // 2


def _initialize(module: nn.Module) -> None:
    """He initialisation, as released; the norms keep torch's ones and zeros."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
