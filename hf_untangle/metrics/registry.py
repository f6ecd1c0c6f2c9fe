"""Metrics as modules of the `evaluate` library: one adapter for all of them."""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import Any

import evaluate
from datasets import Features, List, Value

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError
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

NUMBER, TOKEN, TEXT = Value("float64"), Value("int64"), Value("string")
NUMBERS, TOKENS = List(NUMBER), List(TOKEN)


@dataclass(frozen=True)
class MetricFunction:
    """A metric, and what a row of each of its columns is."""

    compute: Callable[..., dict[str, Any]]
    columns: dict[str, Any]


METRICS: dict[str, MetricFunction] = {
    "answer_probability": MetricFunction(answer_probability, {"predictions": NUMBERS}),
    "exact_memorization": MetricFunction(exact_memorization, {"predictions": TOKENS, "references": TOKENS}),
    "extraction_strength": MetricFunction(extraction_strength, {"predictions": TOKENS, "references": TOKENS}),
    "membership_auc": MetricFunction(
        membership_auc, {"predictions": NUMBERS, "means": NUMBERS, "deviations": NUMBERS, "references": TOKEN}
    ),
    "multiple_choice": MetricFunction(multiple_choice, {"predictions": NUMBERS, "references": TOKEN}),
    "perplexity": MetricFunction(perplexity, {"predictions": NUMBERS}),
    "python_parses": MetricFunction(python_parses, {"predictions": TEXT}),
    "repetition": MetricFunction(repetition, {"predictions": TEXT}),
    "rouge": MetricFunction(rouge, {"predictions": TEXT, "references": TEXT}),
    "top_k_accuracy": MetricFunction(top_k_accuracy, {"predictions": TOKENS, "references": TOKEN}),
    "truth_ratio": MetricFunction(truth_ratio, {"right": NUMBERS, "wrong": List(NUMBERS)}),
}
"""Every metric by name."""


class FunctionMetric(evaluate.Metric):
    """A metric of the `evaluate` library that calls a function."""

    def __init__(self, name: str, **options: Any) -> None:
        """Make the module.

        Args:
            name: A key of `METRICS`.
            **options: As in `evaluate.load`.
        """
        self._of = METRICS[name]
        super().__init__(config_name=name, **options)

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        text = getdoc(self._of.compute) or ""
        description, _, inputs = text.partition("Args:")
        return evaluate.MetricInfo(
            description=description, citation="", inputs_description=f"Args:{inputs}", features=Features(self._of.columns)
        )

    def _compute(self, **columns: Any) -> dict[str, Any]:
        """Call the function with plain lists."""
        return self._of.compute(
            **{name: _plain(value) if name in self._of.columns else value for name, value in columns.items()}
        )


def _plain(column: Any) -> list[Any]:
    """A column as a list."""
    return list(column)


@checked_arguments
def metric(name: str, **options: Any) -> evaluate.Metric:
    """Make a metric of the `evaluate` library, without network.

    Args:
        name: A key of `METRICS`, such as `extraction_strength`.
        **options: As in `evaluate.load`; of several processes each passes `num_process`, its own `process_id`, and the same
            `experiment_id`.

    Returns:
        The metric, with `add_batch` and `compute`.

    Raises:
        ConfigError: There is no such metric.
    """
    if name not in METRICS:
        raise ConfigError(f"A metric must be one of {', '.join(METRICS)}, got `{name}`.")
    return FunctionMetric(name, **options)
