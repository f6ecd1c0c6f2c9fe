"""Forget quality: can answers be told from those of a model that never learnt them? By the Kolmogorov-Smirnov test."""

import math
from collections.abc import Sequence

import numpy as np

from hf_untangle.arguments import checked_arguments

Sample = Sequence[int | float] | np.ndarray
"""Numbers of one model, one per question."""
EXACT = 10_000
"""Most numbers in a sample for which the p-value is exact."""


@checked_arguments
def forget_quality(predictions: Sample, references: Sample) -> dict[str, float]:
    """Compare two models by their truth ratios, question by question (Maini et al. 2024, arXiv:2401.06121).

        D = max_x |F(x) - G(x)|,  F and G the empirical distributions of the truth ratios R of both models
        forget quality = P(D' >= D),  D' the same of two samples of one distribution: the two-sample Kolmogorov-Smirnov p-value

    The p-value is that of the two-sided test, exact without ties for samples of up to 10,000, and from the limiting
    distribution beyond. Above 0.05 the two models are usually said not to differ. It depends on the number of questions:
    compare it between models on the same questions only.

    Args:
        predictions: R of every question for the model that has unlearned, such as `ratios` of `truth_ratio`.
        references: The same for the gold model, which never learnt the answers.

    Returns:
        `forget_quality`: the p-value, from 0 to 1; and `ks_distance`: D.

    Raises:
        ValueError: A sample is empty, or holds NaN.
    """
    ours, gold = (np.sort(np.asarray(sample, dtype=np.float64)) for sample in (predictions, references))
    if not ours.size or not gold.size or np.isnan(ours).any() or np.isnan(gold).any():
        raise ValueError(
            f"Forget quality needs truth ratios of both models, got {ours.size} and {gold.size}, or some that are NaN. Leave "
            "out questions that have none."
        )
    everything = np.concatenate([ours, gold])
    below, at_gold = (np.searchsorted(sample, everything, side="right") for sample in (ours, gold))
    # Whole numbers, so that a distance that is reached exactly counts as reached.
    distance = int(np.abs(below * gold.size - at_gold * ours.size).max())
    share = distance / (ours.size * gold.size)
    exact = max(ours.size, gold.size) <= EXACT
    value = _exact(ours.size, gold.size, distance) if exact else _limit(ours.size, gold.size, share)
    return {"forget_quality": value, "ks_distance": share}


def _exact(first: int, second: int, distance: int) -> float:
    """P(D >= distance / (first * second)) by counting paths (Hodges 1958, doi:10.1007/BF02589501).

    Two samples of one distribution, sorted together, are a random path from (0, 0) to (first, second), and D is how far it
    comes from the diagonal. The share of paths to (i, j) that have been too far is a mean of those to (i - 1, j) and
    (i, j - 1): all terms are positive, so that also a tiny p-value has all its digits.
    """
    if not distance:
        return 1.0
    steps = np.arange(first + 1, dtype=np.float64)
    far = np.zeros(first + 1)
    for length in range(1, first + second + 1):
        left = np.concatenate([[0.0], far[:-1]])
        far = (steps * left + (length - steps) * far) / length
        far[np.abs(steps * second - (length - steps) * first) >= distance] = 1.0
    return float(min(1.0, far[first]))


def _limit(first: int, second: int, distance: float) -> float:
    """The same for large samples: 2 sum_k (-1)^(k-1) exp(-2 k^2 z^2), z = D sqrt(first second / (first + second))."""
    squared = distance**2 * first * second / (first + second)
    if squared < 0.04:  # Below this the p-value is 1 to all digits, and the series converges slowly.
        return 1.0
    return min(1.0, max(0.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * k * k * squared) for k in range(1, 101))))
