"""Affine maps over the extended reals, where weights and activations may be infinite.

The rules: 0 x inf = 0 in either order, c x inf = sign(c) inf, finite + inf = inf, and relu(-inf) = 0. The sum
inf - inf has no value and is an error. (Floating-point arithmetic itself says that 0 x inf is NaN.)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from hf_untangle.errors import TranslationError


class ExtendedLinear(nn.Module):
    """An affine map y = W a + b whose weights and inputs may be infinite. Its weights are not trained."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make a map of zeros, in float64.

        Args:
            inputs: Number of inputs.
            outputs: Number of outputs.
        """
        super().__init__()
        self.weight = fixed(torch.zeros(outputs, inputs, dtype=torch.float64))
        self.bias = fixed(torch.zeros(outputs, dtype=torch.float64))

    def forward(self, a: Float[Tensor, "point input"]) -> Float[Tensor, "point output"]:
        """Apply the map.

        Args:
            a: Its inputs.

        Returns:
            Its outputs. `TranslationError` is raised if inf and -inf meet in one of them.
        """
        return extended_linear(a, self.weight, self.bias)


class TwoSidedLinear(nn.Module):
    """An affine map that looks at each of its rows from two sides: h = W x + b, and offset + gain x h.

    The gain of a row may be infinite. It multiplies the finished sum h, since an infinite weight on each
    input would make inf - inf out of inputs with different signs. Both sides see the same rounding of h.
    """

    def __init__(self, inputs: int, rows: int) -> None:
        """Make a map of zeros, in float64.

        Args:
            inputs: Number of inputs.
            rows: Number of rows, each with two outputs.
        """
        super().__init__()
        self.weight = fixed(torch.zeros(rows, inputs, dtype=torch.float64))
        self.bias = fixed(torch.zeros(rows, dtype=torch.float64))
        self.gain = fixed(torch.zeros(rows, dtype=torch.float64))
        self.offset = fixed(torch.zeros(rows, dtype=torch.float64))

    def forward(self, x: Float[Tensor, "point input"]) -> Float[Tensor, "point outputs"]:
        """Apply the map.

        Args:
            x: Finite inputs.

        Returns:
            The first side of every row, then the other side of every row.
        """
        h = linear(x, self.weight, self.bias)
        return torch.cat([h, self.offset + extended_product(self.gain, h)], dim=1)


def fixed(tensor: Tensor) -> nn.Parameter:
    """Make a parameter that is not trained.

    Args:
        tensor: Its value.

    Returns:
        The parameter.
    """
    return nn.Parameter(tensor, requires_grad=False)


def extended_product(gain: Float[Tensor, " row"], h: Float[Tensor, "point row"]) -> Float[Tensor, "point row"]:
    """Multiply finite values by gains that may be infinite, with 0 x inf = 0.

    Args:
        gain: One factor for each row.
        h: The values.

    Returns:
        gain x h. Where the product is finite, so is its gradient.
    """
    infinite = gain.isinf()
    finite_part = torch.where(infinite, 0.0, gain) * h
    infinite_part = torch.full_like(h, math.inf).copysign((gain.sign() * h.sign()).detach())
    return torch.where(infinite & (h != 0), infinite_part, finite_part)


def extended_linear(
    a: Float[Tensor, "point input"], weight: Float[Tensor, "output input"], bias: Float[Tensor, " output"]
) -> Float[Tensor, "point output"]:
    """Compute weight @ a + bias over the extended reals.

    Args:
        a: Inputs.
        weight: Weights.
        bias: Biases.

    Returns:
        The sums.

    Raises:
        TranslationError: inf and -inf meet in one sum. (In an exported graph nothing is raised.)
    """
    finite = linear(*(torch.where(part.isinf(), 0.0, part) for part in (a, weight, bias)))
    infinite, signed = _infinite_products(a, weight)
    up = (infinite + signed > 0) | (bias == math.inf)
    down = (infinite - signed > 0) | (bias == -math.inf)
    if not torch.compiler.is_compiling() and (up & down).any():
        point, output = (up & down).nonzero()[0].tolist()
        raise TranslationError(
            f"inf and -inf meet in output {output} at point {point}. Their sum has no value, so these "
            "weights are not those of a function over the extended reals."
        )
    return finite.masked_fill(down, -math.inf).masked_fill(up, math.inf)


def _infinite_products(a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Count the infinite products in each sum, and the positive minus the negative ones.

    A product is infinite if one factor is infinite and the other is not 0. Here the infinite inputs meet all
    weights, and the finite inputs meet the infinite weights.
    """
    counting = torch.promote_types(a.dtype, torch.float32)  # half precision counts to 2,048
    large, sign = a.isinf(), a.sign().to(counting)
    heavy, weight_sign = weight.isinf(), weight.sign().to(counting)
    inputs = torch.cat([sign * large, sign * ~large], dim=1)
    weights = torch.cat([weight_sign, weight_sign * heavy], dim=1)
    return inputs.abs() @ weights.abs().T, inputs @ weights.T
