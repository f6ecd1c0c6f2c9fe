"""Linear programs over a polytope: the point farthest along a direction, and the largest ball inside.

Polytopes are given by rows (a, c) in homogeneous coordinates, for the half-spaces a . x + c >= 0, inside a
box. Rows have |a| = 1, so that values are distances and the solver's tolerances are too.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from hf_untangle.errors import MissingExtraError, TranslationError
from hf_untangle.translation.three_layers.homogeneous import Point, Row, Rows

SOLVER_TOLERANCE = 1e-10
"""The smallest that HiGHS accepts, as a distance."""

DUAL_SIMPLEX, PRIMAL_SIMPLEX = 1, 4
"""HiGHS's numbers for its methods. The primal one can continue from a vertex when only the objective changes."""


class Polytope:
    """A polytope in a box over which many linear functions are maximized, each from the last optimum on."""

    def __init__(self, lower: Float[np.ndarray, " input"], upper: Float[np.ndarray, " input"]) -> None:
        """Start with the box alone.

        Args:
            lower: Smallest value of each input; -inf is allowed.
            upper: Largest value of each input; inf is allowed.
        """
        self.lower, self.upper = lower, upper
        self._solver = _new_solver()
        self.constrain(np.zeros((0, len(lower) + 1)))

    def constrain(self, rows: Rows) -> None:
        """Replace the half-spaces.

        Args:
            rows: Unit rows (a, c), for a . x + c >= 0.
        """
        self.rows = rows
        _load(self._solver, self.lower, self.upper, rows)

    def farthest(self, row: Row) -> tuple[float, Point | None]:
        """Maximize a . x + c over the polytope, by the primal simplex method from the last vertex on.

        Args:
            row: The row (a, c).

        Returns:
            The maximum and a point (x, 1) where it is reached. Without such a point the maximum is -inf
            over an empty polytope and inf over one that is unbounded that way.
        """
        columns = np.arange(len(self.lower), dtype=np.int32)
        self._solver.changeColsCost(len(columns), columns, row[:-1])
        value, solution = _solve(self._solver)
        return value + row[-1], None if solution is None else np.append(solution, 1.0)

    def largest_ball(self) -> tuple[float, Point | None]:
        """Find the largest ball inside: maximize r with a . x + c >= r for every row and side of the box.

        Returns:
            Its radius and its center (x, 1). Without a center the radius is -inf for an empty polytope and
            inf for one that holds balls of any size.
        """
        solver, inputs = _new_solver(), len(self.lower)
        rows = np.insert(self._with_box_sides(), inputs, -1.0, axis=1)
        _load(solver, np.append(self.lower, 0.0), np.append(self.upper, np.inf), rows)
        solver.changeColCost(inputs, 1.0)
        radius, solution = _solve(solver)
        return radius, None if solution is None else np.append(solution[:-1], 1.0)

    def _with_box_sides(self) -> Rows:
        """Write the sides of the box as rows too."""
        identity = np.eye(len(self.lower))
        lower, upper = np.c_[identity, -self.lower], np.c_[-identity, self.upper]
        return np.concatenate([self.rows, lower[np.isfinite(self.lower)], upper[np.isfinite(self.upper)]])


def _new_solver() -> Any:
    """Set HiGHS up for many small problems: one thread, no presolve, and a simplex method that can continue."""
    try:
        import highspy
    except ImportError as error:
        raise MissingExtraError(
            "Linear programs need highspy. Install it with: pip install 'hf-untangle[translate]'"
        ) from error
    solver = highspy.Highs()
    settings = {
        "output_flag": False,
        "presolve": "off",
        "threads": 1,
        "solver": "simplex",
        "simplex_strategy": 4,
    }
    tolerances = dict.fromkeys(("primal_feasibility_tolerance", "dual_feasibility_tolerance"), SOLVER_TOLERANCE)
    for name, value in (settings | tolerances).items():
        solver.setOptionValue(name, value)
    return solver


def _load(solver: Any, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray) -> None:
    """Give the solver new bounds and rows."""
    import highspy

    count, columns = len(rows), len(lower)
    solver.clearModel()
    solver.addVars(columns, lower, upper)
    starts, indices = np.arange(count) * columns, np.tile(np.arange(columns), count)
    solver.addRows(
        count,
        -rows[:, -1],
        np.full(count, highspy.kHighsInf),
        rows[:, :-1].size,
        starts.astype(np.int32),
        indices.astype(np.int32),
        np.ascontiguousarray(rows[:, :-1]).ravel(),
    )
    solver.changeObjectiveSense(highspy.ObjSense.kMaximize)


def _solve(solver: Any) -> tuple[float, np.ndarray | None]:
    """Solve, and return the maximum and where it is reached, or an infinite value and nothing."""
    from highspy import HighsModelStatus as Status

    solver.run()
    if solver.getModelStatus() != Status.kOptimal:  # the primal simplex can go astray; the dual decides
        solver.setOptionValue("simplex_strategy", DUAL_SIMPLEX)
        solver.clearSolver()
        solver.run()
        solver.setOptionValue("simplex_strategy", PRIMAL_SIMPLEX)
    status = solver.getModelStatus()
    if status == Status.kOptimal:
        return solver.getObjectiveValue(), np.array(solver.getSolution().col_value)
    if status in (Status.kInfeasible, Status.kUnbounded):
        return (-math.inf if status == Status.kInfeasible else math.inf), None
    raise TranslationError(f"HiGHS ended a linear program with '{solver.modelStatusToString(status)}' instead of an optimum.")
