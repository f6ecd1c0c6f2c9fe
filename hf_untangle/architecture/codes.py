"""Numbers spelled out in digits, small enough that every digit survives a pass through a model in low precision."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BASE = 16
"""Digits are below this number, small enough to survive the rounding of bfloat16."""
DIGITS = 5
"""Enough for projections of 16 ** 5, a million, rows."""
READABLE = 0.2
"""A digit that arrives further than this from a whole number is no digit."""


def digits_of(numbers: Int[Tensor, " n"]) -> Int[Tensor, "digit n"]:
    """Spell numbers out in base BASE, lowest digit first.

    Args:
        numbers: Non-negative numbers below BASE ** DIGITS.

    Returns:
        Digits from 0 to BASE - 1.
    """
    return torch.stack([numbers // BASE**digit % BASE for digit in range(DIGITS)])


def number_of(digits: Float[Tensor, "digit n"]) -> Int[Tensor, " n"] | None:
    """Put numbers together from digits as they arrived.

    Args:
        digits: Approximate digits.

    Returns:
        The numbers; None when what arrived are no digits.
    """
    if not bool(((digits - digits.round()).abs() < READABLE).all() and (digits > -READABLE).all() and (digits < BASE).all()):
        return None
    return (digits.round().long() * BASE ** torch.arange(DIGITS)[:, None]).sum(0)
