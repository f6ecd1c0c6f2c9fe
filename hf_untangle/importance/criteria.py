"""Criteria of importance: z is the activation of a neuron at a token, g the gradient of the loss there, means are over tokens.

All but `contribution` and `bit_entropy` are those of selective pruning (Pochinkov and Schoots 2024, arXiv:2403.01267).
`standard_deviation` is a true one, and `root_mean_square` a true root; the authors' public code has variances in both places.
"""

import zlib

import torch

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import StatisticsError
from hf_untangle.importance.entropy import entropy
from hf_untangle.importance.observations import Neurons, Observations


def frequency(seen: Observations) -> Neurons:
    """Share of tokens with z > 0."""
    return seen.activations.positive / seen.activations.count


def mean_absolute(seen: Observations) -> Neurons:
    """Mean of |z|."""
    return seen.activations.absolute / seen.activations.count


@checked_arguments
def root_mean_square(seen: Observations) -> Neurons:
    """Square root of the mean of z^2."""
    return (seen.activations.square / seen.activations.count).sqrt()


def standard_deviation(seen: Observations) -> Neurons:
    """Square root of the mean of (z - mean z)^2."""
    return seen.activations.variance.sqrt()


def mean_root(seen: Observations) -> Neurons:
    """Mean of sqrt|z|."""
    if seen.activations.root is None:
        raise StatisticsError(
            "The importance `sqrt` needs the sum of sqrt|z|, which these statistics do not have. Collect with roots=True."
        )
    return seen.activations.root / seen.activations.count


def mean(seen: Observations) -> Neurons:
    """Mean of z, with its sign. Compare two corpora by the score `distance`, as a ratio of signed means says nothing."""
    return seen.activations.total / seen.activations.count


def contribution(seen: Observations) -> Neurons:
    """Root mean square of z times the norm of the output column that reads it.

    This is the root mean square of the norm of what the neuron adds to the residual stream. It is Wanda's |weight| times
    input norm (Sun et al. 2023, arXiv:2306.11695), joined over the weights of a neuron.
    """
    return root_mean_square(seen) * seen.norms.column


def fluctuation(seen: Observations) -> Neurons:
    """Standard deviation of z times the norm of the output column that reads it.

    What is lost when the neuron is replaced by its mean, in the residual stream: the importance that belongs to mean
    ablation (FLAP, An et al. 2023, arXiv:2312.11983, without its standardization).
    """
    return standard_deviation(seen) * seen.norms.column


def bit_entropy(seen: Observations) -> Neurons:
    """Entropy of the bit z > 0, in bits (see `entropy`)."""
    return entropy(seen.activations)


def taylor(seen: Observations) -> Neurons:
    """Mean of |z g|: how much the loss of a token moves, up or down (Molchanov et al. 2016, arXiv:1611.06440)."""
    return seen.gradients.absolute / seen.gradients.count


def signed_taylor(seen: Observations) -> Neurons:
    """Mean of -z g: how much the loss rises to first order, negative where the corpus is better off without the neuron."""
    return -seen.gradients.first / seen.gradients.count


def second_order(seen: Observations) -> Neurons:
    """Mean of -z g + (z g)^2 / 2: the predicted rise of the loss (see `Saliency.loss_rise`)."""
    return seen.gradients.loss_rise()


def connection_sensitivity(seen: Observations) -> Neurons:
    """|Mean of z g|: SNIP's |weight times gradient| (arXiv:1810.02340), summed over a neuron's column first."""
    return (seen.gradients.first / seen.gradients.count).abs()


@checked_arguments
def fisher(seen: Observations) -> Neurons:
    """Mean of (z g)^2: the diagonal of the empirical Fisher information of a gate at the neuron, token by token."""
    return seen.gradients.second / seen.gradients.count


def magnitude(seen: Observations) -> Neurons:
    """Euclidean norm of all weights of a neuron: the column that reads it, the rows and the biases that compute it."""
    return (seen.norms.column.square() + seen.norms.rows.square()).sqrt()


def random(seen: Observations) -> Neurons:
    """A number between 0 and 1 for each neuron, the same for the same seed and group."""
    generator = torch.Generator().manual_seed(seen.seed + zlib.crc32(seen.group.encode()))
    return torch.rand(len(seen.activations.total), generator=generator, dtype=torch.float64)
