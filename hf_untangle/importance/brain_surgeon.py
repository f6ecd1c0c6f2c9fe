"""Importance with second-order terms: what is lost of a neuron once those that stay have been refitted to make up for it.

Optimal Brain Surgeon (Hassibi and Stork 1993) for whole neurons of one output projection, as OSSCAR (arXiv:2403.12983) and
ZipLM (arXiv:2302.04089) have it, with a larger ridge: theirs, 0.01, fits few tokens too well.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.importance.observations import Neurons, Observations
from hf_untangle.statistics.gram import Gram

RIDGE = 0.3
"""Penalty of the refit, relative to the mean square of the neurons of the group."""
ROUNDS = 32
"""Neurons go in so many rounds, the rest of the group being refitted after each."""


@checked_arguments
def brain_surgeon(seen: Observations) -> Neurons:
    """Rise of the squared error of what the projection writes when the neuron goes and the others are refitted.

    It is a mean over the tokens that reach the group, so that experts with few tokens matter less.

    With H the mean over tokens of z z^T, plus a ridge r, and W the weights that read the neurons, the rise is
    ||w_j||^2 / [H^-1]_jj - r ||v_j||^2, where w_j is column j of W as it is refitted so far, and v_j as the model has it: the
    second term is what the penalty costs alone. The neurons of the lowest rise go in rounds; after each, W and H^-1 are those
    of the neurons that are left. A neuron that goes later is never worth less.

    Args:
        seen: Second moments of the neurons, and the weights that read them.

    Returns:
        One number per neuron, in the order in which they would go; zero for those of experts that saw no token.
    """
    gram, reads = seen.second_moments
    share = (gram.count / gram.count.sum().clamp_min(1)).tolist()
    return torch.cat([share[expert] * _order(gram, expert, weights) for expert, weights in enumerate(reads)])


def _order(gram: Gram, expert: int, reads: Float[Tensor, "output neuron"]) -> Neurons:
    """The importance of the neurons of one expert."""
    second = gram.mean_second(expert)
    scale = second.diagonal().mean()
    if not scale > 0:
        return torch.zeros(len(second), dtype=torch.float64)
    ridge = RIDGE * scale
    second.diagonal().add_(ridge)
    weights = reads.detach().to(second)
    left = _Left(
        neurons=torch.arange(len(second), device=second.device),
        weights=weights,
        inverse=torch.cholesky_inverse(torch.linalg.cholesky(second)),
        penalty=ridge * weights.square().sum(0),
    )
    worth = torch.zeros(len(second), dtype=torch.float64, device=second.device)
    least = worth.new_zeros(())
    for size in _sizes(len(second)):
        rises, places = left.rises().topk(size, largest=False)
        ordered = rises.clamp_min(least).cummax(0).values
        worth[left.neurons[places]] = ordered
        least = ordered[-1]
        left = left.without(places)
    return worth.cpu()


def _sizes(neurons: int) -> list[int]:
    """How many neurons go in each round."""
    rounds = min(ROUNDS, neurons)
    return [neurons * (number + 1) // rounds - neurons * number // rounds for number in range(rounds)]


@dataclass(frozen=True, eq=False)
class _Left:
    """The neurons that are left, in increasing order, and the refit by which they make up for the others."""

    neurons: Int[Tensor, " left"]
    weights: Float[Tensor, "output left"]
    inverse: Float[Tensor, "left left"]
    """Of their second moments, with the ridge."""
    penalty: Float[Tensor, " left"]
    """What the ridge costs of each neuron alone."""

    def rises(self) -> Float[Tensor, " left"]:
        """What the error rises by when one of them goes."""
        return self.weights.square().sum(0) / self.inverse.diagonal() - self.penalty

    def without(self, places: Int[Tensor, " gone"]) -> "_Left":
        """Take some away, and refit the others."""
        stays = torch.ones(len(self.neurons), dtype=torch.bool, device=places.device)
        stays[places] = False
        across = self.inverse[places][:, stays]
        share = torch.cholesky_solve(across, torch.linalg.cholesky(self.inverse[places][:, places]))
        return _Left(
            neurons=self.neurons[stays],
            weights=self.weights[:, stays] - self.weights[:, places] @ share,
            inverse=self.inverse[stays][:, stays] - across.T @ share,
            penalty=self.penalty[stays],
        )
