"""Repetition: does a model still write, or does it go in circles?

    repetition(text) = 1 - distinct n-grams / n-grams

over words (Welleck et al. 2019, arXiv:1908.04319, seq-rep-n). A model that unlearning has broken scores high here while it
seems to have forgotten everywhere else.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

INPUTS = """
Args:
    predictions: Completions.
    n: Words in an n-gram.

Returns:
    `repetition`: mean over completions, from 0, where no n-gram comes twice, to almost 1; shorter completions count as 0.
    `degenerate`: share of completions that repeat more than half of their n-grams, or have no word at all.
"""


class Repetition(evaluate.Metric):
    """Mean share of n-grams that were there before."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="Share of n-grams of a completion that repeat an earlier one.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, *, predictions: Sequence[str], n: int = 4) -> dict[str, float]:
        """Average over completions."""
        shares = [_repeated(text.split(), n) for text in predictions]
        lost = (share > 0.5 or not text.split() for share, text in zip(shares, predictions, strict=True))
        return {"repetition": fmean(shares), "degenerate": fmean(lost)}


def _repeated(words: list[str], n: int) -> float:
    """The share of n-grams of one text that were there before."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
