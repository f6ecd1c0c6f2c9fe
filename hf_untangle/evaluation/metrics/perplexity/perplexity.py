"""Perplexity: how many tokens, on average, a model hesitates between.

    perplexity = exp(loss),  loss = -(1/N) sum_i log p(token i | tokens before it)

The mean is over all tokens of all texts, not over texts, so that a long text counts for more than a short one.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

import math
from collections.abc import Sequence

import datasets
import evaluate

INPUTS = """
Args:
    predictions: For every text, the log-probabilities (in nats) of its tokens, each given those before it.

Returns:
    `tokens`, `loss` in nats a token, and `perplexity`, infinite where exp(loss) overflows.
"""


class Perplexity(evaluate.Metric):
    """exp of the mean negative log-probability of a token."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="exp of the mean cross-entropy of a token.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.List(datasets.Value("float32"))}),
        )

    def _compute(self, *, predictions: Sequence[Sequence[float]]) -> dict[str, int | float]:
        """Average over all tokens."""
        tokens = sum(map(len, predictions))
        if not tokens:
            raise ValueError("Perplexity needs at least one log-probability, got none. Pass texts of two tokens or more.")
        loss = -math.fsum(map(math.fsum, predictions)) / tokens
        return {"tokens": tokens, "loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
