"""From an item, an image or a block of bytes, to a vector."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.papers.contrast.augmentation import change_images, change_texts
from hf_untangle.papers.contrast.configuration import ContrastConfig

Items = UInt8[Tensor, "_ ..."]
"""Images [item, channel, y, x] with values from 0 to 255, or texts [item, position] of bytes."""
BYTES = 256


class ImageEncoder(nn.Module):
    """Convolutions of 3 x 3, then one linear layer over all that is left."""

    def __init__(self, config: ContrastConfig, width: int) -> None:
        """Build the layers.

        Args:
            config: Sizes.
            width: Numbers that an image becomes.
        """
        super().__init__()
        self.augment = config.augment
        layers: list[nn.Module] = []
        side, before = config.image_size, config.channels
        for number, filters in enumerate(config.filters):
            stride = 1 if number == 0 else 2
            layers += [nn.Conv2d(before, filters, 3, stride), nn.ReLU()]
            side, before = (side - 3) // stride + 1, filters
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side**2, width))

    def forward(self, images: UInt8[Tensor, "item channel y x"]) -> Float[Tensor, "item feature"]:
        """Encode images, each changed a little in training.

        Args:
            images: Values from 0 to 255.

        Returns:
            One vector per image.
        """
        scaled = images.to(next(self.parameters()).dtype) / 255
        return self.layers(change_images(scaled) if self.training and self.augment else scaled)


class TextEncoder(nn.Module):
    """An embedding of bytes, convolutions over three bytes, the mean over positions, and one linear layer.

    Means over positions differ little from text to text, and the channel's noise would drown what they say, so that nothing
    is ever learnt. A batch norm before the last layer brings every feature to the same scale.
    """

    def __init__(self, config: ContrastConfig, width: int) -> None:
        """Build the layers.

        Args:
            config: Sizes.
            width: Numbers that a text becomes.
        """
        super().__init__()
        self.augment = config.augment
        self.embedding = nn.Embedding(BYTES, config.byte_size)
        layers: list[nn.Module] = []
        before = config.byte_size
        for number, filters in enumerate(config.filters):
            layers += [nn.Conv1d(before, filters, 3, 1 if number == 0 else 2), nn.ReLU()]
            before = filters
        self.layers = nn.Sequential(*layers)
        self.output = nn.Sequential(nn.BatchNorm1d(before), nn.Linear(before, width))

    def forward(self, texts: UInt8[Tensor, "item position"]) -> Float[Tensor, "item feature"]:
        """Encode texts, each changed a little in training.

        Args:
            texts: Bytes.

        Returns:
            One vector a text.
        """
        numbers = texts.long()
        embedded = self.embedding(change_texts(numbers) if self.training and self.augment else numbers)
        return self.output(self.layers(embedded.transpose(1, 2)).mean(-1))


ENCODERS: dict[str, Callable[[ContrastConfig, int], nn.Module]] = {"image": ImageEncoder, "text": TextEncoder}
"""Encoders by what they encode."""


@checked_calls
@dataclass(frozen=True, eq=False)
class ItemSets:
    """Items to train on, and held-out sets."""

    train: Items
    """Images or texts."""
    sets: dict[str, Items]
    """Sets to test on by name; the first is of the same distribution as `train`, the others are shifts."""
    shape: dict[str, Any]
    """What a `ContrastConfig` must say to fit the items."""
    source: str
    """Where the items to train on come from."""
    __repr__ = fields_repr

    @property
    def in_distribution(self) -> str:
        """The name of the set that is no shift."""
        return next(iter(self.sets))
