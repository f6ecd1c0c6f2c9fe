"""How far a metric may fall before a network counts as broken.

"Until accuracy has dropped by 5%" can be read in two ways, and a language model wants a third, so each is a kind here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hf_untangle.errors import ConfigError

ROUNDING = 1e-9
"""A value that misses its limit by no more than this has not missed it: 0.9 - 0.05 is not exactly 0.85 in binary."""


@dataclass(frozen=True)
class Tolerance:
    """One way to say how much may be lost."""

    metric: Literal["accuracy", "loss"]
    """What is measured: an accuracy, where more is better, or a mean loss, where less is."""
    allowed: float
    """How much may be lost when nobody says otherwise."""
    limit: Callable[[float, float], float]
    """From the value of the whole network and the allowed amount to the worst value that still counts as whole."""
    rule: str
    """The rule in words, with a place for the amount."""

    def holds(self, value: float, limit: float) -> bool:
        """Tell whether a value is still inside the limit. NaN never is.

        Args:
            value: The metric of a pruned network.
            limit: The worst value that counts.

        Returns:
            True when the network counts as whole.
        """
        return value >= limit - ROUNDING if self.metric == "accuracy" else value <= limit + ROUNDING


TOLERANCES: dict[str, Tolerance] = {
    "points": Tolerance("accuracy", 0.05, lambda base, lost: base - lost, "accuracy may fall by {:g}, absolute"),
    "relative": Tolerance("accuracy", 0.05, lambda base, lost: base * (1 - lost), "accuracy may fall by {:g} of itself"),
    "loss": Tolerance("loss", 1.05, lambda base, factor: base * factor, "loss may grow {:g} times"),
    "perplexity": Tolerance("loss", 1.05, lambda base, factor: base + math.log(factor), "perplexity may grow {:g} times"),
}
"""Every kind by name. The last one takes a loss too, in nats: a factor on exp(loss) is a sum on the loss."""


def resolution(metric: str, examples: int | None) -> float | None:
    """The smallest step in which an accuracy can move: one example.

    Args:
        metric: What is measured.
        examples: How many examples it is measured on; None when nobody knows.

    Returns:
        1 / examples, or None where it is unknown, or the metric a loss, which has no such step.
    """
    return 1 / examples if examples and metric == "accuracy" else None


def check_resolution(base: float, limit: float, step: float | None) -> None:
    """Refuse an evaluation set on which a single example would decide.

    Args:
        base: The metric of the whole network.
        limit: The worst value that counts.
        step: The resolution.

    Raises:
        ConfigError: What may be lost is less than one example.
    """
    if step is not None and base - limit < step - ROUNDING:
        raise ConfigError(
            f"An evaluation set must tell apart what may be lost, but this has {round(1 / step)} examples, so that accuracy "
            f"moves in steps of {100 * step:.2g} points, and only {100 * (base - limit):.2g} may be lost. Evaluate on more "
            "examples or allow more."
        )
