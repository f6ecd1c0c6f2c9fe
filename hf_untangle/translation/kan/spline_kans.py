"""What a layer of a spline KAN is, whichever library made it.

An edge is a B-spline on a grid plus a fixed base function with a weight of its own,

    phi_ji(x) = sum_b c_jib N_b(x) + w_ji base(x),

where the B-splines N_b of order k are polynomials of degree k between the nodes of the grid of their input
node, and zero outside of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hf_untangle.errors import TranslationError


@dataclass(frozen=True)
class Base:
    """A function that spline layers add to their splines, and what is known of it."""

    function: Callable[[Tensor], Tensor]
    """The function."""
    curvature: float
    """The largest absolute second derivative, except at the kink."""
    kink: float | None
    """Where its slope jumps, if anywhere."""
    slopes: tuple[float, float]
    """Its slope far to the left and far to the right."""


BASES = {
    "zero": Base(torch.zeros_like, 0.0, None, (0.0, 0.0)),
    "identity": Base(lambda x: x, 0.0, None, (1.0, 1.0)),
    "ReLU": Base(F.relu, 0.0, 0.0, (0.0, 1.0)),
    "SiLU": Base(F.silu, 0.5, None, (0.0, 1.0)),
    "GELU": Base(F.gelu, 0.79789, None, (0.0, 1.0)),
    "tanh": Base(torch.tanh, 0.76981, None, (0.0, 0.0)),
}
"""The base functions that can be read; a layer's own is recognized by what it computes, not by its name."""


@dataclass(frozen=True)
class SplineLayer:
    """The parts of a spline layer, in float64, with all scales and masks multiplied in."""

    grid: Float[Tensor, "input node"]
    """The nodes, with the k by which the grid is prolonged on either side."""
    coefficients: Float[Tensor, "output input basis"]
    """What multiplies the B-splines; their number is that of the nodes less k + 1."""
    base_weights: Float[Tensor, "output input"]
    """What multiplies the base function."""
    order: int
    """k, the degree of the polynomials."""
    base: Base
    """The base function."""

    def __call__(self, x: Float[Tensor, "input point"]) -> Float[Tensor, "output input point"]:
        """Evaluate all edges.

        Args:
            x: Where to evaluate the edges that leave each input node.

        Returns:
            phi_ji(x_ip).
        """
        splines = torch.einsum("ipb,oib->oip", b_splines(x, self.grid, self.order), self.coefficients)
        return splines + self.base_weights.unsqueeze(-1) * self.base.function(x)

    def curvature(self) -> Float[Tensor, "output input"]:
        """Bound the second derivative of all edges, between their nodes if the order is 1.

        The second derivative of a spline is a spline of order k - 2, and B-splines are positive and sum to at
        most 1, so its largest coefficient bounds it.

        Returns:
            An upper bound of |phi_ji''|, outside of the kink of the base.
        """
        bound = self.base_weights.abs() * self.base.curvature
        if self.order < 2:
            return bound
        slopes = _derivative(self.coefficients, self.grid, self.order)
        return bound + _derivative(slopes, self.grid, self.order - 1).abs().amax(-1)


def b_splines(
    x: Float[Tensor, "input point"], grid: Float[Tensor, "input node"], order: int
) -> Float[Tensor, "input point basis"]:
    """Evaluate B-splines by the recursion of Cox and de Boor.

    N_(b,0) is 1 between the nodes b and b + 1, and a B-spline of order p is two of order p - 1, faded in and
    out: N_(b,p)(x) = (x - g_b) / (g_(b+p) - g_b) N_(b,p-1)(x) + (g_(b+p+1) - x) / (g_(b+p+1) - g_(b+1))
    N_(b+1,p-1)(x).

    Args:
        x: Where to evaluate, for every input node.
        grid: The nodes, increasing.
        order: The degree of the polynomials.

    Returns:
        N_b(x).
    """
    x, g = x.unsqueeze(-1), grid.unsqueeze(1)
    basis = ((x >= g[..., :-1]) & (x < g[..., 1:])).to(x)
    for p in range(1, order + 1):
        fade_in = (x - g[..., : -p - 1]) / (g[..., p:-1] - g[..., : -p - 1])
        fade_out = (g[..., p + 1 :] - x) / (g[..., p + 1 :] - g[..., 1:-p])
        basis = fade_in * basis[..., :-1] + fade_out * basis[..., 1:]
    return basis


def read_spline_layer(layer: Any) -> SplineLayer:
    """Read a spline layer by the names that the two libraries give to its parts.

    Args:
        layer: A `KANLinear` of efficient-kan, a `KANLayer` of pykan, or any module with the same attributes.

    Returns:
        Its parts.

    Raises:
        TranslationError: If it has no such attributes, its order is 0, its grid does not increase, or its
            base function is not known.
    """
    reader = next((read for names, read in READERS if all(hasattr(layer, name) for name in names)), None)
    if reader is None:
        expected = " or ".join(", ".join(names) for names, _ in READERS)
        raise TranslationError(f"{type(layer).__name__} is no spline layer: it should have {expected}.")
    spline = reader(layer)
    if spline.order < 1:
        raise TranslationError("A spline of order 0 jumps at its nodes; only order 1 and higher are continuous.")
    if not (spline.grid.diff() > 0).all():
        raise TranslationError("The grid of a spline layer must increase strictly from node to node.")
    return spline


def _read_efficient_kan(layer: Any) -> SplineLayer:
    """Parts of a KANLinear, whose scale for the splines is optional."""
    scale = layer.spline_scaler.unsqueeze(-1) if hasattr(layer, "spline_scaler") else 1
    return SplineLayer(
        layer.grid.detach().double(),
        (layer.spline_weight * scale).detach().double(),
        layer.base_weight.detach().double(),
        layer.spline_order,
        _recognized(layer.base_activation),
    )


def _read_pykan(layer: Any) -> SplineLayer:
    """Parts of a KANLayer, whose first axis is the input."""
    return SplineLayer(
        layer.grid.detach().double(),
        (layer.coef * (layer.scale_sp * layer.mask).unsqueeze(-1)).detach().double().transpose(0, 1),
        (layer.scale_base * layer.mask).detach().double().T,
        layer.k,
        _recognized(layer.base_fun),
    )


READERS: list[tuple[tuple[str, ...], Callable[[Any], SplineLayer]]] = [
    (("grid", "spline_weight", "base_weight", "spline_order", "base_activation"), _read_efficient_kan),
    (("grid", "coef", "scale_base", "scale_sp", "mask", "k", "base_fun"), _read_pykan),
]
"""Which attributes a layer of each library has, and how they are read."""


def _recognized(function: Callable[[Tensor], Tensor]) -> Base:
    """The known base function that gives the same numbers."""
    probe = torch.linspace(-6, 6, 241, dtype=torch.float64)
    numbers = function(probe.clone())
    for base in BASES.values():
        if torch.allclose(numbers, base.function(probe), atol=1e-9):
            return base
    raise TranslationError(f"The base function {function} is not among {', '.join(BASES)}, so no error bound is known for it.")


def _derivative(coefficients: Tensor, grid: Tensor, order: int) -> Tensor:
    """Coefficients of the derivative of a spline: k (c_b - c_(b-1)) / (g_(b+k) - g_b), 0 beyond the ends."""
    rises = F.pad(coefficients, (1, 1)).diff()
    return order * rises / (grid[:, order:] - grid[:, :-order])
