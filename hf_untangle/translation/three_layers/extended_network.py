"""Three affine maps over the extended reals, where weights and activations may be infinite, and what each weight is for.

The rules: 0 x inf = 0 in either order, c x inf = sign(c) inf, finite + inf = inf, and relu(-inf) = 0. The sum
inf - inf has no value and is an error. (Floating-point arithmetic itself says that 0 x inf is NaN.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from hf_untangle.arguments import checked_calls
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


RoleName = Literal["carry", "boundary", "local model", "membership", "assembly"]

MEANINGS: dict[RoleName, str] = {
    "carry": "hands the input on, its positive and its negative part",
    "boundary": "looks at one neuron's boundary from both sides",
    "local model": "computes what the network is on one linear region",
    "membership": "silences a region where one of its tests does not hold",
    "assembly": "adds the regions up",
}
"""Every role, in words."""


@dataclass(frozen=True)
class Role:
    """A block of one parameter whose entries all have one role."""

    parameter: str
    """Its name in the module's `named_parameters()`."""
    rows: slice
    """Its rows: the entries of the parameter's first dimension."""
    columns: slice
    """Its columns: the entries of the second dimension; ignored for a bias."""
    role: RoleName
    """The role."""

    @property
    def meaning(self) -> str:
        """The role in words."""
        return MEANINGS[self.role]


ALL = slice(None)
"""All rows or columns."""


@checked_calls
class ThreeLayerNetwork(nn.Module, PyTorchModelHubMixin, library_name="hf_untangle"):
    """Three affine maps over the extended reals with a ReLU after the first and the second.

    `save_pretrained`, `from_pretrained` and `push_to_hub` store it in safetensors, infinities included.
    """

    def __init__(self, input_shape: list[int], output_shape: list[int], boundaries: int, regions: int) -> None:
        """Make a network of zeros.

        Args:
            input_shape: Shape of one input, without the batch.
            output_shape: Shape of one output, without the batch.
            boundaries: Number of rows whose signs the regions test.
            regions: Number of regions.
        """
        super().__init__()
        self.output_shape, self.boundaries, self.regions = tuple(output_shape), boundaries, regions
        self.inputs, self.outputs = (int(torch.Size(shape).numel()) for shape in (input_shape, output_shape))
        self.first = TwoSidedLinear(self.inputs, self.inputs + boundaries)
        self.second = ExtendedLinear(2 * (self.inputs + boundaries), regions * self.outputs * 2)
        self.third = ExtendedLinear(regions * self.outputs * 2, self.outputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ThreeLayerNetwork":
        """Refuse a dtype in which finite weights would be infinite, as infinite ones silence regions."""
        for name, weight in self.named_parameters():
            if not weight.is_meta and not torch.equal(fn(weight).isinf().to(weight.device), weight.isinf()):
                raise TranslationError(
                    f"`{name}` holds finite numbers that are infinite in {fn(weight).dtype}, and infinite weights mean "
                    "something else here. Use bfloat16, or scale the inputs or outputs of the network."
                )
        return super()._apply(fn, recurse)

    def forward(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point ..."]:
        """Evaluate the three layers.

        Args:
            x: Points.

        Returns:
            The outputs, in the dtype of the weights.
        """
        return self.third(self.units(x).flatten(1)).reshape(x.shape[0], *self.output_shape)

    def units(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point region output 2"]:
        """Evaluate the second layer.

        Args:
            x: Points.

        Returns:
            The positive and the negative part of each output of each region, 0 where the region is silenced.
        """
        return self.second(self._sides(x)).relu().unflatten(1, (self.regions, self.outputs, 2))

    def multiplicity(self, x: Float[Tensor, "point ..."]) -> Int[Tensor, " point"]:
        """Count the regions that accept each point.

        Args:
            x: Points.

        Returns:
            The number of regions that no membership weight silences: 1 in the half-open form, and more on
            boundaries in the closed form.
        """
        violated = (self._sides(x) > 0).double()
        silencing = self.second.weight.isinf().unflatten(0, (self.regions, -1))[:, 0].double()
        return (violated @ silencing.T == 0).sum(dim=1)

    def roles(self) -> tuple[Role, ...]:
        """Name the role of every entry of every parameter.

        Returns:
            Blocks that cover each parameter, without overlap.
        """
        inputs, rows = slice(0, self.inputs), slice(self.inputs, self.inputs + self.boundaries)
        other = self.inputs + self.boundaries
        other_inputs, other_rows = slice(other, other + self.inputs), slice(other + self.inputs, None)
        first = ("first.weight", "first.bias", "first.gain", "first.offset")
        return (
            *(Role(name, inputs, ALL, "carry") for name in first),
            *(Role(name, rows, ALL, "boundary") for name in first),
            *(Role("second.weight", ALL, columns, "local model") for columns in (inputs, other_inputs)),
            *(Role("second.weight", ALL, columns, "membership") for columns in (rows, other_rows)),
            Role("second.bias", ALL, ALL, "local model"),
            *(Role(name, ALL, ALL, "assembly") for name in ("third.weight", "third.bias")),
        )

    def _sides(self, x: Tensor) -> Tensor:
        """Evaluate the first layer."""
        return self.first(x.reshape(x.shape[0], self.inputs).to(self.first.weight)).relu()
