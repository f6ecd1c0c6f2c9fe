"""The entropy of all neurons of a model, group by group."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import ConfigError
from hf_untangle.importance.entropy import always_off, always_on, entropy
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.thresholded import collect_bits

COLLECTORS: dict[str, Callable[..., ActivationStatistics]] = {"zero": collect, "running mean": collect_bits}
"""How statistics are collected whose `positive` counts a neuron's bit, by the threshold above which the bit is on."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class GroupEntropy:
    """The entropy of the neurons of one group, in bits."""

    group: str
    neurons: int
    low: float
    """5% of the neurons are below it."""
    median: float
    high: float
    """5% of the neurons are above it."""
    always_on: int
    """Neurons whose bit was on at every token."""
    always_off: int
    """Neurons whose bit was off at every token."""

    def record(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def collect_entropy(
    model: PreTrainedModel, blocks: TokenBlocks, threshold: str = "zero", *, progress: bool = True
) -> ActivationStatistics:
    """Collect statistics from which the entropy of every neuron follows, in one pass.

    Args:
        model: The model, which is left as it was.
        blocks: The tokens.
        threshold: A key of `COLLECTORS`.
        progress: Whether to show a progress bar.

    Returns:
        The statistics.

    Raises:
        ConfigError: There is no such threshold.
    """
    if threshold not in COLLECTORS:
        raise ConfigError(f"The threshold must be one of {', '.join(COLLECTORS)}, got `{threshold}`.")
    return COLLECTORS[threshold](model, blocks, progress=progress)


def overview(statistics: Mapping[str, Moments]) -> list[GroupEntropy]:
    """Sum the entropies of every group up.

    Args:
        statistics: Sums over tokens.

    Returns:
        One row per group, in the order in which they run.
    """
    return [_row(group, moments) for group, moments in statistics.items()]


def entropy_quantiles(statistics: Mapping[str, Moments]) -> Float[Tensor, " quantile"]:
    """The entropies below which 5%, 25%, 50%, 75% and 95% of all neurons are.

    Args:
        statistics: Sums over tokens.

    Returns:
        Five numbers, in bits.
    """
    every = torch.cat([entropy(moments) for moments in statistics.values()])
    # torch refuses quantiles of more than 2^24 numbers, so they are read off the sorted ones.
    ranks = (torch.tensor(QUANTILES) * (len(every) - 1)).round().long()
    return every.sort().values[ranks]


def drift(here: Mapping[str, Moments], there: Mapping[str, Moments]) -> float:
    """How far the shares of tokens at which neurons are on lie apart on two corpora: the mean over neurons of |p - q|.

    Args:
        here: Sums over the tokens of one corpus.
        there: Sums of the same neurons on another.

    Returns:
        From 0 to 1.
    """
    apart = [moments.positive / moments.count - there[name].positive / there[name].count for name, moments in here.items()]
    return float(torch.cat(apart).abs().mean())


def entropy_scalars(moments: Mapping[str, Moments], prefix: str) -> dict[str, float]:
    """Sum entropies up in a few numbers, for a log.

    Args:
        moments: By group, not empty.
        prefix: Of the names.

    Returns:
        The quartiles of all neurons' entropies, the median of every group's, and how many neurons are always on and always off.
    """
    lower, middle, upper = entropy_quantiles(moments)[1:4].tolist()
    values = {"lower_quartile": lower, "median": middle, "upper_quartile": upper}
    values["always_on"] = float(sum(int(always_on(one).sum()) for one in moments.values()))
    values["always_off"] = float(sum(int(always_off(one).sum()) for one in moments.values()))
    values |= {f"median.{group}": float(entropy_quantiles({group: one})[2]) for group, one in moments.items()}
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _row(group: str, moments: Moments) -> GroupEntropy:
    """One group."""
    found = entropy_quantiles({group: moments})
    on, off = int(always_on(moments).sum()), int(always_off(moments).sum())
    return GroupEntropy(group, len(moments.total), float(found[0]), float(found[2]), float(found[4]), on, off)
