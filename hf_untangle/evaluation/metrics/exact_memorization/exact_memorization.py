"""Exact memorization: the share of an answer's tokens that a model would write itself, each given the true ones before it.

    EM(answer) = (1/T) sum_t [argmax p(. | prompt, answer before t) = answer t]

(Tirumala et al. 2022, arXiv:2205.10770.) The result is the mean over answers.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

INPUTS = """
Args:
    predictions: For every answer, the most likely token at each of its positions, given the prompt and the true tokens before.
    references: For every answer, its tokens.

Returns:
    `exact_memorization`, from 0 to 1.
"""


class ExactMemorization(evaluate.Metric):
    """Mean share of answer tokens that are the most likely ones."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        ids = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description="Share of answer tokens that are the argmax under teacher forcing.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, *, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        """Average over answers."""
        return {"exact_memorization": fmean(map(_share_right, predictions, references))}


def _share_right(predicted: Sequence[int], answer: Sequence[int]) -> float:
    """The share of one answer that is predicted."""
    if not answer or len(predicted) != len(answer):
        raise ValueError(
            "An answer must have at least one token, and one prediction for each, "
            f"got {len(predicted)} predictions for {len(answer)} tokens."
        )
    return fmean(one == other for one, other in zip(predicted, answer, strict=True))
