"""A gated feed-forward block (SwiGLU, GEGLU, ReGLU) as a KAN of three layers.

A gate multiplies two nodes, and an output node of a KAN only adds. But a product is a difference of squares,

    a(g) u = ((a(g) + u)^2 - (a(g) - u)^2) / 4,

and a square is a function of one node. So the block is a KAN in real arithmetic, though not a piecewise
linear one:

    layer 1   straight lines            gates g and ups u
    layer 2   a(g) and +-u              sums p = a(g) + u and differences q = a(g) - u
    layer 3   w p^2 / 4 and -w q^2 / 4  outputs
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, BlockActivation
from hf_untangle.translation.kan.elementwise import is_elementwise
from hf_untangle.translation.linear_weights import linear_of
from hf_untangle.translation.same_function import check_same_function


class Square(nn.Module):
    """The activation x^2."""

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Square every number.

        Args:
            x: Any numbers.

        Returns:
            Their squares.
        """
        return x * x


@checked_arguments
@torch.no_grad()
def gated_to_kan(gate: nn.Linear, up: nn.Linear, down: nn.Linear, activation: nn.Module) -> nn.Sequential:
    """Translate down(activation(gate(x)) * up(x)) to a KAN.

    The result is for looking at edges, not for speed: squares of large numbers cancel, so use float64, and
    the middle layer holds (2 d)^2 weights for a block of d neurons, all but 4 d of them zero.

    Args:
        gate: The linear layer whose outputs are activated.
        up: The linear layer that they multiply.
        down: The linear layer that reads the products.
        activation: An elementwise activation.

    Returns:
        The KAN, with parameters of its own.

    Raises:
        TranslationError: If the shapes are not those of a gated block, or the activation is not elementwise.
    """
    widths = [gate.out_features, up.out_features, down.in_features]
    if gate.in_features != up.in_features or len(set(widths)) > 1:
        raise TranslationError(f"Gate and up must read the same inputs and be as wide as down reads; got {gate}, {up}, {down}.")
    if not is_elementwise(activation):
        kind = type(activation).__name__
        raise TranslationError(f"{kind} does not act on every number alone. Pass an elementwise activation.")
    width, eye = gate.out_features, torch.eye(gate.out_features).to(gate.weight)
    lines = _linear([[gate.weight], [up.weight]], [gate.bias, up.bias])
    sums = _linear([[eye, eye], [eye, -eye]], [None, None])
    squares = _linear([[down.weight / 4, -down.weight / 4]], [down.bias])
    kan = nn.Sequential(
        ActivationKANLayer(lines, nn.Identity()),
        ActivationKANLayer(sums, BlockActivation([width, width], [activation, nn.Identity()])),
        ActivationKANLayer(squares, Square()),
    )
    points = torch.randn(8, gate.in_features, generator=torch.Generator().manual_seed(0)).to(gate.weight)
    added = (kan[:2](points) ** 2 @ squares.weight.abs().T).amax().item() if down.out_features else 0.0
    check_same_function(lambda x: down(activation(gate(x)) * up(x)), kan, points, added)
    return kan


def _linear(blocks: list[list[Tensor]], biases: list[Tensor | None]) -> nn.Linear:
    """A linear layer made of blocks of weights, with a bias for every row of blocks."""
    weight = torch.cat([torch.cat(row, 1) for row in blocks])
    rows = zip(blocks, biases, strict=True)
    bias = torch.cat([row[0].new_zeros(len(row[0])) if bias is None else bias for row, bias in rows])
    return linear_of(weight, bias)
