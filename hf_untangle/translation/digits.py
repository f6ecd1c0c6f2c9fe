"""A small ReLU network on real data, to try a translation on: handwritten digits, seen as two numbers each.

The two numbers are the coordinates along the two largest principal components of the 1,797 images of scikit-learn, scaled
to standard deviation 1. In two dimensions a network's linear regions can all be listed, and drawn.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_untangle.errors import MissingExtraError

CLASSES, STEPS, LEARNING_RATE = 10, 600, 0.02


@dataclass(frozen=True, eq=False)
class DigitsNetwork:
    """A classifier of digits, and the digits that it was not trained on."""

    network: nn.Sequential
    """Linear layers and ReLUs, in float64, from two inputs to ten classes."""
    x: Float[Tensor, "digit 2"]
    """The digits of the test part."""
    labels: Int[Tensor, " digit"]
    """Which digit each of them is."""

    @property
    def accuracy(self) -> float:
        """The share of test digits that the network tells right."""
        return (self.network(self.x).argmax(1) == self.labels).double().mean().item()


def digits_network(hidden: tuple[int, ...] = (8, 8), seed: int = 0) -> DigitsNetwork:
    """Train a small classifier on three quarters of the digits; it takes about a second.

    Args:
        hidden: The number of neurons of each hidden layer.
        seed: Of the initial weights and of the split.

    Returns:
        The classifier and the other quarter.

    Raises:
        MissingExtraError: scikit-learn, which carries the digits, is not installed.
    """
    x, labels = _digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.randperm(len(x))
        layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in pairwise((2, *hidden, CLASSES))]
    network = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    train, test = order[: 3 * len(x) // 4], order[3 * len(x) // 4 :]
    _fit_(network, x[train], labels[train])
    return DigitsNetwork(network.eval().requires_grad_(False), x[test], labels[test])


def _digits() -> tuple[Float[Tensor, "digit 2"], Int[Tensor, " digit"]]:
    """All digits along their two largest principal components, and what they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("The digits need scikit-learn. Install it with: pip install 'hf-untangle[vision]'") from error
    images, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    images = images - images.mean(0)
    directions = torch.linalg.svd(images, full_matrices=False).Vh[:2]
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()  # a singular vector has no sign of its own
    x = images @ (directions * signs).T
    return x / x.std(0), labels


@torch.enable_grad()
def _fit_(network: nn.Sequential, x: Tensor, labels: Tensor) -> None:
    """Train on all of the data at once, which needs no order of batches."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
