"""Finding where a curve leaves its limit: a coarse grid first, then a fine one around the crossings."""

from collections.abc import Callable
from itertools import pairwise

Curve = dict[float, float]
"""The metric by share, in increasing order of share."""
NEAR = 1e-9
"""Shares that are no further apart are the same."""


def around_crossings(curve: Curve, holds: Callable[[float], bool], refine: float) -> list[float]:
    """The multiples of a fine step that lie where the curve first leaves its limit, and where it last does.

    Args:
        curve: What is known.
        holds: Whether a value is inside the limit.
        refine: The fine step; 0 for no more shares.

    Returns:
        Increasing shares that are not known yet.
    """
    leaving = [(low, high) for low, high in pairwise(curve) if holds(curve[low]) and not holds(curve[high])]
    if not leaving or not refine:
        return []
    ends = dict.fromkeys((leaving[0], leaving[-1]))
    return [share for low, high in ends for share in _multiples_between(low, high, refine)]


def first_crossing(curve: Curve, holds: Callable[[float], bool]) -> float:
    """The largest share before the first one that leaves the limit.

    Args:
        curve: The curve.
        holds: Whether a value is inside the limit.

    Returns:
        A share of the curve.
    """
    found = 0.0
    for share, value in curve.items():
        if not holds(value):
            break
        found = share
    return found


def last_crossing(curve: Curve, holds: Callable[[float], bool]) -> float:
    """The largest share inside the limit.

    Args:
        curve: The curve.
        holds: Whether a value is inside the limit.

    Returns:
        A share of the curve.
    """
    return max(share for share, value in curve.items() if holds(value))


def _multiples_between(low: float, high: float, step: float) -> list[float]:
    """The multiples of a step strictly between two shares."""
    multiples = (round(number * step, 9) for number in range(int(low / step), int(high / step) + 2))
    return [share for share in multiples if low + NEAR < share < high - NEAR]
