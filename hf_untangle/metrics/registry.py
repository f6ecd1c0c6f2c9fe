"""Metrics of single answers and texts by their names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hf_untangle.metrics.answers import (
    answer_probability,
    exact_memorization,
    extraction_strength,
    multiple_choice,
    truth_ratio,
)
from hf_untangle.metrics.membership import membership_auc
from hf_untangle.metrics.texts import python_parses, repetition, rouge
from hf_untangle.metrics.tokens import perplexity, top_k_accuracy

Column = Literal["number", "token", "text", "numbers", "tokens", "lists of numbers"]
"""What a row of a column is."""


@dataclass(frozen=True)
class MetricFunction:
    """A metric, and what a row of each of its columns is."""

    compute: Callable[..., dict[str, Any]]
    columns: dict[str, Column]


METRICS: dict[str, MetricFunction] = {
    "answer_probability": MetricFunction(answer_probability, {"predictions": "numbers"}),
    "exact_memorization": MetricFunction(exact_memorization, {"predictions": "tokens", "references": "tokens"}),
    "extraction_strength": MetricFunction(extraction_strength, {"predictions": "tokens", "references": "tokens"}),
    "membership_auc": MetricFunction(
        membership_auc, {"predictions": "numbers", "means": "numbers", "deviations": "numbers", "references": "token"}
    ),
    "multiple_choice": MetricFunction(multiple_choice, {"predictions": "numbers", "references": "token"}),
    "perplexity": MetricFunction(perplexity, {"predictions": "numbers"}),
    "python_parses": MetricFunction(python_parses, {"predictions": "text"}),
    "repetition": MetricFunction(repetition, {"predictions": "text"}),
    "rouge": MetricFunction(rouge, {"predictions": "text", "references": "text"}),
    "top_k_accuracy": MetricFunction(top_k_accuracy, {"predictions": "tokens", "references": "token"}),
    "truth_ratio": MetricFunction(truth_ratio, {"right": "numbers", "wrong": "lists of numbers"}),
}
"""Every metric by name."""
