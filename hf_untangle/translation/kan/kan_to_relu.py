"""A piecewise linear KAN written as a ReLU network.

Every layer is taken in its hinge form: an input node with K knots, so K + 1 segments, fans out to K + 1
neurons,

    x_i  ->  relu(t_1 - x_i), relu(x_i - t_1), relu(x_i - t_2), ..., relu(x_i - t_K),

and a matrix product sums them to the output nodes. L layers of widths n_0, ..., n_L with k segments become L
hidden ReLU layers of widths k n_0, ..., k n_(L-1). With knots t_1 < ... < t_K and slopes s_0, ..., s_K, an edge is

    phi(x) = phi(t_1) - s_0 relu(t_1 - x) + s_1 relu(x - t_1) + sum_(m>=2) (s_m - s_(m-1)) relu(x - t_m).

The hinge form is a view for speed and for translation, and not a way to store a layer: behind many steep knots the
hinges grow large and cancel, and low precisions lose the sum.
"""

import copy
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, kan_layers, with_knots
from hf_untangle.translation.kan.knots import share_knots
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.linear_weights import linear_of
from hf_untangle.translation.same_function import check_same_function

POINTS = 16
"""At how many random points the network is compared with the KAN."""


class FanOut(nn.Module):
    """Sends every input node to neurons of its own: z_(m,i) = weight_mi x_i + bias_mi.

    It is the linear layer that is zero everywhere else, in 2 k n numbers instead of k n^2 + k n.
    """

    weight: Float[Tensor, "neuron input"]
    """Scale of the input, -1 or 1 when it was translated from a KAN."""
    bias: Float[Tensor, "neuron input"]
    """What is added: the knots, with the opposite sign of the scale."""

    def __init__(self, weight: Float[Tensor, "neuron input"], bias: Float[Tensor, "neuron input"]):
        """Make a fan-out of given weights.

        Args:
            weight: The scales.
            bias: What is added.
        """
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch hidden"]:
        """Compute all neurons of all input nodes.

        Args:
            x: The input nodes.

        Returns:
            The neurons before their ReLU: the first of all input nodes, then the second, and so on.
        """
        return torch.addcmul(self.bias, self.weight, x.unsqueeze(-2)).flatten(-2)

    def as_linear(self) -> nn.Linear:
        """Write out the zeros.

        Returns:
            A linear layer that computes the same.
        """
        return linear_of(torch.cat([row.diag() for row in self.weight]), self.bias.flatten())


@checked_arguments
@torch.no_grad()
def kan_to_relu(kan: nn.Module, factored: bool = True) -> nn.Sequential:
    """Translate a piecewise linear KAN to a ReLU network that computes the same function up to rounding.

    An edge of k segments costs k neurons, shared by all edges of its input node; edges with knots of their
    own share the union. A layer whose edges are scaled ReLUs or straight lines is a linear layer already, and
    goes back to what it was.

    Args:
        kan: One KAN layer, or a Sequential of them, with piecewise linear edges.
        factored: Keep two maps between ReLUs, from neurons to nodes and from nodes to neurons, which
            preserves the number of parameters: k n n' + 2 k n for a layer from n to n' nodes. Otherwise they
            are multiplied out to one, which makes an ordinary multilayer perceptron, with about k times as
            many weights that are not zero.

    Returns:
        Linear layers, ReLUs and, if factored, `FanOut` layers, with parameters of their own. A TranslationError is
        raised where the dtype is too coarse for them, so that they differ from the KAN on random points.
    """
    layers = kan_layers(kan)
    modules = list(chain.from_iterable(_translated(layer) for layer in layers))
    network = nn.Sequential(*(modules if factored else _multiplied_out(modules)))
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.randn(POINTS, layers[0].in_features, generator=generator, dtype=torch.float64)
    check_same_function(kan, network, points.to(next(kan.parameters())))
    return network


def _translated(layer: KANLayer) -> list[nn.Module]:
    """One layer as [fan-out], ReLU, linear layer."""
    if isinstance(layer, ActivationKANLayer):
        linear = copy.deepcopy(linear_of(layer.weight, layer.bias))
        if isinstance(layer.activation, nn.Identity):
            return [linear]
        if type(layer.activation) is nn.ReLU:
            return [nn.ReLU(), linear]
        layer = with_knots(layer)
    form = hinge_form(share_knots(layer))
    return [FanOut(form.scales, form.offsets), nn.ReLU(), linear_of(form.weights.flatten(1), form.constants)]


def _multiplied_out(modules: list[nn.Module]) -> list[nn.Module]:
    """The same network with every run of affine maps multiplied out to one linear layer."""
    merged: list[nn.Module] = []
    for module in modules:
        if isinstance(module, FanOut):
            module = module.as_linear()
        before = merged[-1] if merged else None
        if isinstance(module, nn.Linear) and isinstance(before, nn.Linear):
            merged[-1] = _product(module, before)
        else:
            merged.append(module)
    return merged


def _product(outer: nn.Linear, inner: nn.Linear) -> nn.Linear:
    """The linear layer that computes outer(inner(x))."""
    zero = outer.weight.new_zeros(outer.in_features)
    return linear_of(outer.weight @ inner.weight, outer(zero if inner.bias is None else inner.bias))


@dataclass(frozen=True)
class HingeForm:
    """A KAN layer as sums of hinges relu(scale x_i + offset), one a segment for every input node.

    Hinges are ordered by segment first and by input node second, in which order they are computed fastest.
    """

    scales: Float[Tensor, "segment input"]
    """-1 for the hinges that bend to the left at t_1, and 1 for all others."""
    offsets: Float[Tensor, "segment input"]
    """Where they bend: t_1, -t_1, -t_2, ..., -t_K."""
    weights: Float[Tensor, "output segment input"]
    """What multiplies them: -s_0, s_1, s_2 - s_1, ..., s_K - s_(K-1)."""
    constants: Float[Tensor, " output"]
    """The bias of the layer and the values of all edges at their first knots, summed."""

    def __call__(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Evaluate the layer with one matrix product.

        Args:
            x: The input nodes.

        Returns:
            The output nodes.
        """
        hinges = torch.addcmul(self.offsets, self.scales, x.unsqueeze(-2)).relu_()
        return F.linear(hinges.flatten(-2), self.weights.flatten(1), self.constants)


def hinge_form(layer: PiecewiseLinearKANLayer) -> HingeForm:
    """Write a layer as sums of hinges.

    Args:
        layer: A layer with shared knots.

    Returns:
        Its hinge form, computed from the layer as it is now, and differentiable with respect to it.

    Raises:
        TranslationError: If the knots of the layer are not shared.
    """
    if not layer.knots_are_shared:
        raise TranslationError(
            "The hinge form needs knots that all edges of an input node share, but here every edge has its "
            "own. Pass share_knots(layer)."
        )
    slopes = layer.slopes.transpose(1, 2)
    weights = torch.cat([-slopes[:, :1], slopes[:, 1:2], slopes[:, 1:].diff(dim=1)], 1)
    knots = layer.knots[0].T
    offsets = torch.cat([knots[:1], -knots])
    scales = torch.cat([-torch.ones_like(knots[:1]), torch.ones_like(knots)])
    constants = layer.values[..., 0].sum(1)
    return HingeForm(scales, offsets, weights, constants if layer.bias is None else constants + layer.bias)
