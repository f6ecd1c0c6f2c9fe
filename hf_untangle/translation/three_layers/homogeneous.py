"""The algebra of homogeneous coordinates: affine maps are matrix products, half-spaces are rows.

Nothing here needs torch, so that the processes of a search start fast.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

Array = TypeVar("Array", bound=Any)

Row = Float[np.ndarray, " coordinate"]
"""A half-space a . x + c > 0 or >= 0, as (a, c)."""

Rows = Float[np.ndarray, "row coordinate"]
"""Several half-spaces."""

Point = Float[np.ndarray, " coordinate"]
"""A point x, as (x, 1)."""


def mix(weights: Mapping[int, Array], values: Sequence[Array]) -> Array:
    """Apply an affine map of several sources, `sum over sources s of values[s] @ weights[s].T`.

    Args:
        weights: A matrix (output, source) for each source it reads, as torch tensors or numpy arrays.
        values: A matrix (row, source) for each source, of the same kind.

    Returns:
        The result, (row, output).
    """
    return reduce(operator.add, (values[source] @ weight.T for source, weight in weights.items()))


def unit(rows: Rows) -> Rows:
    """Scale rows (a, c) to |a| = 1, so that a . x + c is the signed distance to the hyperplane.

    Args:
        rows: The rows.

    Returns:
        Scaled rows; those with a = 0 stay as they are.
    """
    # Divided by the largest entry first, as squares of very small or large ones leave the range of floating point.
    largest = np.abs(rows[:, :-1]).max(axis=1, initial=0.0)[:, None]
    rows = rows / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(rows[:, :-1], axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def in_frame(rows: Rows, origin: Float[np.ndarray, " input"], scale: Float[np.ndarray, " input"]) -> Rows:
    """Write rows (a, c) as functions of t, where x = origin + scale t.

    Args:
        rows: The rows.
        origin: The point where t is 0.
        scale: The unit of t along each input.

    Returns:
        Rows with the same values at the same points.
    """
    return np.concatenate([rows[:, :-1] * scale, (rows[:, :-1] @ origin + rows[:, -1])[:, None]], axis=1)
