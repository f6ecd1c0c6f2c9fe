"""Model utility: what a model still knows, as one number."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, harmonic_mean

from hf_untangle.arguments import checked_arguments


@checked_arguments
def model_utility(predictions: Mapping[str, int | float] | Sequence[int | float]) -> dict[str, float]:
    """Harmonic mean of what a model can do on everything that is to stay (Maini et al. 2024, arXiv:2401.06121).

    TOFU takes nine numbers: on the retain questions the probability of the answer, ROUGE-L recall, and `true_by_ratio` of
    `truth_ratio`; on real authors and on world facts `normalized_probability` instead of the first. The smallest of them
    decides: a model that has lost one thing altogether has no utility.

    Args:
        predictions: Numbers from 0 to 1, maybe by name.

    Returns:
        `model_utility`, from 0 to 1.

    Raises:
        ValueError: There are none, or one is below 0 or NaN.
    """
    values = list(predictions.values() if isinstance(predictions, Mapping) else predictions)
    if not values or not all(value >= 0 for value in values):
        raise ValueError(f"Model utility is a mean of at least one number from 0 to 1, got {values}.")
    return {"model_utility": float(harmonic_mean(values))}


@checked_arguments
def normalized_probability(right: Sequence[Sequence[float]], wrong: Sequence[Sequence[Sequence[float]]]) -> dict[str, float]:
    """Probability of the right answer among all answers that are offered (Maini et al. 2024, arXiv:2401.06121).

        P(answer) = exp(mean log-probability of its tokens)
        P(right) / (P(right) + sum P(wrong)),  mean over questions

    Args:
        right: For every question, the log-probabilities (in nats) of the tokens of the right answer.
        wrong: For every question, the same for each of its wrong answers.

    Returns:
        `normalized_probability`, from 0 to 1; a model that cannot tell them apart has 1 / (1 + number of wrong answers).

    Raises:
        ValueError: A question has no right or no wrong answer of at least one token.
    """
    if not all(right) or not all(answers and all(answers) for answers in wrong):
        raise ValueError("Every question needs a right answer and a wrong one of at least one token, but one lacks them.")
    return {"normalized_probability": fmean(map(_share, map(fmean, right), wrong))}


def _share(right: float, wrong: Sequence[Sequence[float]]) -> float:
    """The share of one right answer: relative to it, so that tiny probabilities do not vanish."""
    return 1 / (1 + math.fsum(math.exp(min(700.0, fmean(answer) - right)) for answer in wrong))
