"""Metrics of running text: how well a model predicts the next token."""

import math
from collections.abc import Sequence

import numpy as np

from hf_untangle.arguments import checked_arguments

IGNORED = -100
"""Label of what is left out, as in transformers."""


@checked_arguments
def perplexity(predictions: Sequence[Sequence[float]]) -> dict[str, int | float]:
    """Perplexity: exp of the mean cross-entropy per token.

        perplexity = exp(loss),  loss = -(1/N) sum_i log p(token i | tokens before it)

    The mean is over all tokens of all texts, not over texts, so that a long text counts for more than a short one.

    Args:
        predictions: For every text, the log-probabilities (in nats) of its tokens, each given those before it.

    Returns:
        `tokens`, `loss` in nats per token, and `perplexity`, infinite where exp(loss) overflows.

    Raises:
        ValueError: There is no token.
    """
    tokens = sum(map(len, predictions))
    if not tokens:
        raise ValueError("Perplexity needs at least one log-probability, got none. Pass texts of two tokens or more.")
    loss = -math.fsum(map(math.fsum, predictions)) / tokens
    return {"tokens": tokens, "loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}


@checked_arguments
def top_k_accuracy(
    predictions: Sequence[Sequence[int]], references: Sequence[int], k: Sequence[int] = (1, 10)
) -> dict[str, int | float]:
    """Share of tokens that are among the k that a model holds most likely.

    Args:
        predictions: For every token, the ids that the model holds most likely, best first, at least the largest `k` of them.
        references: The tokens themselves; rows of -100 are left out.
        k: How many of the ids may hold the token; several numbers give several accuracies.

    Returns:
        `tokens`, and `top1`, `top10` and so on: shares from 0 to 1.

    Raises:
        ValueError: A token has too few ids, or none counts.
    """
    fewest = min(map(len, predictions), default=0)
    if fewest < max(k):
        raise ValueError(f"Top-{max(k)} needs {max(k)} ids for every token, but one has {fewest}. Pass more, or a smaller k.")
    counted = np.asarray(references) != IGNORED
    if not counted.any():
        raise ValueError("At least one token must count, but every reference is -100. Pass the tokens themselves.")
    best = np.asarray([row[: max(k)] for row in predictions])[counted]
    hits = best == np.asarray(references)[counted, None]
    return {"tokens": int(counted.sum())} | {f"top{one}": float(hits[:, :one].any(1).mean()) for one in k}
