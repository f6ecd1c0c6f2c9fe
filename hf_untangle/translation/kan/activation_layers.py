"""The KAN layer that a linear layer and the activation in front of it already are.

    y_j = sum_i w_ji a(x_i) + bias_j:  the edge phi_ji is the activation a, scaled by one weight.

This holds for every elementwise activation, so a multilayer perceptron is a KAN without any computation: the
brackets only move, from "(linear, activation), linear" to "linear, (activation, linear)".
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.elementwise import known_form, piecewise_linear_form
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer


@dataclass(frozen=True)
class ScaledActivation:
    """An edge that is not piecewise linear: phi(x) = weight * activation(x)."""

    weight: Float[Tensor, ""]
    """The scale of this edge."""
    activation: Callable[[Tensor], Tensor]
    """The elementwise function that all edges of an input node have in common."""

    def __call__(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Evaluate the function elementwise.

        Args:
            x: Where to evaluate it.

        Returns:
            phi(x), of the same shape as `x`.
        """
        return self.weight * self.activation(x.clone())  # a copy, because some activations work in place


@checked_calls
class ActivationKANLayer(nn.Linear):
    """y_j = sum_i w_ji a(x_i) + bias_j: a KAN layer whose edges are one activation, each with its own weight.

    It is a linear layer with an activation in front, computes exactly what those two compute, and has the
    parameters of a linear layer under the names of a linear layer.
    """

    activation: nn.Module
    """The elementwise activation a."""

    def __init__(self, linear: nn.Linear, activation: nn.Module):
        """Put an activation in front of a linear layer.

        Args:
            linear: The linear layer, whose Parameters are shared and not copied.
            activation: The elementwise activation of its inputs.
        """
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.activation = activation
        self.train(linear.training)

    def forward(self, input: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Sum the edges that arrive at every output node.

        Args:
            input: The input nodes.

        Returns:
            The output nodes.
        """
        return super().forward(self.activation(input))

    def edge_outputs(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output input"]:
        """Evaluate every edge on its own: the terms that a forward pass sums.

        Args:
            x: The input nodes.

        Returns:
            phi_ji(x_i) for every j and i, without the bias.
        """
        return self.activation(x.clone()).unsqueeze(-2) * self.weight

    def edge(self, j: int, i: int) -> PiecewiseLinear | ScaledActivation:
        """Take out one edge; nothing is computed for the others.

        Args:
            j: The output node.
            i: The input node.

        Returns:
            The function phi_ji, with knots, values and slopes if the activation is piecewise linear.
        """
        weight = self.weight[j, i]
        activation = self.activation.of_node(i) if isinstance(self.activation, BlockActivation) else self.activation
        form = known_form(activation)
        if form is None:
            return ScaledActivation(weight, activation)
        knots, values, left, right = (part.to(weight) for part in (form.knots, form.values, form.left_slope, form.right_slope))
        return PiecewiseLinear(knots, weight * values, weight * left, weight * right)


class BlockActivation(nn.Module):
    """Different activations for different blocks of input nodes."""

    def __init__(self, widths: list[int], activations: list[nn.Module]):
        """Give every block of nodes its activation.

        Args:
            widths: How many nodes a block has.
            activations: The elementwise activation of every block.
        """
        super().__init__()
        self.widths = widths
        self.activations = nn.ModuleList(activations)

    def of_node(self, i: int) -> nn.Module:
        """Find the activation of one input node.

        Args:
            i: The input node.

        Returns:
            The activation of its block.
        """
        block = torch.arange(len(self.widths)).repeat_interleave(torch.tensor(self.widths))[i]
        return self.activations[int(block)]

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        """Apply to every block its own activation.

        Args:
            x: The input nodes.

        Returns:
            Their activations.
        """
        blocks = x.split(self.widths, -1)
        return torch.cat([a(block) for a, block in zip(self.activations, blocks, strict=True)], -1)


KANLayer = PiecewiseLinearKANLayer | ActivationKANLayer
"""Both kinds have `forward`, `edge(j, i)`, `edge_outputs`, `in_features`, `out_features` and `bias`."""


def kan_layers(kan: nn.Module) -> list[KANLayer]:
    """Read a KAN as the list of its layers.

    Args:
        kan: One KAN layer, or a Sequential of them.

    Returns:
        The layers, first to last.

    Raises:
        TranslationError: If there is anything else in it.
    """
    modules = list(kan) if isinstance(kan, nn.Sequential) else [kan]
    layers = [module for module in modules if isinstance(module, KANLayer)]
    if len(layers) < len(modules):
        stranger = next(type(module).__name__ for module in modules if not isinstance(module, KANLayer))
        raise TranslationError(
            f"A KAN is a KAN layer or a Sequential of them, got one with a {stranger}. "
            "Translate a network first: relu_to_kan(network)."
        )
    return layers


@checked_arguments
@torch.no_grad()
def with_knots(layer: ActivationKANLayer) -> PiecewiseLinearKANLayer:
    """Give every edge values and slopes of its own, so that edges can be trained apart.

    Args:
        layer: A layer whose activation is piecewise linear, and the same for all nodes.

    Returns:
        The same function with copied parameters: K + 2 numbers on an edge instead of one.
    """
    form, weight = piecewise_linear_form(layer.activation), layer.weight
    knots, values = form.knots.to(weight), form.values.to(weight)
    return PiecewiseLinearKANLayer(
        knots.expand(1, layer.in_features, -1),
        weight.unsqueeze(-1) * values,
        weight * form.left_slope.to(weight),
        weight * form.right_slope.to(weight),
        layer.bias,
    )
