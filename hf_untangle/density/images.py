"""Small labeled images: scikit-learn's digits, which need no network, and MNIST and CIFAR-10 from the Hub."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.data.digits import digits
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.hub.reachable import cache_alone_without_hub


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with a class each, pixels from 0 to 1, in a train and a test part."""

    train_x: Float[Tensor, "image channel row column"]
    train_y: Int[Tensor, " image"]
    test_x: Float[Tensor, "other channel row column"]
    test_y: Int[Tensor, " other"]
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of one image."""
        channels, rows, columns = self.train_x.shape[1:]
        return channels, rows, columns


def read_images(name: str) -> LabeledImages:
    """Read labeled images by name.

    Args:
        name: A key of `IMAGES`.

    Returns:
        The images.

    Raises:
        ConfigError: There are none of this name.
        CorpusError: The Hub cannot be reached.
        MissingExtraError: scikit-learn, which carries the digits, is not installed.
    """
    if name not in IMAGES:
        raise ConfigError(f"Images must be one of {', '.join(IMAGES)}, got `{name}`.")
    return IMAGES[name]()


def _digits() -> LabeledImages:
    """1,297 handwritten digits to learn from and 500 to test on, as nothing is chosen here that validation would be for."""
    found = digits()
    (train, labels), (more, more_labels) = found.train.planes(), found.validation.planes()
    return LabeledImages(torch.cat([train, more]), torch.cat([labels, more_labels]), *found.test.planes(), classes=10)


def _from_hub(repository: str, image: str) -> Callable[[], LabeledImages]:
    """Reads a data set of the Hub, whose column `image` holds pictures."""

    def read() -> LabeledImages:
        from datasets import load_dataset

        try:
            with cache_alone_without_hub(repository):
                parts: Any = load_dataset(repository)
        except Exception as error:  # datasets raises errors of many kinds when the Hub does not answer.
            raise CorpusError(
                f"`{repository}` must be readable from the Hub, but it is not ({error}). Check the network, or take `digits`."
            ) from error
        train_x, test_x = (_pixels(parts[part][image]) for part in ("train", "test"))
        train_y, test_y = (torch.tensor(parts[part]["label"]) for part in ("train", "test"))
        return LabeledImages(train_x, train_y, test_x, test_y, classes=int(train_y.max()) + 1)

    return read


def _pixels(pictures: Any) -> Float[Tensor, "image channel row column"]:
    """Bring pictures, grey or in color, into one tensor."""
    array = np.stack([np.asarray(picture) for picture in pictures])
    pixels = torch.from_numpy(array.reshape(*array.shape[:3], -1)).movedim(-1, 1)
    return pixels.float() / 255


IMAGES: dict[str, Callable[[], LabeledImages]] = {
    "digits": _digits,
    "mnist": _from_hub("ylecun/mnist", "image"),
    "cifar10": _from_hub("uoft-cs/cifar10", "img"),
}
"""Every set by name."""
