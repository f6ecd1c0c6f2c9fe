"""Importance: one number a neuron, from its moments on one corpus.

The first six are those of selective pruning (Pochinkov and Schoots 2024, arXiv:2403.01267), with z the activation of a
neuron at a token and means over tokens. `std` is a true standard deviation and `rms` a true root mean square; the authors'
public code has variances in both places.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.moments import Moments


def frequency(moments: Moments) -> Float[Tensor, " neuron"]:
    """Share of tokens with z > 0."""
    return moments.positive / moments.count


def mean_absolute(moments: Moments) -> Float[Tensor, " neuron"]:
    """Mean of |z|."""
    return moments.absolute / moments.count


def root_mean_square(moments: Moments) -> Float[Tensor, " neuron"]:
    """Square root of the mean of z^2."""
    return (moments.square / moments.count).sqrt()


def standard_deviation(moments: Moments) -> Float[Tensor, " neuron"]:
    """Square root of the mean of (z - mean z)^2, which is the mean of z^2 less the square of the mean."""
    variance = moments.square / moments.count - (moments.total / moments.count) ** 2
    return variance.clamp_min(0).sqrt()


def mean_root(moments: Moments) -> Float[Tensor, " neuron"]:
    """Mean of sqrt|z|."""
    if moments.root is None:
        raise StatisticsError(
            "The importance `sqrt` needs the sum of sqrt|z|, which these statistics do not have. Collect with roots=True."
        )
    return moments.root / moments.count


def mean(moments: Moments) -> Float[Tensor, " neuron"]:
    """Mean of z, with its sign. Compare two corpora by the score `distance`, as a ratio of signed means says nothing."""
    return moments.total / moments.count


Importance = Callable[[Moments], Float[Tensor, " neuron"]]

IMPORTANCE: dict[str, Importance] = {
    "abs": mean_absolute,
    "rms": root_mean_square,
    "std": standard_deviation,
    "freq": frequency,
    "sqrt": mean_root,
    "mean": mean,
}
