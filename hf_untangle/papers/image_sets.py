"""Small labeled images: scikit-learn's digits, which need no network, and sets of the Hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.data.digits import digits
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.hub.reachable import cache_alone_without_hub


@dataclass(frozen=True)
class HubImages:
    """A set of images on the Hub."""

    repository: str
    column: str = "image"
    test: str = "test"
    """The split that is tested on."""

    def rows(self, split: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Read a split.

        Args:
            split: Its name.
            limit: How many rows at most; all when None.

        Yields:
            Rows, whose image `datasets` has decoded.

        Raises:
            CorpusError: The Hub does not answer, or the set is not there.
        """
        from datasets import load_dataset

        try:
            with cache_alone_without_hub(self.repository):
                # What is read whole comes from the cache where the Hub does not answer.
                rows: Any = load_dataset(self.repository, split=split, streaming=limit is not None)
                yield from islice(rows, limit)
        except Exception as error:  # Gated, renamed, connection lost: each has its own kind.
            raise CorpusError(
                f"`{self.repository}` must be readable from the Hub, but it is not ({error}). Check the network, or take "
                "`digits`, which need none."
            ) from error


HUB_IMAGES = {
    "cifar10": HubImages("uoft-cs/cifar10", column="img"),
    "mnist": HubImages("ylecun/mnist"),
    "colorectal": HubImages("dpdl-benchmark/colorectal_histology", test="train"),
    "plant village": HubImages("BrandonFors/Plant-Diseases-PlantVillage-Dataset"),
}
"""Sets of the Hub by name."""
IMAGES = ("digits", "mnist", "cifar10")
"""Sets with a train and a test part of images of one size, by name."""


@checked_calls
@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with a class each, pixels from 0 to 1, in a train and a test part."""

    train_x: Float[Tensor, "image channel row column"]
    train_y: Int[Tensor, " image"]
    test_x: Float[Tensor, "other channel row column"]
    test_y: Int[Tensor, " other"]
    classes: int
    __repr__ = fields_repr

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of one image."""
        channels, rows, columns = self.train_x.shape[1:]
        return channels, rows, columns


def labeled_images(name: str) -> LabeledImages:
    """Read labeled images by name.

    Args:
        name: One of `IMAGES`.

    Returns:
        The images. Of the digits 1,297 to learn from and 500 to test on; no choice is made here that needs validation.

    Raises:
        ConfigError: There is no such name.
        CorpusError: The Hub cannot be reached.
        MissingExtraError: scikit-learn, which carries the digits, is not installed.
    """
    if name not in IMAGES:
        raise ConfigError(f"Images must be one of {', '.join(IMAGES)}, got `{name}`.")
    if name == "digits":
        found = digits()
        (train, labels), (more, more_labels) = found.train.planes(), found.validation.planes()
        return LabeledImages(torch.cat([train, more]), torch.cat([labels, more_labels]), *found.test.planes(), classes=10)
    train_x, train_y = _from_hub(HUB_IMAGES[name], "train")
    test_x, test_y = _from_hub(HUB_IMAGES[name], HUB_IMAGES[name].test)
    return LabeledImages(train_x, train_y, test_x, test_y, classes=int(train_y.max()) + 1)


def _from_hub(images: HubImages, split: str) -> tuple[Float[Tensor, "image channel row column"], Int[Tensor, " image"]]:
    """One split of a set of the Hub."""
    rows = [(np.asarray(row[images.column]), row["label"]) for row in images.rows(split)]
    array = np.stack([pixels for pixels, _ in rows])
    pixels = torch.from_numpy(array.reshape(*array.shape[:3], -1)).movedim(-1, 1)  # grey pictures have no channels
    return pixels.float() / 255, torch.tensor([label for _, label in rows])
