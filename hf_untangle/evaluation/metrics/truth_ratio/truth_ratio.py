"""Truth ratio: how likely wrong answers are beside a right one in other words.

    P(answer) = exp(mean log-probability of its tokens)
    R = P(wrong) / P(right),  P(wrong) the geometric mean over the wrong answers

(Maini et al. 2024, arXiv:2401.06121, with the geometric mean that its public code takes.) R is far below 1 while a model knows
what is right, and near 1 when it has forgotten.
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
    right: For every question, the log-probabilities (in nats) of the tokens of a right answer, paraphrased.
    wrong: For every question, the same for each of its wrong answers.

Returns:
    `truth_ratio`: the mean over questions of min(R, 1/R), 1 where the model cannot tell right from wrong.
    `true_by_ratio`: the mean of max(0, 1 - R), near 1 where it knows what is right.
    `ratios`: R of every question, for a test against a model that never saw the answers.
"""


class TruthRatio(evaluate.Metric):
    """P(wrong) / P(right), question by question."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        answer = datasets.List(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="Likelihood of wrong answers over that of a right one.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"right": answer, "wrong": datasets.List(answer)}),
        )

    def _compute(
        self, *, right: Sequence[Sequence[float]], wrong: Sequence[Sequence[Sequence[float]]]
    ) -> dict[str, float | list[float]]:
        """Summarize the ratios of all questions."""
        if not all(right) or not all(answers and all(answers) for answers in wrong):
            raise ValueError("Every question needs a right answer and a wrong one of at least one token, but one lacks them.")
        logs = [fmean(map(fmean, answers)) - fmean(one) for one, answers in zip(right, wrong, strict=True)]
        return {
            "truth_ratio": fmean(math.exp(-abs(log)) for log in logs),
            "true_by_ratio": fmean(max(0.0, -math.expm1(min(log, 0.0))) for log in logs),
            "ratios": [math.exp(log) for log in logs],
        }
