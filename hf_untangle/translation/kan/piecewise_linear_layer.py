"""The layer of a Kolmogorov-Arnold network (KAN) whose edges are piecewise linear functions.

A linear layer has one number on every edge between an input node i and an output node j. A KAN layer has one
function there, and an output node only sums what arrives:

    linear layer    y_j = sum_i w_ji x_i       + bias_j
    KAN layer       y_j = sum_i phi_ji(x_i)    + bias_j

Here every phi_ji is continuous and piecewise linear: K knots, the value at each of them, and the slopes left
of the first and right of the last. That is an order-1 spline, except that it continues linearly outside of its
grid, where spline KANs fall to zero. Every ReLU network is such a KAN, and every such KAN is a ReLU network.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear, fault_of_knots, hat_basis


@checked_calls
class PiecewiseLinearKANLayer(nn.Module):
    """y_j = sum_i phi_ji(x_i) + bias_j with a piecewise linear function phi_ji on every edge.

    Values, end slopes and bias are trained. Knots are not, like the grid of a spline KAN: they must stay in
    order. (To train them, translate the layer to a ReLU network, where they are biases.) The dtype must tell
    neighboring knots apart, which bfloat16 does only to one part in 256.

    Knots are either shared by all edges that leave one input node, and a forward pass is then three matrix
    products; or every edge has its own, and a forward pass then holds all hats of all edges at once.
    """

    knots: Float[Tensor, "#output input knot"]
    """Where slopes may change, in increasing order; the first axis has size 1 if knots are shared."""
    values: Float[Tensor, "output input knot"]
    """phi_ji at its knots."""
    left_slopes: Float[Tensor, "output input"]
    """Slope of phi_ji below its first knot."""
    right_slopes: Float[Tensor, "output input"]
    """Slope of phi_ji above its last knot."""
    bias: Float[Tensor, " output"] | None
    """What an output node adds to the sum of its edges."""

    def __init__(
        self,
        knots: Float[Tensor, "#output input knot"],
        values: Float[Tensor, "output input knot"],
        left_slopes: Float[Tensor, "output input"],
        right_slopes: Float[Tensor, "output input"],
        bias: Float[Tensor, " output"] | None = None,
    ):
        """Make a layer of given edges, which are copied.

        Args:
            knots: The knots of every edge, or, with a first axis of size 1, of every input node.
            values: The values of every edge at its knots.
            left_slopes: The slope of every edge below its knots.
            right_slopes: The slope of every edge above its knots.
            bias: What every output node adds, if anything.

        Raises:
            TranslationError: If knots are out of order, a number is not finite, or shapes or dtypes disagree.
        """
        super().__init__()
        parts = {"knots": knots, "values": values, "left_slopes": left_slopes, "right_slopes": right_slopes}
        parts |= {} if bias is None else {"bias": bias}
        fault = _fault_of_shapes(parts) or _fault_of_numbers(parts) or fault_of_knots(knots)
        if fault:
            raise TranslationError(fault)
        self.register_buffer("knots", knots.detach().clone())
        self.values = nn.Parameter(values.detach().clone())
        self.left_slopes = nn.Parameter(left_slopes.detach().clone())
        self.right_slopes = nn.Parameter(right_slopes.detach().clone())
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))

    @property
    def in_features(self) -> int:
        """The number of input nodes."""
        return self.values.shape[1]

    @property
    def out_features(self) -> int:
        """The number of output nodes."""
        return self.values.shape[0]

    @property
    def knots_are_shared(self) -> bool:
        """Whether all edges that leave one input node have the same knots."""
        return self.knots.shape[0] == 1

    @property
    def slopes(self) -> Float[Tensor, "output input segment"]:
        """The slope of every segment of every edge: s_0, ..., s_K along the last axis."""
        inner = self.values.diff() / self.knots.diff()
        return torch.cat([self.left_slopes.unsqueeze(-1), inner, self.right_slopes.unsqueeze(-1)], -1)

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Sum the edges that arrive at every output node.

        Args:
            x: The input nodes.

        Returns:
            The output nodes.
        """
        if not self.knots_are_shared:
            y = self.edge_outputs(x).sum(-1)
            return y if self.bias is None else y + self.bias
        below, hats, above = hat_basis(x, self.knots[0])
        y = F.linear(hats.flatten(-2), self.values.flatten(1), self.bias)
        return y + F.linear(below, self.left_slopes) + F.linear(above, self.right_slopes)

    def edge_outputs(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output input"]:
        """Evaluate every edge on its own: the terms that a forward pass sums.

        Args:
            x: The input nodes.

        Returns:
            phi_ji(x_i) for every j and i, without the bias.
        """
        below, hats, above = hat_basis(x.unsqueeze(-2), self.knots)
        return below * self.left_slopes + (hats * self.values).sum(-1) + above * self.right_slopes

    def edge(self, j: int, i: int) -> PiecewiseLinear:
        """Take out one edge.

        Args:
            j: The output node.
            i: The input node.

        Returns:
            The function phi_ji, which shares memory and gradients with the layer.
        """
        knots = self.knots[0 if self.knots_are_shared else j, i]
        return PiecewiseLinear(knots, self.values[j, i], self.left_slopes[j, i], self.right_slopes[j, i])

    def extra_repr(self) -> str:
        """Describe the sizes of the layer, for `print(layer)`.

        Returns:
            The numbers of input nodes, output nodes and knots.
        """
        owner = "input node" if self.knots_are_shared else "edge"
        return f"{self.in_features}, {self.out_features}, knots={self.knots.shape[-1]} per {owner}"


@checked_arguments
def random_kan_layer(
    in_features: int,
    out_features: int,
    knots: Float[Tensor, " knot"],
    generator: torch.Generator | None = None,
) -> PiecewiseLinearKANLayer:
    """Make a layer to train from scratch: random straight lines with a little noise at every knot.

    Slopes have the variance 1 / in_features, so that outputs are about as large as inputs; the noise has a
    tenth of that standard deviation.

    Args:
        in_features: The number of input nodes.
        out_features: The number of output nodes.
        knots: The knots of every edge, increasing, over the range where inputs are expected.
        generator: The source of randomness; the global one if it is not given.

    Returns:
        The layer, with shared knots and a zero bias.
    """
    scale = in_features**-0.5
    slopes = scale * torch.randn(out_features, in_features, generator=generator, dtype=knots.dtype)
    lines = slopes.unsqueeze(-1) * knots
    noise = 0.1 * scale * torch.randn(lines.shape, generator=generator, dtype=knots.dtype)
    shared_knots = knots.expand(1, in_features, -1)
    return PiecewiseLinearKANLayer(shared_knots, lines + noise, slopes, slopes, knots.new_zeros(out_features))


def _fault_of_shapes(parts: dict[str, Tensor]) -> str | None:
    """Say which part of a layer has not the shape that its values ask for."""
    output, inputs, knot = parts["values"].shape
    edges = (output, inputs)
    owners = output if len(parts["knots"]) == output else 1
    expected = {
        "left_slopes": edges,
        "right_slopes": edges,
        "bias": (output,),
        "knots": (owners, inputs, knot),
    }
    for name in sorted(expected.keys() & parts.keys()):
        needed, given = expected[name], tuple(parts[name].shape)
        if given != needed:
            return (
                f"Values of shape {(output, inputs, knot)}, which is (output, input, knot), "
                f"need {name} of shape {needed}, got {given}."
            )
    return None


def _fault_of_numbers(parts: dict[str, Tensor]) -> str | None:
    """Say which part of a layer is not finite, or has another dtype than the rest."""
    dtypes = sorted({str(part.dtype) for part in parts.values()})
    if len(dtypes) > 1:
        return f"All parts of a layer must have one dtype, got {', '.join(dtypes)}. Convert them first."
    for name, part in parts.items():
        if not part.isfinite().all():
            return f"All numbers of a layer must be finite, but {name} hold an infinity or a NaN."
    return None
