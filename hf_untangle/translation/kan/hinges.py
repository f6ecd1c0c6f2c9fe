"""A KAN layer in hinge form: one bend after the other, which is a ReLU layer and a matrix product.

An edge with knots t_1 < ... < t_K and slopes s_0, ..., s_K is

    phi(x) = phi(t_1) - s_0 relu(t_1 - x) + s_1 relu(x - t_1) + sum_(m>=2) (s_m - s_(m-1)) relu(x - t_m):

K + 1 hinges for K + 1 segments, and the hinges of an input node are the same for all edges that leave it. So
the layer is a ReLU network with one hidden layer. It is a view for speed and for translation, and not a way
to store a layer: behind many steep knots the hinges grow large and cancel, and low precisions lose the sum.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.splines import PiecewiseLinearKANLayer


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
