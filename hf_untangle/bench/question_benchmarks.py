"""What the benchmarks that ask questions have in common."""

from collections.abc import Sequence
from typing import TypeVar

from hf_untangle.evaluation.metric_inputs import membership_columns
from hf_untangle.evaluation.token_scores import TokenScores
from hf_untangle.metrics.membership import membership_auc

Item = TypeVar("Item")

ORIGINAL, GOLD = "original", "gold"
"""Rows of the models that are there before anything unlearns: the one that does, and one that never saw what it forgets."""

MIN_K = 0.4
"""Share of the tokens that the membership attack looks at, as in the public evaluation of TOFU."""


def spread(asked: Sequence[Item], count: int) -> list[Item]:
    """Take some facts or questions from all over a set, so that they are of all kinds.

    Args:
        asked: The set.
        count: How many at the most.

    Returns:
        Some of the set, at equal distances.
    """
    count = min(count, len(asked))
    return [asked[number * len(asked) // count] for number in range(count)]


def told_apart(seen: Sequence[TokenScores], unseen: Sequence[TokenScores]) -> float:
    """Tell what may have been trained on from what was not, by the lowest 40% of log-probabilities (min-k).

    Args:
        seen: Scores of the former.
        unseen: Scores of the latter.

    Returns:
        The area under the ROC curve.
    """
    return membership_auc(**membership_columns(seen, unseen), k=MIN_K)["min_k_auc"]
