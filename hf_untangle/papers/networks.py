"""Classifiers of images whose only free dimension is their width."""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

POOLED = 2
"""Rows and columns that are left before the last layer, so that images of any size fit."""

Shape = tuple[int, int, int]
"""Channels, rows and columns of an image."""


def mlp(width: int, shape: Shape, classes: int, *, hidden: int = 2) -> nn.Module:
    """Hidden layers of `width` neurons.

    Args:
        width: Neurons in a hidden layer.
        shape: Of an image.
        classes: How many there are.
        hidden: How many hidden layers.

    Returns:
        An untrained network.
    """
    widths = (math.prod(shape), *[width] * hidden)
    layers = [part for size in pairwise(widths) for part in (nn.Linear(*size), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, classes))


def convolutional(width: int, shape: Shape, classes: int) -> nn.Module:
    """Two convolutions, of `width` and twice as many channels, each with a pooling after it, and a linear layer.

    Args:
        width: Channels of the first convolution.
        shape: Of an image.
        classes: How many there are.

    Returns:
        An untrained network.
    """
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        *_head(2 * width, classes),
    )


def residual(width: int, shape: Shape, classes: int) -> nn.Module:
    """A convolution that halves the image, two residual blocks of `width` channels with BatchNorm, and a linear layer.

    Args:
        width: Channels of every convolution.
        shape: Of an image.
        classes: How many there are.

    Returns:
        An untrained network.
    """
    first = nn.Conv2d(shape[0], width, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(
        first, nn.BatchNorm2d(width), nn.ReLU(), ResidualBlock(width), ResidualBlock(width), *_head(width, classes)
    )


class ResidualBlock(nn.Module):
    """x + f(x) and a ReLU after it, f being two convolutions with BatchNorm and a ReLU between them."""

    def __init__(self, width: int) -> None:
        """Make an untrained block.

        Args:
            width: Channels, in and out.
        """
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on images of any size."""
        return (x + self.branch(x)).relu()


def _head(channels: int, classes: int) -> list[nn.Module]:
    """From a picture of any size to one number per class."""
    return [nn.AdaptiveAvgPool2d(POOLED), nn.Flatten(), nn.Linear(channels * POOLED**2, classes)]


NETWORKS: dict[str, Callable[[int, Shape, int], nn.Module]] = {
    "mlp": mlp,
    "convolutional": convolutional,
    "residual": residual,
}
"""Every architecture by name."""
