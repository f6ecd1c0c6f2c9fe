"""Cells of a box: polytopes that know some of their inner points, and polygons that know their corners.

A known point answers many questions without a linear program; in two dimensions none is needed at all.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from hf_untangle.translation.three_layers.homogeneous import Point, Row, Rows
from hf_untangle.translation.three_layers.linear_programs import Polytope

TOLERANCE = 1e-9
"""A part of a cell counts if it holds a ball of a larger radius than this, in the units of the box or of `rule_at`."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A polytope inside a box. All rows are unit rows (a, c), so a . x + c is a distance."""

    sides: Rows
    """The half-spaces a . x + c >= 0 that cut it out of the box."""
    points: Float[np.ndarray, "point coordinate"]
    """Some points (x, 1) inside."""
    depths: Float[np.ndarray, " point"]
    """How far each point is, at least, from every side and from the box's sides."""

    @property
    def point(self) -> Point:
        """The deepest known point."""
        return self.points[self.depths.argmax()]

    def part(self, row: Row) -> "Cell":
        """Cut the cell.

        Args:
            row: A unit row.

        Returns:
            The part where it is at least 0, with the points that are in it.
        """
        distances = self.points @ row
        inside = distances > 0
        depths = np.minimum(self.depths, distances)[inside]
        return Cell(np.concatenate([self.sides, row[None]]), self.points[inside], depths)

    def shows(self, row: Row) -> bool:
        """Say whether a known point proves that the cell has a part where the row is positive.

        Args:
            row: A unit row.

        Returns:
            True if a point is deep enough in the cell and on that side.
        """
        return bool((np.minimum(self.depths, self.points @ row) > TOLERANCE).any())


class Prober:
    """Finds out which half-spaces cut the cells of one box."""

    def __init__(self, lower: Float[np.ndarray, " input"], upper: Float[np.ndarray, " input"]) -> None:
        """Set up the linear programs.

        Args:
            lower: Smallest value of each input.
            upper: Largest value of each input.
        """
        self.lower, self.upper = lower, upper
        self.polytope = Polytope(lower, upper)

    def box(self) -> Cell:
        """Start with the whole box.

        Returns:
            A cell without other sides, which knows its center.
        """
        nothing = np.zeros((0, len(self.lower) + 1))
        return self._with_point(Cell(nothing, nothing, np.zeros(0)), np.append((self.lower + self.upper) / 2, 1.0))

    def decide(self, cell: Cell, rows: Rows, signs: Int8[np.ndarray, " row"]) -> tuple[Cell, Int8[np.ndarray, " row"]]:
        """Find the sign of every row that has only one in a cell.

        Args:
            cell: The cell.
            rows: Unit rows.
            signs: What is known: 1 or -1, or 0 where nothing is.

        Returns:
            The cell with points on both sides of the rows that cut it, and the signs of all others. A row
            cuts the cell if a ball of radius `TOLERANCE` fits into both parts.
        """
        signs = signs.copy()
        for row in np.flatnonzero(signs == 0):
            for side in (1, -1):
                found = self._reach(cell, side * rows[row])
                if found is None:
                    signs[row] = -side
                    break
                cell = found
        return cell, signs

    def _reach(self, cell: Cell, row: Row) -> Cell | None:
        """Find a point of the cell where a row is positive, if there is more than a sliver of it."""
        if cell.shows(row):
            return cell
        if self.polytope.rows is not cell.sides:
            self.polytope.constrain(cell.sides)
        distance, vertex = self.polytope.farthest(row)
        if vertex is None or distance <= TOLERANCE:
            return None
        found = self._with_point(cell, _pulled_inside(cell, row, vertex))
        return found if found.shows(row) else self._with_largest_ball(cell, row)

    def _with_largest_ball(self, cell: Cell, row: Row) -> Cell | None:
        """Decide about a thin part, where a point between the vertex and the inside proves nothing."""
        self.polytope.constrain(np.concatenate([cell.sides, row[None]]))
        _, center = self.polytope.largest_ball()
        found = None if center is None else self._with_point(cell, center)
        return found if found and found.shows(row) else None

    def _with_point(self, cell: Cell, point: Point) -> Cell:
        """Let the cell know one more point."""
        x = point[:-1]
        depth = min(
            (cell.sides @ point).min(initial=np.inf), (x - self.lower).min(initial=np.inf), (self.upper - x).min(initial=np.inf)
        )
        return Cell(cell.sides, np.concatenate([cell.points, point[None]]), np.append(cell.depths, depth))


def _pulled_inside(cell: Cell, row: Row, vertex: Point) -> Point:
    """Go from a vertex towards the deepest known point.

    On the way back the ball around that point shrinks to nothing at the vertex, while the distance to the
    row's hyperplane grows: take the point where both are equal.
    """
    center, depth = cell.point, cell.depths.max()
    beyond, behind = row @ vertex, row @ center
    return vertex + beyond / (depth + beyond - behind) * (center - vertex)


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
