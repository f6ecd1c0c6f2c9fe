"""Entropy of the bit z > 0 of a neuron, from streaming counts alone.

A neuron whose bit never changes tells nothing about the token: it is always on or always off. Counts of tokens are all that
is needed, so the entropy comes with statistics that are collected anyway. That bits of low entropy hurt out of distribution
is the claim of Schoots and Cope 2023 (arXiv:2305.12238), whose formula has no correction for small samples.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.moments import Moments


def bit_entropy(on: Float[Tensor, " unit"], count: Int[Tensor, ""] | int) -> Float[Tensor, " unit"]:
    """Estimate the entropy of bits from how often they were on, in bits, from 0 to 1.

    H(p) = -p log2 p - (1 - p) log2 (1 - p) with p = on / count is too low on average, by 1 / (2 count ln 2) bits for a bit
    that was seen in both states: that is added (Miller and Madow 1955). A bit that never changed has entropy 0, and no estimate
    is above 1.

    Args:
        on: Number of tokens at which each bit was on.
        count: Number of tokens that were seen.

    Returns:
        The entropy of each bit.

    Raises:
        StatisticsError: No token was seen.
    """
    if int(count) == 0:
        raise StatisticsError(
            "The entropy of a bit needs tokens at which it was seen, but there were none. Collect statistics on more text."
        )
    p = (on / count).double()
    plain = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)
    changed = (on > 0) & (on < count)
    return (plain + changed / (2 * math.log(2) * count)).clamp(0, 1)


@checked_arguments
def entropy(moments: Moments) -> Float[Tensor, " neuron"]:
    """Entropy of the bit z > 0 of every neuron, in bits.

    Args:
        moments: Sums over tokens.

    Returns:
        From 0, always on or always off, to 1, on at half of the tokens.
    """
    return bit_entropy(moments.positive, moments.count)


@checked_arguments
def always_on(moments: Moments) -> Bool[Tensor, " neuron"]:
    """Tell which neurons were above zero at every token: constant bits whose neuron may still say something.

    Args:
        moments: Sums over tokens.

    Returns:
        True for a neuron that is always on.
    """
    return moments.positive == moments.count


@checked_arguments
def always_off(moments: Moments) -> Bool[Tensor, " neuron"]:
    """Tell which neurons were at or below zero at every token; after a ReLU they are dead on this corpus.

    Args:
        moments: Sums over tokens.

    Returns:
        True for a neuron that is always off.
    """
    return moments.positive == 0
