"""Top-k accuracy: the share of tokens that are among the k that a model holds most likely."""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

INPUTS = """
Args:
    predictions: For every token, the ids that the model holds most likely, best first, at least the largest `k` of them.
    references: The tokens themselves; rows of -100 are left out.
    k: How many of the ids may hold the token; several numbers give several accuracies.

Returns:
    `tokens`, and `top1`, `top10` and so on: shares from 0 to 1.
"""
IGNORED = -100
"""Label of what is left out, as in transformers."""


class TopKAccuracy(evaluate.Metric):
    """Share of tokens t with t in the k most likely ids."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="Share of tokens that are among the k most likely predictions.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("int64")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, *, predictions: Sequence[Sequence[int]], references: Sequence[int], k: Sequence[int] = (1, 10)
    ) -> dict[str, int | float]:
        """Count hits among the first k ids."""
        fewest = min(map(len, predictions), default=0)
        if fewest < max(k):
            raise ValueError(
                f"Top-{max(k)} needs {max(k)} ids for every token, but one has {fewest}. Pass more, or a smaller k."
            )
        counted = np.asarray(references) != IGNORED
        if not counted.any():
            raise ValueError("At least one token must count, but every reference is -100. Pass the tokens themselves.")
        best = np.asarray([row[: max(k)] for row in predictions])[counted]
        hits = best == np.asarray(references)[counted, None]
        return {"tokens": int(counted.sum())} | {f"top{one}": float(hits[:, :one].any(1).mean()) for one in k}
