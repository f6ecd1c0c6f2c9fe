"""Bits of neurons whose activations have no natural zero: above their running mean, or above a threshold of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import finished, results, run_over
from hf_untangle.statistics.moments import MomentAccumulator

Thresholds = Mapping[str, Float[Tensor, " neuron"]]
"""One value per neuron, by the name of its group."""

CHUNK = 256
"""Tokens whose quantiles are taken together."""


@checked_arguments
def collect_bits(
    model: PreTrainedModel | ModelName,
    blocks: TokenBlocks,
    *,
    thresholds: Thresholds | None = None,
    groups: Sequence[NeuronGroup] | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> ActivationStatistics:
    """Sum up what every neuron does relative to a threshold t: the moments are those of z - t, so `positive` counts z > t.

    Everything that reads the bit z > 0 from statistics, such as its entropy, then reads the bit z > t. One pass, with the hooks
    and sums of `collect`.

    Args:
        model: The model, which is left as it was. A name or path is loaded.
        blocks: The tokens.
        thresholds: t of every neuron, such as its mean or a quantile on a reference corpus. The running mean when None: that of
            all tokens up to and including those of the batch at hand, so that the first batches count with a rough one.
        groups: Which neuron groups to watch; all of them when None.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        Statistics of z - t, whose record says so under `bit`.

    Raises:
        StatisticsError: A group belongs to experts, has no threshold, or saw no token, or an activation was infinite or NaN.
    """
    model = opened(model)
    groups = _dense(neuron_groups(model) if groups is None else groups)
    if thresholds is not None:
        _check_thresholds(groups, thresholds)
    sums: dict[str, MomentAccumulator] = {}
    means: dict[str, _RunningMean] = {}

    def add(group: NeuronGroup, z: Tensor, _: slice) -> None:
        z = z.float()
        if thresholds is None:
            threshold = means.setdefault(group.name, _RunningMean()).update(z)
        else:
            threshold = thresholds[group.name].to(z)
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, z.device)
        sums[group.name].update(z - threshold)

    run_over(model, blocks, groups, add, batch_size=batch_size, progress=progress)
    bit = "above the running mean" if thresholds is None else "above a threshold of each neuron"
    return replace(finished(model, blocks, groups, results(sums, blocks.tokens)), corpora=(blocks.record() | {"bit": bit},))


@checked_arguments
def quantile_thresholds(
    model: PreTrainedModel,
    blocks: TokenBlocks,
    share: float,
    *,
    groups: Sequence[NeuronGroup] | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> dict[str, Float[Tensor, " neuron"]]:
    """Estimate the value that each neuron stays below at a share of the tokens of a reference corpus.

    The estimate is the mean of the quantiles of 256 tokens each, weighted by tokens. On the corpus that it is taken from it
    makes every bit equally likely, and says nothing; it is meant for bits on another one, and for how far they drift.

    Args:
        model: The model, which is left as it was.
        blocks: The tokens of the reference corpus.
        share: The quantile, such as 0.5 for the median.
        groups: Which neuron groups to watch; all of them when None.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        One value per neuron, on the CPU, in float64.

    Raises:
        ConfigError: The share is not between 0 and 1.
        StatisticsError: A group belongs to experts.
    """
    if not 0 < share < 1:
        raise ConfigError(f"A quantile must lie between 0 and 1, got {share}. 0.5 is the median.")
    groups = _dense(neuron_groups(model) if groups is None else groups)
    sums: dict[str, _RunningMean] = {}

    def add(group: NeuronGroup, z: Tensor, _: slice) -> None:
        for some in z.float().split(CHUNK):
            quantile = some.quantile(share, dim=0, keepdim=True)
            sums.setdefault(group.name, _RunningMean()).update(quantile, weight=len(some))

    run_over(model, blocks, groups, add, batch_size=batch_size, progress=progress)
    return {name: mean.value.double().cpu() for name, mean in sums.items()}


class _RunningMean:
    """The mean of all rows so far."""

    def __init__(self) -> None:
        """Start from nothing."""
        self._total: Tensor | float = 0.0
        self._count = 0

    def update(self, rows: Float[Tensor, "token neuron"], weight: int = 1) -> Float[Tensor, " neuron"]:
        """Add rows, each of which counts `weight` times, and give the mean with them."""
        self._total = self._total + weight * rows.sum(0, dtype=torch.float64)
        self._count += weight * len(rows)
        return self.value.to(rows)

    @property
    def value(self) -> Float[Tensor, " neuron"]:
        """The mean so far."""
        return torch.as_tensor(self._total) / self._count


def _dense(groups: Sequence[NeuronGroup]) -> Sequence[NeuronGroup]:
    """Refuse neurons of experts: they are 0 at tokens that never reach them, and whether 0 is above t is not theirs to say."""
    for group in groups:
        if group.experts is not None:
            raise StatisticsError(
                f"Bits above a threshold need neurons that see every token, but those of `{group.name}` belong to experts. "
                "Leave them out with `groups=`, or take bits above zero."
            )
    return groups


def _check_thresholds(groups: Sequence[NeuronGroup], thresholds: Thresholds) -> None:
    """Refuse groups without a threshold for each of their neurons."""
    for group in groups:
        given = len(thresholds[group.name]) if group.name in thresholds else 0
        if given != group.size:
            raise StatisticsError(
                f"Every neuron needs a threshold, but `{group.name}` has {group.size} neurons and {given} thresholds. "
                "Take them from statistics of the same model."
            )
