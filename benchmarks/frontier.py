"""What a series of masks takes from one corpus for what it takes from another."""

from collections.abc import Iterable
from statistics import fmean

from hf_untangle.records.unlearning import Scores

Curve = list[tuple[float, float]]
"""Retain drop and forget drop, from the original model on, in the order of the masks."""
BUDGETS = (0.01, 0.02, 0.05)
"""The retain drops that curves are read at."""


def curve_of(several: Iterable[Scores], base: Scores) -> Curve:
    """The curve that masks of growing size make."""
    return [(0.0, 0.0), *((scores.retain_drop(base), scores.forget_drop(base)) for scores in several)]


def reached(points: Curve, budget: float) -> float:
    """The largest forget drop on the curve at a retain drop inside the budget."""
    best = 0.0
    for (x, y), (to_x, to_y) in zip(points, points[1:], strict=False):
        if to_x <= budget:
            best = max(best, to_y)
        elif x <= budget:
            best = max(best, y + (to_y - y) * (budget - x) / (to_x - x))
    return best


def spread(values: Iterable[float]) -> str:
    """The mean in percent, with the lowest and the highest."""
    percent = [100 * value for value in values]
    return f"{fmean(percent):.1f} ({min(percent):.1f} to {max(percent):.1f})"
