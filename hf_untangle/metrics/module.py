"""Metrics as modules of the `evaluate` library: one adapter for all of them."""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

from inspect import getdoc
from typing import Any

import evaluate
from datasets import Features, List, Value

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError
from hf_untangle.metrics.registry import METRICS, Column

FEATURES: dict[Column, Any] = {
    "number": Value("float64"),
    "token": Value("int64"),
    "text": Value("string"),
    "numbers": List(Value("float64")),
    "tokens": List(Value("int64")),
    "lists of numbers": List(List(Value("float64"))),
}
"""What each column is to the data sets that `evaluate` gathers rows in."""


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
        features = Features({name: FEATURES[column] for name, column in self._of.columns.items()})
        return evaluate.MetricInfo(description=description, citation="", inputs_description=f"Args:{inputs}", features=features)

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
