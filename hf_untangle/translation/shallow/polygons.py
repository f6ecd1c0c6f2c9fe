"""Convex polygons, known by their corners: in two dimensions no linear program is needed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from hf_untangle.translation.shallow.cells import TOLERANCE
from hf_untangle.translation.shallow.homogeneous import Point, Row, Rows


@dataclass(frozen=True, eq=False)
class Polygon:
    """A convex polygon."""

    corners: Float[np.ndarray, "corner 3"]
    """Its corners (x, y, 1), in order around it."""

    @property
    def point(self) -> Point:
        """A point inside: the mean of the corners."""
        return self.corners.mean(axis=0)

    def part(self, row: Row) -> "Polygon":
        """Cut the polygon.

        Args:
            row: A row (a, c).

        Returns:
            The part where a . x + c >= 0.
        """
        value = self.corners @ row
        following, next_value = np.roll(self.corners, -1, axis=0), np.roll(value, -1)
        crosses = value * next_value < 0
        way = value / np.where(crosses, value - next_value, 1.0)
        crossings = self.corners + way[:, None] * (following - self.corners)
        # each corner, if it is inside, and then the crossing of the edge after it, if there is one
        candidates = np.stack([self.corners, crossings], axis=1).reshape(-1, 3)
        return Polygon(candidates[np.stack([value >= 0, crosses], axis=1).ravel()])


class PolygonProber:
    """Finds out which lines cut the cells of one rectangle."""

    def __init__(self, lower: Float[np.ndarray, " 2"], upper: Float[np.ndarray, " 2"]) -> None:
        """Take the rectangle.

        Args:
            lower: Smallest value of each coordinate.
            upper: Largest value of each coordinate.
        """
        self.lower, self.upper = lower, upper

    def box(self) -> Polygon:
        """Start with the whole rectangle.

        Returns:
            The rectangle.
        """
        (left, bottom), (right, top) = self.lower, self.upper
        return Polygon(np.array([[left, bottom, 1], [right, bottom, 1], [right, top, 1], [left, top, 1]]))

    def decide(self, cell: Polygon, rows: Rows, signs: Int8[np.ndarray, " row"]) -> tuple[Polygon, Int8[np.ndarray, " row"]]:
        """Find the sign of every row that has only one in a cell, up to a distance of `TOLERANCE`.

        Args:
            cell: The cell.
            rows: Unit rows.
            signs: What is known: 1 or -1, or 0 where nothing is.

        Returns:
            The cell, and the signs with more of them known.
        """
        values = cell.corners @ rows.T
        found = np.where(values.max(axis=0) <= TOLERANCE, -1, np.where(values.min(axis=0) >= -TOLERANCE, 1, 0))
        return cell, np.where(signs != 0, signs, found).astype(np.int8)
