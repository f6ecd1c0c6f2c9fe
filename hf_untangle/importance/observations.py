"""What an importance may look at: all that is known of the neurons of one group, on one corpus."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.gram import Gram
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.saliency import Saliency
from hf_untangle.statistics.weight_norms import WeightNorms

Need = Literal["activations", "roots", "gradients", "weights", "second moments"]
"""What an importance is computed from; the rest need not be collected."""

Neurons = Float[Tensor, " neuron"]


@checked_calls
@dataclass(frozen=True, eq=False)
class Observations:
    """The neurons of one group, as far as they were looked at."""

    moments: Moments | None = None
    """Sums of activations over a corpus."""
    saliency: Saliency | None = None
    """Sums of activation times gradient over a corpus."""
    weights: WeightNorms | None = None
    """Norms of what reads and computes the neurons, which no corpus changes."""
    group: str = ""
    """Name of the group, which sets its random numbers apart from those of others."""
    seed: int = 0
    """For the importance that is drawn at random."""
    gram: Gram | None = None
    """Second moments of the neurons over a corpus."""
    reads: Float[Tensor, "expert output neuron"] | None = None
    """The weights of the projection that reads them, which are needed with second moments."""
    __repr__ = fields_repr

    @property
    def activations(self) -> Moments:
        """The sums of activations, where there are any."""
        if self.moments is None:
            raise StatisticsError(_missing("activations", "pass the statistics of `collect`"))
        return self.moments

    @property
    def gradients(self) -> Saliency:
        """The sums of activation times gradient, where there are any."""
        if self.saliency is None:
            raise StatisticsError(_missing("gradients", "pass the sums of `collect_saliency`"))
        return self.saliency

    @property
    def norms(self) -> WeightNorms:
        """The norms of the weights, where there are any."""
        if self.weights is None:
            raise StatisticsError(_missing("norms of weights", "pass those of `weight_norms`"))
        return self.weights

    @property
    def second_moments(self) -> tuple[Gram, Float[Tensor, "expert output neuron"]]:
        """The second moments, and the weights that read the neurons, where there are any."""
        if self.gram is None or self.reads is None:
            raise StatisticsError(
                _missing("second moments", "pass the sums of `collect_grams` and the weights of `read_matrix`")
            )
        return self.gram, self.reads


def _missing(what: str, remedy: str) -> str:
    """Say what an importance needs."""
    return (
        f"This importance needs {what}, but the neurons were observed without them: {remedy}, or choose an importance without."
    )
