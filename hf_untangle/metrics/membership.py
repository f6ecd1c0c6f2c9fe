"""Membership inference: can the texts that a model has seen be told from texts of the same kind that it has not?"""

from collections.abc import Callable, Sequence

import numpy as np

from hf_untangle.arguments import checked_arguments

SMALLEST_VARIANCE = 1e-6
"""Variances are clamped to this, as a model that is sure of the next token has none."""


@checked_arguments
def membership_auc(
    predictions: Sequence[Sequence[float]],
    means: Sequence[Sequence[float]],
    deviations: Sequence[Sequence[float]],
    references: Sequence[int],
    k: float | int = 0.2,
) -> dict[str, float]:
    """Area under the ROC curve of telling texts seen from texts held out, by three attacks.

    Every text gets a number that is high where the model seems to know it. The area is the chance that a member's number is
    above that of a text held out, where ties count half; 0.5 is no better than guessing.

        loss         mean log-probability of a token
        min-k        mean of the k% lowest log-probabilities (Shi et al. 2023, arXiv:2310.16789)
        min-k++      the same with z = (log p - mu) / sigma instead of log p, where mu and sigma are mean and standard
                     deviation of log p(v | tokens before) over v drawn from the model itself (Zhang et al. 2024,
                     arXiv:2404.02936)

    Args:
        predictions: For every text, the log-probabilities (in nats) of its tokens.
        means: For every text, at each token, the mean log-probability under the model's own distribution.
        deviations: For every text, at each token, its standard deviation.
        references: 1 for a text that the model may have seen, 0 for one held out.
        k: Share of the tokens that min-k and min-k++ look at, above 0 and at most 1; at least one token is taken.

    Returns:
        `loss_auc`, `min_k_auc` and `min_k_plus_plus_auc`, from 0 to 1.

    Raises:
        ValueError: All texts are of one kind, one has no token, or k is no share.
    """
    members = _members(references)
    texts = [np.asarray(text, dtype=np.float64) for text in predictions]
    standard = [_standardized(*text) for text in zip(texts, means, deviations, strict=True)]
    return {
        "loss_auc": area(_each(np.mean, texts), members),
        "min_k_auc": area(_each(lambda text: _mean_of_lowest(text, k), texts), members),
        "min_k_plus_plus_auc": area(_each(lambda text: _mean_of_lowest(text, k), standard), members),
    }


@checked_arguments
def privacy_leakage(predictions: int | float, references: int | float) -> dict[str, float]:
    """How far a membership AUC is from that of a model that never saw the texts (MUSE, Shi et al. 2024, arXiv:2407.06460).

        100 ((1 - AUC) - (1 - AUC gold)) / (1 - AUC gold)

    where members of what was forgotten are told from texts held out, with AUC 1 where the model knows all members.

    Args:
        predictions: AUC of the model that has unlearned, such as `min_k_auc`.
        references: That of the gold model.

    Returns:
        `privacy_leakage`: 0 as good as gold, below where the texts are still known, above where the model avoids them.

    Raises:
        ValueError: The gold model tells all members apart, so that it has seen them.
    """
    if references >= 1:
        raise ValueError(f"A gold model cannot know what it never saw, but its AUC is {references}. Pass another one.")
    return {"privacy_leakage": 100 * (references - predictions) / (1 - references)}


def area(numbers: np.ndarray, members: np.ndarray) -> float:
    """Compute the area under the ROC curve.

    Args:
        numbers: One per text, higher for members.
        members: Which texts are members; some must be, and some not.

    Returns:
        The share of pairs of a member and another text in which the member has the higher number; ties count half.
    """
    inside, outside = numbers[members], np.sort(numbers[~members])
    below, at_most = (np.searchsorted(outside, inside, side=side) for side in ("left", "right"))
    return float((below + at_most).mean() / (2 * len(outside)))


def _members(references: Sequence[int]) -> np.ndarray:
    """Which texts are members."""
    members = np.asarray(references) == 1
    if members.all() or not members.any():
        raise ValueError("Membership needs texts of both kinds, but all references are the same. Pass held-out texts too.")
    return members


def _each(attack: Callable[[np.ndarray], np.floating], texts: Sequence[np.ndarray]) -> np.ndarray:
    """The number of every text."""
    if not all(len(text) for text in texts):
        raise ValueError("Every text must have at least one token that is predicted, but one has none. Leave it out.")
    return np.asarray([attack(text) for text in texts])


def _mean_of_lowest(numbers: np.ndarray, k: float | int) -> np.floating:
    """The mean of the lowest share of some numbers."""
    if not 0 < k <= 1:
        raise ValueError(f"k is a share of the tokens, above 0 and at most 1, got {k}.")
    count = max(1, int(k * len(numbers)))
    return np.partition(numbers, count - 1)[:count].mean()


def _standardized(text: np.ndarray, means: Sequence[float], deviations: Sequence[float]) -> np.ndarray:
    """Log-probabilities, as deviations from what the model expects at their position."""
    return (text - np.asarray(means)) / np.sqrt(np.maximum(np.square(deviations), SMALLEST_VARIANCE))
