"""Labels beside the points of a figure, placed so that they cover neither each other nor what is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase

from hf_untangle.reporting.style import Color

Point = tuple[float, float]
DISTANCES = (9, 16, 26, 40, 58)
"""How far a label may stand from its point, in points, the nearest first."""
DIRECTIONS = ((1, -1), (1, 1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""To which side it may stand, the first that is free."""
DETAIL = 24
"""Places along each stretch of a line that a label is to leave free."""


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point."""

    text: str
    point: Point
    color: Color


def place_labels(axes: Axes, labels: Sequence[Label], drawn: Sequence[Sequence[Point]]) -> None:
    """Write labels where they cover nothing; one that fits nowhere is left out, the last first.

    Args:
        axes: Where to write; its limits are final.
        labels: What to write, the most important first.
        drawn: Lines through points, in the units of the axes, which labels are not to cover.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    taken: list[Bbox] = []
    places = axes.transData.transform(np.concatenate([_along(line) for line in drawn]))
    for label in labels:
        written = axes.annotate(
            label.text, label.point, (0, 0), textcoords="offset points", color=label.color.light, fontsize=9
        )
        written.set_in_layout(False)
        box = _first_free_place(written, axes.get_window_extent(), taken, places)
        if box is None:
            written.remove()
        else:
            taken.append(box)


def _first_free_place(written: Annotation, inside: BboxBase, taken: list[Bbox], places: np.ndarray) -> Bbox | None:
    """Move a label to where it covers nothing, and tell what it covers there; None where there is no such place."""
    for distance in DISTANCES:
        for right, up in DIRECTIONS:
            written.set_position((right * distance, up * distance))
            written.set_horizontalalignment(("right", "center", "left")[right + 1])
            written.set_verticalalignment(("top", "center", "bottom")[up + 1])
            box = written.get_window_extent().padded(3)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not box.count_overlaps(taken) and not box.count_contains(places):
                return box
    return None


def _along(line: Sequence[Point]) -> np.ndarray:
    """Places along a line, its points among them."""
    points = np.asarray([point for point in line if np.isfinite(point).all()], dtype=float).reshape(-1, 2)
    if len(points) < 2:
        return points
    steps = np.linspace(0, len(points) - 1, DETAIL * (len(points) - 1) + 1)
    return np.stack([np.interp(steps, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], axis=1)
