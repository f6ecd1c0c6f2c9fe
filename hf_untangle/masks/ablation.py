"""What a removed neuron reads from then on: zero, its mean, or its most frequent value."""

from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.statistics.moments import Moments

Ablation = Literal["zero", "mean", "mode"]
"""Zero ablation, mean ablation, and modal ("peak") ablation (Pochinkov et al. 2024, arXiv:2408.17322)."""

Constants = Mapping[str, Float[Tensor, " neuron"]]
"""One value per neuron, by the name of its group."""

Weights = Mapping[str, Tensor]
"""New weights of output projections, each whole and as its parameter has it, by the name of the group."""


@checked_arguments
def mean_ablation(statistics: Mapping[str, Moments]) -> dict[str, Float[Tensor, " neuron"]]:
    """The mean of every neuron over the tokens at which it was computed: a neuron that never changes is replaced by itself.

    Args:
        statistics: Sums over the tokens of that corpus.

    Returns:
        One value per neuron.
    """
    return {group: moments.total / moments.computed.clamp_min(1) for group, moments in statistics.items()}
