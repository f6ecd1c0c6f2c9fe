"""Fields that many records have, and the values that they can have."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from hf_untangle.evaluation.next_token import NextTokenMetrics


def _possible(metrics: NextTokenMetrics) -> NextTokenMetrics:
    """Refuse metrics that no model can have."""
    shares = (metrics.top1, metrics.top10)
    if metrics.tokens < 1 or not all(0 <= share <= 1 for share in shares) or math.isnan(metrics.loss) or metrics.loss < 0:
        raise ValueError(f"must be metrics that a model can have, got {metrics}")
    return metrics


Metrics = Annotated[NextTokenMetrics, AfterValidator(_possible)]
"""Metrics on some tokens."""
Count = Annotated[int, Field(ge=0)]
"""A number of things."""
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A duration."""


def says_what_was_read(corpus: dict[str, Any]) -> bool:
    """Tell whether a record of a corpus has what reports and cards say of it.

    Args:
        corpus: What was read.

    Returns:
        Whether it names the corpus, where it comes from, how much of it was read, and its fingerprint.
    """
    texts = ("corpus", "origin", "source", "part", "fingerprint")
    tokens, terms = corpus.get("tokens"), corpus.get("license", 0)
    named = all(isinstance(corpus.get(field), str) for field in texts) and (terms is None or isinstance(terms, str))
    return named and isinstance(tokens, int) and tokens >= 0
