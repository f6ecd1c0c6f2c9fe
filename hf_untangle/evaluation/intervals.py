"""How far a mean over blocks may be off: standard errors of ratios of sums, and quantiles of Student's t.

Both models read the same tokens, so that what a block adds to either is paired, and the noise that they share cancels. What is
drawn are blocks, not tokens, as tokens of one block depend on each other. Miller 2024 (arXiv:2411.00640) recommends both for
evaluations of language models.
"""

import math
from statistics import NormalDist

from jaxtyping import Float
from torch import Tensor


def ratio_error(over: Float[Tensor, " block"], under: Float[Tensor, " block"]) -> float:
    """Standard error of sum(over) / sum(under), by the delta method (Cochran 1977, Sampling Techniques, section 2.11).

    With r the ratio and n blocks it is sqrt(n / (n - 1) * sum((over - r * under)^2)) / sum(under). A mean over tokens is such a
    ratio, as is the accuracy of one model relative to that of another.

    Args:
        over: What every block adds to the numerator.
        under: What it adds to the denominator.

    Returns:
        The standard error; NaN of fewer than two blocks, or where the ratio is not finite.
    """
    blocks, whole = len(over), float(under.sum())
    if blocks < 2 or not whole:
        return math.nan
    off = over - over.sum() / whole * under
    return math.sqrt(blocks / (blocks - 1) * float((off**2).sum())) / whole


def t_quantile(confidence: float, degrees: int) -> float:
    """Quantile of Student's t distribution.

    In closed form for 1, 2 and 4 degrees of freedom, and otherwise by the expansion in 26.7.5 of Abramowitz and Stegun (1964),
    which is right to 0.5% for three degrees at 97.5%, and to 0.1% from five on.

    Args:
        confidence: Probability of a smaller value, between 0 and 1.
        degrees: Degrees of freedom, at least 1: one less than there are blocks.

    Returns:
        The quantile.
    """
    if degrees == 1:
        return math.tan(math.pi * (confidence - 0.5))
    both = 4 * confidence * (1 - confidence)
    if degrees == 2:
        return 2 * (confidence - 0.5) * math.sqrt(2 / both)
    if degrees == 4:
        root = math.sqrt(both)
        return math.copysign(2 * math.sqrt(max(0.0, math.cos(math.acos(root) / 3) / root - 1)), confidence - 0.5)
    x = NormalDist().inv_cdf(confidence)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / degrees**power for power, term in enumerate(terms, 1))
