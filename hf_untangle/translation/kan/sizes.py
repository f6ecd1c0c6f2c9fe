"""How large a KAN is: edges that do something, and pieces into which it can cut its inputs at most."""

from math import comb, prod

import torch
from torch import nn

from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, kan_layers
from hf_untangle.translation.kan.activations import piecewise_linear_form


@torch.no_grad()
def count_edges(kan: nn.Module) -> int:
    """Count the edges whose function is not zero everywhere.

    A translated network has as many as it has weights that are not zero, and the alternating form one more
    for every hidden neuron.

    Args:
        kan: One KAN layer, or a Sequential of them.

    Returns:
        The number of edges.
    """
    return sum(_count_edges(layer) for layer in kan_layers(kan))


def region_bound(kan: nn.Module) -> int:
    """Bound the number of regions of the input space in each of which a piecewise linear KAN is affine.

    Layer l cuts the image of the inputs by n_(l-1) families of at most K parallel hyperplanes:
    R <= prod_l sum_(i <= min(n_0, n_(l-1))) C(n_(l-1), i) K^i. With K = 1 that is the bound of ReLU networks.
    It is reached by one layer whose inputs bend K times each, and loose for many layers.

    Args:
        kan: One KAN layer, or a Sequential of them.

    Returns:
        The bound.
    """
    layers = kan_layers(kan)
    dimension = layers[0].in_features
    return prod(
        sum(comb(n, i) * _bends(layer) ** i for i in range(min(dimension, n) + 1))
        for layer, n in ((layer, layer.in_features) for layer in layers)
    )


def _count_edges(layer: KANLayer) -> int:
    """The edges of one layer that are not zero."""
    if isinstance(layer, ActivationKANLayer):
        return int(layer.weight.count_nonzero())
    used = layer.values.any(-1) | layer.left_slopes.bool() | layer.right_slopes.bool()
    return int(used.count_nonzero())


def _bends(layer: KANLayer) -> int:
    """How often the edges of one input node can bend, at most."""
    if isinstance(layer, ActivationKANLayer):
        return int(piecewise_linear_form(layer.activation).slopes.diff().count_nonzero())
    owners, _, knots = layer.knots.shape
    return owners * knots
