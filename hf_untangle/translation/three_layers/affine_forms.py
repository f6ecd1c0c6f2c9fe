"""A tensor inside a network, as an affine function of the network's input and of its ReLU neurons.

No operation needs its own rule: the linear part of an affine operation is its derivative, so `apply` asks
autograd for it. The pullback is the transposed linear part, and the pullback of the pullback is the linear
part itself, without its constant and without rounding. What may pass through `apply`, the reader decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx.node import map_aggregate

from hf_untangle.errors import BudgetError

Constant = Float[Tensor, "..."] | float

MAX_WIDTH = 2**14
"""Most coordinates of the input or of one layer: a square matrix of that size takes 2 GiB in float64."""


@dataclass(frozen=True, eq=False)
class AffineForm:
    """`constant + sum over sources s and their coordinates j of s_j * coefficients[s][j]`."""

    constant: Float[Tensor, "..."]
    """The value where every source is 0."""
    coefficients: Mapping[int, Float[Tensor, "_ ..."]]
    """For each source, one tensor of the shape of `constant` for each of its coordinates."""

    def __add__(self, other: "AffineForm | Constant") -> "AffineForm":
        """Add, elementwise."""
        return apply(torch.add, self, other)

    def __sub__(self, other: "AffineForm | Constant") -> "AffineForm":
        """Subtract, elementwise."""
        return apply(torch.sub, self, other)

    def __rsub__(self, other: Constant) -> "AffineForm":
        """Subtract from a constant, elementwise."""
        return -1.0 * self + other

    def __mul__(self, factor: Constant) -> "AffineForm":
        """Multiply by a constant, elementwise."""
        return apply(torch.mul, self, factor)

    __radd__, __rmul__ = __add__, __mul__


def identity(source: int, shape: tuple[int, ...], dtype: torch.dtype) -> AffineForm:
    """Stand for a source itself.

    Args:
        source: Its number.
        shape: The shape of the tensor it fills.
        dtype: Its dtype.

    Returns:
        The form whose value is the source.

    Raises:
        BudgetError: The source has more than `MAX_WIDTH` coordinates.
    """
    constant = torch.zeros(shape, dtype=dtype)
    if constant.numel() > MAX_WIDTH:
        raise BudgetError(
            f"A tensor of {constant.numel()} numbers is too large to write maps of it as matrices; the limit "
            f"is {MAX_WIDTH}. Translate a part of the network, or one with smaller inputs."
        )
    basis = torch.eye(constant.numel(), dtype=dtype)
    return AffineForm(constant, {source: basis.reshape(constant.numel(), *shape)})


def apply(operation: Callable[..., Tensor], *args: Any, **kwargs: Any) -> AffineForm:
    """Apply an operation that is affine in all its forms together, such as a convolution or a sum.

    Args:
        operation: The operation, as it is called on tensors.
        *args: Its arguments, with forms (also inside lists) where tensors would be.
        **kwargs: Its keyword arguments.

    Returns:
        The form of the result.
    """
    forms = list(forms_in((args, kwargs)))

    def run(*values: Tensor) -> Tensor:
        """Call the operation with values instead of the forms, in order."""
        substitutes = iter(values)
        plain = map_aggregate((args, kwargs), lambda leaf: next(substitutes) if isinstance(leaf, AffineForm) else leaf)
        return operation(*plain[0], **plain[1])

    constant, pullback = torch.func.vjp(run, *(form.constant for form in forms))[:2]
    pushforward = torch.func.vjp(pullback, torch.zeros_like(constant))[1]
    sources = sorted({source for form in forms for source in form.coefficients})
    coefficients = {source: _pushed(pushforward, _directions(forms, source), constant) for source in sources}
    return AffineForm(constant, coefficients)


def apply_each(operation: Callable[..., Sequence[Tensor]], *args: Any, **kwargs: Any) -> tuple[AffineForm, ...]:
    """Apply an operation that splits a form.

    Args:
        operation: The operation, which returns several tensors.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Returns:
        The form of each part.
    """
    plain = map_aggregate((args, kwargs), lambda leaf: leaf.constant if isinstance(leaf, AffineForm) else leaf)
    count = len(operation(*plain[0], **plain[1]))
    return tuple(
        apply(lambda *values, n=number, **named: operation(*values, **named)[n], *args, **kwargs) for number in range(count)
    )


def forms_in(arguments: Any) -> Iterator[AffineForm]:
    """Find the affine forms among the arguments of an operation.

    Args:
        arguments: Anything nested in tuples, lists and dicts.

    Yields:
        Each form, in order, as often as it occurs.
    """
    leaves: list[Any] = []
    map_aggregate(arguments, leaves.append)
    yield from (leaf for leaf in leaves if isinstance(leaf, AffineForm))


def _pushed(pushforward: Callable[..., Any], directions: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Apply the linear part to one direction after the other; a source without coordinates has none."""
    if not len(directions[0]):
        return like.new_zeros(0, *like.shape)
    return torch.vmap(pushforward)(directions)[0]


def _directions(forms: list[AffineForm], source: int) -> tuple[Tensor, ...]:
    """Give each form's coefficients of one source, zeros where it does not read it."""
    size = next(len(form.coefficients[source]) for form in forms if source in form.coefficients)
    return tuple(
        form.coefficients.get(source, torch.zeros_like(form.constant).expand(size, *form.constant.shape)) for form in forms
    )
