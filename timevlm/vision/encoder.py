"""The vision tower: uint8 frames of any size and number -> patch tokens of each frame."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModel, SiglipVisionConfig

from timevlm.errors import ModelError
from timevlm.vision.preprocess import preprocess


class VisionEncoder(nn.Module):
    """A SigLIP vision tower without its pooling head (TimeViper, section 3.2).

    Frames are resized, normalised and encoded on the tower's device in slices of at most
    `max_frames_per_slice`, so that memory does not grow with the number of frames.
    `image_mean` and `image_std` hold one value a colour channel, in [0, 1]. A configuration with
    `vision_use_post_layernorm=False` leaves out the final norm, as TimeViper's tower does.
    Raises `ModelError` when the configuration asks for the pooling head or is not SigLIP's.
    """

    def __init__(
        self,
        config: SiglipVisionConfig,
        *,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        max_frames_per_slice: int = 64,
    ) -> None:
        super().__init__()
        if not isinstance(config, SiglipVisionConfig) or config.vision_use_head:
            raise ModelError(
                f"vision config {type(config).__name__} is not a SigLIP tower without its head; "
                "give a SiglipVisionConfig with vision_use_head=False"
            )
        if max_frames_per_slice < 1:
            raise ModelError(
                f"max_frames_per_slice {max_frames_per_slice} is below 1; give a count"
            )
        self.tower = AutoModel.from_config(config, attn_implementation="sdpa")
        if not getattr(config, "vision_use_post_layernorm", True):
            self.tower.post_layernorm = nn.Identity()
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.max_frames_per_slice = max_frames_per_slice
        self.frame_size = (config.image_size, config.image_size)
        self.num_patches = (config.image_size // config.patch_size) ** 2
        self.hidden_size = config.hidden_size

    def forward(self, pixels: Tensor) -> Tensor:
        """Frames uint8 (N, 3, H, W) -> tokens (N, num_patches, hidden_size).

        The tokens are the last layer's, after the final norm, row by row from the top left.
        Raises `InputError` when `pixels` is not a batch of uint8 colour frames.
        """
        weight = self.tower.embeddings.patch_embedding.weight
        if not len(pixels):
            return weight.new_zeros(0, self.num_patches, self.hidden_size)
        tokens = []
        for frames in pixels.split(self.max_frames_per_slice):
            values = preprocess(
                frames.to(weight.device),
                self.frame_size,
                self.image_mean,
                self.image_std,
                weight.dtype,
            )
            tokens.append(self.tower(values).last_hidden_state)
        return torch.cat(tokens)
