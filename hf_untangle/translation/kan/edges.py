"""How strong the edges of a KAN are, which of them can go, and how they explain an output.

An output node only sums its edges, y_j = sum_i phi_ji(x_i) + bias_j, so three questions have simple exact
answers:

    how much does an edge contribute?       E|phi_ji(x_i)|, or the root of E phi_ji(x_i)^2
    which edges can be cut?                 those that contribute least
    why is y_j what it is at this token?    phi_ji(x_i) - E phi_ji(x_i) is the Shapley value of node i

For the scaled activations of a feed-forward block, E|phi_ji| = |w_ji| E|a_i|: activation times weight. Its
root mean square form is the score by which Wanda (arXiv 2306.11695) prunes weights.
"""

from dataclasses import dataclass
from math import comb, prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, kan_layers
from hf_untangle.translation.kan.edge_statistics import EdgeStatistics, unweighted_edges
from hf_untangle.translation.kan.elementwise import piecewise_linear_form


@checked_calls
@dataclass(frozen=True)
class StrongEdge:
    """One edge and its strength."""

    output: int
    """The output node j."""
    input: int
    """The input node i."""
    strength: float
    """E|phi_ji|, or the root of E phi_ji^2."""


@checked_arguments
@torch.no_grad()
def edge_strengths(
    layer: KANLayer, statistics: EdgeStatistics, norm: Literal["l1", "l2"] = "l1"
) -> Float[Tensor, "output input"]:
    """Compute how much every edge contributes: activation times weight.

    Args:
        layer: The layer.
        statistics: What its edges do on data.
        norm: "l1" for E|phi|, "l2" for the root of E phi^2.

    Returns:
        The strength of every edge.

    Raises:
        ConfigError: If the norm is unknown.
        StatisticsError: If the statistics are of a layer of another size.
    """
    if norm not in ("l1", "l2"):
        raise ConfigError(f"The norm of an edge is l1 or l2, got {norm!r}.")
    if fault := _fault_of_size(layer, statistics):
        raise StatisticsError(fault)
    activity = statistics.mean_abs if norm == "l1" else statistics.mean_square.sqrt()
    return activity * layer.weight.double().abs() if isinstance(layer, ActivationKANLayer) else activity


@checked_arguments
def strongest_edges(
    layer: KANLayer, statistics: EdgeStatistics, count: int, norm: Literal["l1", "l2"] = "l1"
) -> list[StrongEdge]:
    """List the edges that contribute most.

    Args:
        layer: The layer.
        statistics: What its edges do on data.
        count: How many to list.
        norm: "l1" for E|phi|, "l2" for the root of E phi^2.

    Returns:
        The edges, strongest first; all of them if there are fewer.
    """
    strengths = edge_strengths(layer, statistics, norm)
    top = strengths.flatten().topk(min(count, strengths.numel()))
    return [
        StrongEdge(index // layer.in_features, index % layer.in_features, strength)
        for index, strength in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


@checked_arguments
@torch.no_grad()
def prune_edges_(layer: KANLayer, statistics: EdgeStatistics, fraction: float, norm: Literal["l1", "l2"] = "l2") -> KANLayer:
    """Cut the weakest edges of every output node, in place.

    Args:
        layer: The layer.
        statistics: What its edges do on data.
        fraction: The share of edges to cut at every output node, from 0 to 1, rounded down to whole edges.
        norm: "l1" or "l2"; "l2" is Wanda's choice.

    Returns:
        The same layer, with zero functions on the cut edges.

    Raises:
        ConfigError: If the fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(f"The fraction of edges to cut must be between 0 and 1, got {fraction}.")
    strengths = edge_strengths(layer, statistics, norm)
    weakest = strengths.argsort(1)[:, : int(fraction * layer.in_features)]
    cut = torch.zeros_like(strengths, dtype=torch.bool).scatter(1, weakest, True)
    if isinstance(layer, ActivationKANLayer):
        layer.weight[cut] = 0
    else:
        for part in (layer.values, layer.left_slopes, layer.right_slopes):
            part[cut] = 0
    return layer


@checked_arguments
@torch.no_grad()
def shap_values(
    layer: KANLayer,
    x: Float[Tensor, "*batch input"],
    statistics: EdgeStatistics,
    direction: Float[Tensor, " output"],
) -> Float[Tensor, "*batch input"]:
    """Explain an output by its input nodes with their exact Shapley values.

    The explained number is direction . y. It is a sum of functions of one node each, so the Shapley value of
    node i is what its function gives less what it gives on average, whatever the other nodes do and however
    they depend on each other. The values sum to direction . y less its average.

    Args:
        layer: The layer, for example the projection of a feed-forward block, whose input nodes are neurons
            before their activation.
        x: The input nodes at the tokens to explain.
        statistics: What the edges do on the background data.
        direction: Weights of the output nodes; a one-hot vector explains one of them.

    Returns:
        The Shapley value of every input node.

    Raises:
        StatisticsError: If the statistics are of a layer of another size.
    """
    if fault := _fault_of_size(layer, statistics):
        raise StatisticsError(fault)
    centered = unweighted_edges(layer, x) - statistics.mean.to(x)
    if isinstance(layer, ActivationKANLayer):
        return centered.squeeze(-2) * (direction @ layer.weight)
    return torch.einsum("...oi,o->...i", centered, direction)


def _fault_of_size(layer: KANLayer, statistics: EdgeStatistics) -> str | None:
    """Say that statistics are of another layer, if their size tells."""
    expected = (1 if isinstance(layer, ActivationKANLayer) else layer.out_features, layer.in_features)
    found = tuple(statistics.mean.shape)
    return None if found == expected else f"Statistics of shape {found} do not belong to {layer}."


@checked_arguments
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


@checked_arguments
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
