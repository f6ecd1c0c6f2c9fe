"""Multiple choice: how often the right choice is the one that a model holds most likely.

Fed with the log-probabilities of the letters it is accuracy by letter (MMLU, WMDP), with those of the answers themselves
accuracy by text. A model may have lost the letters and not the knowledge, so look at both, and at chance.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

INPUTS = """
Args:
    predictions: For every question, one number a choice, such as its log-probability; the highest is what the model chooses.
    references: The number of the right choice, from 0.

Returns:
    `accuracy`, from 0 to 1, where a tie for the best counts as a guess among those; and `chance`, that of a blind guess.
"""


class MultipleChoice(evaluate.Metric):
    """Share of questions whose right choice has the highest number."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="Share of questions in which the right choice is the most likely.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        """Average over questions."""
        return {
            "accuracy": fmean(map(_right, predictions, references)),
            "chance": fmean(1 / len(choices) for choices in predictions),
        }


def _right(choices: Sequence[float], right: int) -> float:
    """1 where the right choice is best, 0 where another is, and a share where several are."""
    if not 0 <= right < len(choices):
        raise ValueError(f"The right choice must be one of {len(choices)}, from 0, got {right}.")
    best = [one == max(choices) for one in choices]
    return best[right] / sum(best)
