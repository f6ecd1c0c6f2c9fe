"""Importance by how the loss depends on a neuron: z is its activation at a token, g the gradient of the loss there.

z g is what the loss loses, to first order, as the neuron fades; the sum of z g over tokens is also the sum of weight times
gradient over the column that reads the neuron, so that these are scores of the neuron's weights as much as of its activation.
"""

from hf_untangle.importance.observations import Neurons, Observations


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


def fisher(seen: Observations) -> Neurons:
    """Mean of (z g)^2: the diagonal of the empirical Fisher information of a gate at the neuron, token by token."""
    return seen.gradients.second / seen.gradients.count
