"""Metrics of this package by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_untangle.errors import ConfigError

if TYPE_CHECKING:
    from evaluate import EvaluationModule

FOLDER = Path(__file__).parent / "metrics"
"""Where the metrics are: `evaluate.load(FOLDER / name)` loads one, without network."""
METRICS = tuple(sorted(file.stem for file in FOLDER.glob("*/*.py") if file.stem == file.parent.name))
"""Their names."""


def metric(name: str, **options: Any) -> "EvaluationModule":
    """Load a metric, as `evaluate.load` does with the name of one on the Hub, but without network.

    Args:
        name: One of `METRICS`, such as `extraction_strength`.
        **options: As in `evaluate.load`; of several processes each passes `num_process`, its own `process_id`, and the same
            `experiment_id`.

    Returns:
        The metric, with `add_batch` and `compute`.

    Raises:
        ConfigError: There is no such metric.
    """
    if name not in METRICS:
        raise ConfigError(f"A metric must be one of {', '.join(METRICS)}, got `{name}`.")
    from evaluate import load

    return load(str(FOLDER / name), **options)
