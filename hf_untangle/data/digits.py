"""The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, real data that needs no network."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.errors import MissingExtraError

TRAIN, VALIDATION = 1000, 297
"""Images to learn from and to choose by; the other 500 are to test on."""


class Labeled(NamedTuple):
    """Images with the digit that each shows."""

    images: Float[Tensor, "image y x"]
    """Grey from 0 to 1."""
    labels: Int[Tensor, " image"]
    """0 to 9."""

    def flat(self) -> tuple[Float[Tensor, "image pixel"], Int[Tensor, " image"]]:
        """The images as rows of 64 pixels, with their labels."""
        return self.images.flatten(1), self.labels

    def planes(self) -> tuple[Float[Tensor, "image 1 y x"], Int[Tensor, " image"]]:
        """The images with a channel, as convolutions take them, with their labels."""
        return self.images[:, None], self.labels


@dataclass(frozen=True)
class Digits:
    """Three parts, which are the same every time."""

    train: Labeled
    validation: Labeled
    test: Labeled


def digits(seed: int = 0) -> Digits:
    """Read the digits, shuffled and split.

    Args:
        seed: For the shuffle.

    Returns:
        1,000 images to learn from, 297 to choose by, and 500 to test on.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(
            "The handwritten digits come with scikit-learn, which is not installed. Run `pip install 'hf-untangle[vision]'`."
        ) from error
    pixels, shown = load_digits(return_X_y=True)
    order = torch.randperm(len(shown), generator=torch.Generator().manual_seed(seed))
    images = torch.as_tensor(pixels).float().view(-1, 8, 8)[order] / 16
    labels = torch.as_tensor(shown).long()[order]
    ends = [TRAIN, TRAIN + VALIDATION]
    parts = zip(images.tensor_split(ends), labels.tensor_split(ends), strict=True)
    return Digits(*(Labeled(*part) for part in parts))
