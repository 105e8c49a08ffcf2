"""Configuration of the whole video-language model, as a transformers configuration."""

from typing import Any

from transformers import PreTrainedConfig, SiglipVisionConfig

from timevlm.errors import ModelError
from timevlm.llm.config import HybridConfig

CHOICE_STYLES = ("text", "letter")


class TimeVLMConfig(PreTrainedConfig):
    """Vision tower, token merging, projector and hybrid LLM.

    `llm_config` holds the arguments of `HybridConfig`, `vision_config` those of transformers'
    `SiglipVisionConfig`. Raises `ModelError` on a contradiction.
    """

    model_type = "timevlm"

    llm_config: dict | None = None
    vision_config: dict | None = None
    tokens_per_frame: int = 16  # ToMe merges each frame's patches down to this many
    tome_heads: int = 16  # head slices that the merging metric averages
    place_embedding: bool = False  # merged tokens are told where their patches were
    change_embedding: bool = False  # and what changed there since the frame before
    picture_embedding: bool = False  # and what the picture does, and which way its colours go
    time_embedding: bool = False  # and the digits of their frame's time
    # Token ids of "<0", "00" and ".0s>", each followed by the others: answers copy times from the
    # frames they look at (`pointer.py`). None: they are written as any other words.
    timestamp_token_ids: list[int] | None = None
    # Token ids of the words that name things: which of two came first is told by when the words of
    # the question looked at theirs. None: by the layers alone.
    named_token_ids: list[int] | None = None
    # Token ids of left, right, above and below as answers begin with them: things that a question
    # names are measured where its words look, and compared (`comparing.py`). None: by the layers.
    side_token_ids: list[int] | None = None
    # Token ids of zero, one, two and so on, likewise: how many seconds something lasts is told by
    # the frames that are looked at. None: by the layers.
    number_token_ids: list[int] | None = None
    # Token ids of the marks that end the clauses of a question: which of the things that happen in
    # them came first is told by their last words (`clauses.py`). None: by the layers.
    separator_token_ids: list[int] | None = None
    # Token ids of first, second and so on inside a sentence: how long scenes last, and how many lie
    # between things, is told by the scenes of vision tokens (`scenes.py`). None: by the layers.
    ordinal_token_ids: list[int] | None = None
    image_mean: list[float] | None = None  # a colour channel each; default 0.5 (SigLIP)
    image_std: list[float] | None = None
    interlaced_order: bool = False  # the most distinct tokens stand where even dropping keeps
    frame_token_id: int = 5  # stands for one vision token in the ids
    user_token_id: int = 2  # opens each turn of a person in the ids
    prefix_length: int = 2  # text tokens before the video
    default_fps: float = 1.0  # frames a second when the caller names no rate
    default_max_frames: int | None = None
    choice_style: str = "text"  # how options are scored: their own text, or letters
    choice_temperature: float = 1.0  # fitted on validation questions
    trained_on: str = ""  # one line for people: what the model knows
    grounds_absence: bool = False  # taught to say that what is looked for is not in the video

    def __post_init__(self, **kwargs: Any) -> None:
        self.llm_config = HybridConfig(**self.llm_config).to_dict() if self.llm_config else None
        self.vision_config = dict(self.vision_config or {})
        self.image_mean = list(self.image_mean or [0.5, 0.5, 0.5])
        self.image_std = list(self.image_std or [0.5, 0.5, 0.5])
        if self.choice_style not in CHOICE_STYLES:
            raise ModelError(
                f"choice_style {self.choice_style!r} is unknown; use {' or '.join(CHOICE_STYLES)}"
            )
        if self.tokens_per_frame < 1 or self.default_fps <= 0:
            raise ModelError(
                f"tokens_per_frame {self.tokens_per_frame} and default_fps {self.default_fps} "
                "must be positive"
            )
        if self.timestamp_token_ids is not None:
            self._check_pointer()
        elif self.named_token_ids is not None or self.number_token_ids is not None:
            raise ModelError(
                f"named_token_ids {self.named_token_ids} and number_token_ids "
                f"{self.number_token_ids} need timestamp_token_ids: without them "
                "nothing is known of when a thing was seen; give them as well, or neither"
            )
        if self.side_token_ids is not None and (
            len(self.side_token_ids) != 4 or self.named_token_ids is None
        ):
            raise ModelError(
                f"side_token_ids {self.side_token_ids} must be four, of a model with "
                "named_token_ids; give None for one that compares no things"
            )
        if self.separator_token_ids is not None and self.named_token_ids is None:
            raise ModelError(
                f"separator_token_ids {self.separator_token_ids} are of a model with "
                "named_token_ids; give None for one that orders no things"
            )
        if self.ordinal_token_ids is not None and (
            self.number_token_ids is None or self.named_token_ids is None
        ):
            raise ModelError(
                f"ordinal_token_ids {self.ordinal_token_ids} need number_token_ids and "
                "named_token_ids: scenes are counted between named things; give None for a model "
                "without them"
            )
        super().__post_init__(**kwargs)

    def _check_pointer(self) -> None:
        if len(self.timestamp_token_ids) != 3 or self.llm.pointing_layer is None:
            raise ModelError(
                f"timestamp_token_ids {self.timestamp_token_ids} must be three, of a model with "
                f"attention; give None for pattern {self.llm.pattern!r}"
            )

    @property
    def llm(self) -> HybridConfig:
        """The hybrid LLM's configuration."""
        if self.llm_config is None:
            raise ModelError("the configuration has no llm_config; give the hybrid LLM's sizes")
        return HybridConfig(**self.llm_config)

    @property
    def vision(self) -> SiglipVisionConfig:
        """The vision tower's configuration, without its pooling head."""
        return SiglipVisionConfig(**{**self.vision_config, "vision_use_head": False})

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that the vision tower reads."""
        size = self.vision.image_size
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame."""
        height, width = self.frame_size
        patch = self.vision.patch_size
        return height // patch, width // patch
