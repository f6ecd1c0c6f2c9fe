"""Images to make problems of: scikit-learn's digits, which need no network, and the sets of the paper, on the Hub."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hf_untangle.errors import CorpusError
from hf_untangle.papers.contrast.encoders import ItemSets
from hf_untangle.papers.image_sets import HUB_IMAGES, labeled_images

Images = UInt8[Tensor, "image channel y x"]
SIDE = 32
"""Pixels on a side of every image from the Hub."""


def digit_items() -> ItemSets:
    """Read the digits of scikit-learn, 8 x 8 pixels in grey, with three shifts of the test digits.

    The shifts are the negative, the negative turned by a quarter, and the digits with their pixels in one fixed random order.

    Returns:
        1,297 digits to train on and four sets of 500 to test on.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    found = labeled_images("digits")
    test = _bytes(found.test_x)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    sets = {
        "digits": test,
        "inverted": 255 - test,
        "rotated negative": (255 - test).rot90(1, (2, 3)),
        "shuffled pixels": test.flatten(1)[:, order].view_as(test),
    }
    return ItemSets(_bytes(found.train_x), sets, {"image_size": 8, "channels": 1}, "scikit-learn digits")


def cifar10_items(limit: int = 10_000) -> ItemSets:
    """Read CIFAR-10 from the Hub, with MNIST, colorectal histology and PlantVillage as shifts, all at 32 x 32 in color.

    Args:
        limit: Images of a test set at most.

    Returns:
        The training images of CIFAR-10 and four sets to test on.

    Raises:
        CorpusError: The Hub does not answer.
    """
    cifar = HUB_IMAGES["cifar10"]
    train = _resized_images(cifar.rows("train"), cifar.column)
    sets = {name: _resized_images(images.rows(images.test, limit), images.column) for name, images in HUB_IMAGES.items()}
    return ItemSets(train, sets, {"image_size": SIDE, "channels": 3}, cifar.repository)


def _resized_images(rows: Iterator[dict[str, Any]], column: str) -> Images:
    """Resize images to 32 x 32 by bilinear interpolation, in color.

    Args:
        rows: Rows of a data set.
        column: Where the images are, as `datasets` decodes them.

    Returns:
        All images.

    Raises:
        CorpusError: There are none.
    """
    images = [_resized(row[column]) for row in rows]
    if not images:
        raise CorpusError(f"The column `{column}` must hold images, but there are no rows. Choose another split.")
    return torch.stack(images)


def _bytes(images: Float[Tensor, "image channel y x"]) -> Images:
    """Images of values from 0 to 1 as bytes."""
    return (255 * images).round().to(torch.uint8)


def _resized(image: Any) -> UInt8[Tensor, "channel y x"]:
    """One image of Pillow's as bytes."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)[0].round().to(torch.uint8)
