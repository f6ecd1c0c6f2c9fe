"""ROUGE: how much of the words of a reference a completion has, by the `rouge_score` package.

ROUGE-1 counts single words, ROUGE-L the longest sequence of words that both have in this order (Lin 2004). Recall is the
share of the reference that is found. Unlearned knowledge in other words escapes it: never trust it alone.
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
    references: What each should be.
    use_stemmer: Whether words are cut to their stems before they are compared.

Returns:
    `rouge1`, `rougeL` (F-measures) and `rougeL_recall`, from 0 to 1.
"""


class Rouge(evaluate.Metric):
    """Mean ROUGE over completions."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Overlap of words with a reference, by rouge_score.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str], use_stemmer: bool = False) -> dict[str, float]:
        """Average over completions."""
        try:
            # Not at the top, where `evaluate` would refuse to load the module with a message of its own.
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise ImportError("ROUGE needs the package rouge_score. Install it with `pip install rouge-score`.") from error
        scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=use_stemmer)
        scores = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
        return {
            "rouge1": fmean(score["rouge1"].fmeasure for score in scores),
            "rougeL": fmean(score["rougeL"].fmeasure for score in scores),
            "rougeL_recall": fmean(score["rougeL"].recall for score in scores),
        }
