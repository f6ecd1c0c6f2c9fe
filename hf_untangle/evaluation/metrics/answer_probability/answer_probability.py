"""Answer probability: how probable an answer is to a model, with its length taken out.

    P(answer) = exp((1/T) sum_t log p(answer t | prompt, answer before t))

(Maini et al. 2024, arXiv:2401.06121.) The result is the mean over answers. Fed with paraphrased answers it is the paraphrase
probability, which tells knowledge from wording.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

import math
from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

INPUTS = """
Args:
    predictions: For every answer, the log-probabilities (in nats) of its tokens.

Returns:
    `answer_probability`, from 0 to 1.
"""


class AnswerProbability(evaluate.Metric):
    """Mean over answers of exp(-mean cross-entropy of a token)."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="exp of the mean log-probability of an answer's tokens, averaged over answers.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.List(datasets.Value("float32"))}),
        )

    def _compute(self, *, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """Average over answers."""
        if not all(predictions):
            raise ValueError("Every answer must have at least one token, but one has none. Leave it out.")
        return {"answer_probability": fmean(math.exp(fmean(answer)) for answer in predictions)}
