r"""A continuous piecewise linear function of one variable: the edge of a piecewise linear KAN.

It is known from its values at a few knots and its slopes outside of them:

                    v_2
                     o
                    / \        between two knots: the straight line through both values
    left slope     /   \     right slope
    --------------o     o--------------
                 v_1   v_3         outside: the end slopes continue for ever
                 t_1 t_2 t_3

Values, and not slopes, are the stored truth: a sum of many slopes cancels in floating point, an average of
two neighboring values does not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PiecewiseLinear:
    """A continuous piecewise linear function phi of one variable, with K >= 1 knots and K + 1 segments.

    A straight line is the case of one knot with the same slope on both sides.
    """

    knots: Float[Tensor, " knot"]
    """Where the slope may change: t_1 < ... < t_K."""
    values: Float[Tensor, " knot"]
    """phi(t_1), ..., phi(t_K)."""
    left_slope: Float[Tensor, ""]
    """The slope everywhere below t_1."""
    right_slope: Float[Tensor, ""]
    """The slope everywhere above t_K."""

    @property
    def slopes(self) -> Float[Tensor, " segment"]:
        """The slope of every segment, from left to right: s_0, ..., s_K."""
        inner = self.values.diff() / self.knots.diff()
        return torch.cat([self.left_slope[None], inner, self.right_slope[None]])

    def __call__(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Evaluate the function elementwise.

        Args:
            x: Where to evaluate it.

        Returns:
            phi(x), of the same shape as `x`.
        """
        below, hats, above = hat_basis(x, self.knots)
        return below * self.left_slope + hats @ self.values + above * self.right_slope


def hat_basis(
    x: Float[Tensor, "*batch"], knots: Float[Tensor, "*nodes knot"]
) -> tuple[Float[Tensor, "*edges"], Float[Tensor, "*edges knot"], Float[Tensor, "*edges"]]:
    """Evaluate the basis in which a piecewise linear function has its values and end slopes as coefficients.

    phi(x) = left_slope min(x - t_1, 0) + sum_m values_m hat_m(x) + right_slope max(x - t_K, 0). The hat of
    knot m is 1 at t_m, falls linearly to 0 at its neighbors, and stays 1 outside when it is the first or the
    last: the hats sum to 1 and at most two of them are not zero.

    Args:
        x: Where to evaluate; broadcast against the knots without their last axis.
        knots: t_1 < ... < t_K along the last axis.

    Returns:
        What multiplies the left slope, the values, and the right slope.
    """
    offsets = x.unsqueeze(-1) - knots
    passed = (offsets[..., :-1] / knots.diff()).nan_to_num(0.0, torch.inf, -torch.inf)  # 0 / 0 where a dtype makes knots one
    passed = passed.clamp(0, 1)  # of each inner segment: 0 before it, 1 behind it
    hats = F.pad(passed, (1, 0), value=1)
    hats[..., :-1] -= passed
    return offsets[..., 0].clamp(max=0), hats, offsets[..., -1].clamp(min=0)


def fault_of_knots(knots: Float[Tensor, "*nodes knot"]) -> str | None:
    """Say why knots do not define segments.

    Args:
        knots: The knots, along the last axis.

    Returns:
        What is wrong and what to do, or None if they increase strictly and are finite.
    """
    if knots.shape[-1] == 0:
        return "An edge needs at least one knot, got none. A straight line has one knot, at 0."
    if not knots.isfinite().all():
        return "Knots must be finite, got an infinity or a NaN. What happens far out is set by the end slopes."
    if not (knots.diff() > 0).all():
        step = knots.diff().min().item()
        return f"Knots must increase strictly, but one step here is {step:g}. Sort them, and drop duplicates."
    return None
