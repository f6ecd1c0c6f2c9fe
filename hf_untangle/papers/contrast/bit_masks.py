"""Which bits go, and what is read in their place."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.errors import ConfigError
from hf_untangle.statistics.moments import Moments

Order = Callable[[Float[Tensor, " bit"], torch.Generator], Int[Tensor, " bit"]]
"""Sorts bits by their entropy: those that go first come first."""

ORDERS: dict[str, Order] = {
    "bottom": lambda entropy, _: entropy.argsort(stable=True),
    "top": lambda entropy, _: entropy.argsort(stable=True).flip(0),
    "random": lambda entropy, generator: torch.randperm(len(entropy), generator=generator),
}
"""The masks of arXiv:2305.12238 beside none: bits of the lowest entropy go, of the highest, or any."""

ABLATIONS: dict[str, Callable[[Moments], Float[Tensor, " bit"]]] = {
    "mean": lambda train: train.total / train.count,
    "half": lambda train: torch.full_like(train.total, 0.5),
    "zero": lambda train: torch.zeros_like(train.total),
}
"""What is read instead of a masked bit, from its moments on the training items. The paper's choice is a half."""


def bits_to_mask(share: float, bits: int) -> int:
    """Round a share of bits down to a number of bits.

    Args:
        share: From 0 to 1.
        bits: How many bits there are.

    Returns:
        At least 1.

    Raises:
        ConfigError: The share is out of its range, or rounds to no bit at all.
    """
    count = int(share * bits + 1e-9)  # The epsilon keeps 0.29 of 100 at 29.
    if not 0 < share <= 1 or not count:
        raise ConfigError(
            f"A share must be between 0 and 1 and mask at least one bit, but {share:g} of {bits} bits is {count}. "
            f"The smallest share here is {1 / bits:.3g}."
        )
    return count


def keep_after(order: str, entropy: Float[Tensor, " bit"], count: int, seed: int) -> Bool[Tensor, " bit"]:
    """Mask the first bits of an order.

    Args:
        order: A key of `ORDERS`.
        entropy: Of every bit.
        count: How many bits go.
        seed: For the random order.

    Returns:
        True for the bits that stay.
    """
    kept = torch.ones(len(entropy), dtype=torch.bool)
    kept[ORDERS[order](entropy, torch.Generator().manual_seed(seed))[:count]] = False
    return kept
