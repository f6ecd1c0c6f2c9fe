"""The size of a k-contrast model, as a Hugging Face configuration."""

from typing import Literal

from transformers import PreTrainedConfig

Modality = Literal["image", "text"]
"""What an item is: an image, or a block of bytes."""


class ContrastConfig(PreTrainedConfig):
    """Configuration of a `ContrastModel`. The defaults are the sizes of the published experiment."""

    model_type = "untangle_contrast"
    # A configuration takes any keyword, which checkers of types at run time do not foresee.
    __no_type_check__ = True

    modality: str = "image"
    """A `Modality`."""
    image_size: int = 32
    """Pixels on a side of an image."""
    channels: int = 3
    """Colors of a pixel."""
    filters: list[int] | tuple[int, ...] = (64, 64, 64)
    """Channels of the convolutions; the first keeps the size of an image, each later one halves it."""
    byte_size: int = 32
    """Width of the embedding of a byte, for text."""
    augment: bool = True
    """Whether items are changed a little in training."""
    bits: int = 512
    """Bits of the message, n."""
    noise: float = 0.5
    """Standard deviation of the channel's noise in training."""
    temperature: float = 1.0
    """Steepness T of the channel's sigmoid in training."""
    embedding_size: int = 128
    """Width of an encoded item of the problem."""
    hidden_size: int = 192
    """Width of the solver."""
    num_hidden_layers: int = 2
    num_attention_heads: int = 3
    intermediate_size: int = 64
    """Width of the solver's feed-forward layers."""
    dropout: float = 0.1
