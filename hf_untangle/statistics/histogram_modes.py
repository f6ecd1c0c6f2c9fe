"""The most frequent value of every neuron, from a histogram around its mean."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.statistics.collect import run_over
from hf_untangle.statistics.moments import Moments, pieces

BINS = 65
"""Bins of a histogram. Their number is odd, so that the mean lies in the middle of one."""
REACH = 3.0
"""How far a histogram reaches on both sides of the mean, in standard deviations. What is outside cannot be the mode."""


@checked_arguments
def collect_modes(
    model: PreTrainedModel | ModelName,
    blocks: Blocks,
    moments: Mapping[str, Moments],
    *,
    groups: Sequence[NeuronGroup],
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> dict[str, Float[Tensor, " neuron"]]:
    """Find the most frequent value of every neuron on a corpus, in a second pass over it.

    Values are counted in 65 bins from the mean less three standard deviations to the mean plus three; the mode is the mean of
    the values in the fullest bin (the lowest of equals). Memory is that of the histograms, whatever the corpus.

    Args:
        model: The model, which is left as it was. A name or path is loaded.
        blocks: The tokens.
        moments: What `collect` summed up on the same corpus.
        groups: Which neuron groups to watch.
        batch_size: Blocks in one forward pass; "auto" is one, as histograms cannot take a batch back that failed.
        progress: Whether to show a progress bar.

    Returns:
        The mode of every neuron of each group, on the CPU, in float64.
    """
    model = opened(model)
    histograms: dict[str, _Histogram] = {}

    def add(group: NeuronGroup, z: Tensor, neurons: slice) -> None:
        if group.name not in histograms:
            histograms[group.name] = _Histogram(moments[group.name], z.device)
        for some in pieces(z):
            histograms[group.name].update(some.float(), neurons)

    run_over(model, blocks, groups, add, batch_size=1 if batch_size == "auto" else batch_size, progress=progress)
    return {group.name: histograms[group.name].modes() for group in groups}


class _Histogram:
    """Counts and sums of the values of each neuron, bin by bin."""

    def __init__(self, moments: Moments, device: torch.device) -> None:
        """Lay the bins out around the mean."""
        count = moments.computed.clamp_min(1)
        mean = moments.total / count
        deviation = (moments.squared_deviations / count).sqrt()
        # A neuron that never changes still has bins of some width, wider than the rounding of its values.
        width = torch.maximum(2 * REACH / BINS * deviation, 1e-5 * mean.abs()).clamp_min(1e-30)
        self._width = width.float().to(device)
        self._low = (mean - BINS / 2 * width).float().to(device)
        self._counts = torch.zeros(BINS, len(mean), device=device)
        self._sums = torch.zeros(BINS, len(mean), device=device)

    def update(self, z: Float[Tensor, "token neuron"], neurons: slice) -> None:
        """Count the values of some neurons that are in reach."""
        position = (z - self._low[neurons]) / self._width[neurons]
        inside = (position >= 0) & (position < BINS)
        bins = position.clamp(0, BINS - 1).long()
        self._counts[:, neurons].scatter_add_(0, bins, inside.float())
        self._sums[:, neurons].scatter_add_(0, bins, torch.where(inside, z, 0))

    def modes(self) -> Float[Tensor, " neuron"]:
        """The mean of the values in the fullest bin."""
        fullest = self._counts.argmax(0, keepdim=True)
        sums, counts = self._sums.gather(0, fullest)[0], self._counts.gather(0, fullest)[0]
        # A neuron that was never computed has no mode, and reads zero.
        return (sums / counts.clamp_min(1)).double().cpu()
