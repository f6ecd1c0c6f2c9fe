"""What a sweep takes away: a number of things in named tensors or groups, and a way to be without some of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True)
class Removal:
    """What is gone at one share."""

    removed: dict[str, int]
    """How many single weights, or how many neurons, by the name of the tensor or group."""
    parameters: int
    """How many parameters that is."""


@dataclass(frozen=True)
class Units:
    """All things that may go."""

    sizes: dict[str, int]
    """How many there are, by the name of the tensor or group."""
    parameters: int
    """How many parameters they have together."""
    skipped: dict[str, str]
    """What was asked for and stays whole, with the reason."""
    without: Callable[[float], AbstractContextManager[Removal]]
    """Be without a share of them inside a `with` block, after which the model is exactly as before."""


def share_of(count: int, share: float) -> int:
    """The whole number of things in a share, rounded down.

    Args:
        count: How many there are.
        share: From 0 to 1.

    Returns:
        How many go.
    """
    # The epsilon keeps 0.29 of 100 at 29, where the product falls just short of it.
    return int(share * count + 1e-9)
