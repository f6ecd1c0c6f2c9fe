"""A small ReLU network on real data, to try a translation on: handwritten digits, seen as two numbers each.

The two numbers are coordinates along the two largest principal components of the images to learn from, scaled to standard
deviation 1. In two dimensions all linear regions of a network can be listed, and drawn.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_untangle.data.digits import digits
from hf_untangle.randomness import random_state_kept
from hf_untangle.translation.linear_weights import linear_of

CLASSES, STEPS, LEARNING_RATE = 10, 600, 0.02


@dataclass(frozen=True, eq=False)
class DigitsNetwork:
    """A classifier of digits, and the digits of the test part."""

    network: nn.Sequential
    """Linear layers and ReLUs, in float64, from two inputs to ten classes."""
    x: Float[Tensor, "digit 2"]
    """The digits as the network sees them."""
    labels: Int[Tensor, " digit"]
    """Which digit each of them is."""

    @property
    def accuracy(self) -> float:
        """The share of test digits that the network tells right."""
        return (self.network(self.x).argmax(1) == self.labels).double().mean().item()


def digits_network(hidden: tuple[int, ...] = (8, 8), seed: int = 0) -> DigitsNetwork:
    """Train a small classifier of digits; it takes about a second.

    Args:
        hidden: The number of neurons of each hidden layer.
        seed: Of the initial weights and of the split.

    Returns:
        The classifier and the test part. Without scikit-learn, which carries the digits, a `MissingExtraError` is raised.
    """
    data = digits(seed)
    images, labels = data.train.flat()
    seen = _components(images.double())
    with random_state_kept():
        torch.manual_seed(seed)
        layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in pairwise((2, *hidden, CLASSES))]
    network = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    _fit_(network, seen(images.double()), labels)
    test, test_labels = data.test.flat()
    return DigitsNetwork(network.eval().requires_grad_(False), seen(test.double()), test_labels)


def _components(images: Float[Tensor, "image pixel"]) -> nn.Linear:
    """The map onto the two largest principal components of some images, scaled to standard deviation 1."""
    center = images.mean(0)
    directions = torch.linalg.svd(images - center, full_matrices=False).Vh[:2]
    directions *= directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()  # a singular vector has no sign
    directions /= ((images - center) @ directions.T).std(0)[:, None]
    return linear_of(directions, -directions @ center).requires_grad_(False)


@torch.enable_grad()
def _fit_(network: nn.Sequential, x: Tensor, labels: Tensor) -> None:
    """Train on all of the data at once, which needs no order of batches."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
