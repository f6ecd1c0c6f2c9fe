"""The nearest input for which a network answers differently, over all its linear regions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError, MissingExtraError
from hf_untangle.translation.three_layers.homogeneous import Rows, unit
from hf_untangle.translation.three_layers.regions import Regions

FEASIBLE = 1e-3
"""A possible step, in units of the longest one, leaves a residual of at least 0.7, an impossible one of 0."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Counterfactual:
    """The nearest point of a box at which the network has a wanted outcome."""

    point: Float[Tensor, "..."]
    """The point, of the shape of one input."""
    distance: float
    """Its Euclidean distance: every point of the box that is nearer has another outcome."""
    region: int
    """The number of its region."""
    output: Float[Tensor, "..."]
    """What the network says there."""
    searched: int
    """How many regions were searched; all others are farther away than the point."""
    __repr__ = fields_repr


@checked_arguments
def class_is(label: int, classes: int, margin: float = 0.0) -> Float[Tensor, "condition coordinate"]:
    """Want one class to win.

    Args:
        label: The class.
        classes: How many classes there are.
        margin: By how much its output must exceed each other one.

    Returns:
        Conditions y_label - y_other - margin >= 0, as rows in homogeneous coordinates of the output.
    """
    others = [other for other in range(classes) if other != label]
    rows = torch.zeros(len(others), classes + 1, dtype=torch.float64)
    rows[:, label], rows[:, -1] = 1.0, -margin
    rows[range(len(others)), others] = -1.0
    return rows


@checked_arguments
def output_between(lower: float, upper: float, output: int = 0, outputs: int = 1) -> Float[Tensor, "condition coordinate"]:
    """Want one output to be in a range.

    Args:
        lower: Its smallest value; -inf for none.
        upper: Its largest value; inf for none.
        output: The number of the output.
        outputs: How many outputs there are.

    Returns:
        Conditions y - lower >= 0 and upper - y >= 0, as rows in homogeneous coordinates of the output.
    """
    rows = torch.zeros(2, outputs + 1, dtype=torch.float64)
    rows[:, output] = torch.tensor([1.0, -1.0])
    rows[:, -1] = torch.tensor([-lower, upper])
    return rows[rows[:, -1].isfinite()]


@checked_arguments
def nearest_counterfactual(
    regions: Regions, x: Float[Tensor, "..."], wanted: Float[Tensor, "condition coordinate"]
) -> Counterfactual | None:
    """Find the nearest point of the box with a wanted outcome.

    In each region the conditions are half-spaces of the input, so the nearest point is a least-distance
    problem. Regions are searched in the order of a lower bound, the distance to the farthest of their
    violated half-spaces, until the bound is beyond the best point found.

    Args:
        regions: All regions of a network in a box.
        x: A point, one input without the batch.
        wanted: Conditions row . (y, 1) >= 0 on the output, as `class_is` and `output_between` make them.

    Returns:
        The counterfactual, or None if no point of the box has the outcome.

    Raises:
        ConfigError: The regions do not cover their box, or the conditions are not of this network's outputs.
    """
    if not regions.complete:
        raise ConfigError(
            f"The search for regions stopped at {regions.stopped}, so the nearest point cannot be known. "
            "Raise the limit, or take a smaller box."
        )
    if wanted.shape[1] != regions.network.outputs + 1:
        raise ConfigError(
            f"Each condition must have {regions.network.outputs + 1} numbers, one for each output and a "
            f"constant, got {wanted.shape[1]}."
        )
    start = regions.network.homogeneous(x[None])[0].numpy()
    best, found, searched = np.inf, None, 0
    bounds, longest = _lower_bounds(regions, start, wanted), _longest_step(regions, start)
    for region in bounds.argsort().tolist():
        if bounds[region] >= best:
            break
        searched += 1
        step = shortest_step(_half_spaces(regions, region, wanted), start, longest)
        if step is not None and np.linalg.norm(step) < best:
            best, found = float(np.linalg.norm(step)), (region, start[:-1] + step)
    return None if found is None else _result(regions, *found, best, searched)


def shortest_step(rows: Rows, start: Float[np.ndarray, " coordinate"], longest: float) -> Float[np.ndarray, " input"] | None:
    """Find the shortest way from a point into a polytope, as a non-negative least-squares problem.

    To minimize |d| such that G d >= h, solve min |E u - e_last| over u >= 0 with E = (G^T; h^T). With the
    residual r, the way is d = -r / r_last without its last entry, and there is none if r = 0 (Lawson and
    Hanson 1974).

    Args:
        rows: Half-spaces (a, c), for a . x + c >= 0, that bound the polytope.
        start: The point (x, 1).
        longest: No step to a point of the polytope is longer than this.

    Returns:
        The step d, or None if the polytope is empty.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise MissingExtraError("Counterfactuals need scipy. Install it with: pip install 'hf-untangle[translate]'") from error
    rows = unit(rows)
    system = np.concatenate([rows[:, :-1].T, -(rows @ start)[None] / longest])
    target = np.append(np.zeros(len(system) - 1), 1.0)
    residual = system @ nnls(system, target)[0] - target
    if np.linalg.norm(residual) < FEASIBLE:
        return None
    return -longest * residual[:-1] / residual[-1]


def _longest_step(regions: Regions, start: np.ndarray) -> float:
    """Bound the way to any point of the box."""
    lower, upper = regions.box.lower.numpy(), regions.box.upper.numpy()
    return float(np.linalg.norm(np.maximum(start[:-1] - lower, upper - start[:-1])))


def _half_spaces(regions: Regions, region: int, wanted: Tensor) -> Rows:
    """Write a region, the box and the outcome as half-spaces of the input."""
    boundaries, sides = regions.tests_of(region).T
    identity = torch.eye(regions.network.inputs, dtype=torch.float64)
    box = [
        torch.cat([identity, -regions.box.lower[:, None]], dim=1),
        torch.cat([-identity, regions.box.upper[:, None]], dim=1),
    ]
    tests = regions.boundaries[boundaries] * sides[:, None]
    return torch.cat([tests, *box, _outcome(regions.models[region], wanted)]).numpy()


def _outcome(models: Tensor, wanted: Tensor) -> Tensor:
    """Write conditions on the output as half-spaces of the input: put the local model in for y."""
    constant = torch.zeros_like(models[..., :1, :])
    constant[..., -1] = 1.0
    return wanted @ torch.cat([models, constant], dim=-2)


def _lower_bounds(regions: Regions, start: np.ndarray, wanted: Tensor) -> Float[np.ndarray, " region"]:
    """Find each region's violated half-space that is farthest from the point."""
    distance = torch.from_numpy(unit(regions.boundaries.numpy()) @ start)
    violation = -distance[regions.tests[:, 0]] * regions.tests[:, 1]
    number = torch.arange(len(regions)).repeat_interleave(regions.test_counts)
    of_tests = torch.zeros(len(regions), dtype=torch.float64).scatter_reduce(0, number, violation, "amax")
    outcomes = _outcome(regions.models, wanted)
    rows = unit(outcomes.flatten(0, 1).numpy()) @ start
    return np.maximum(of_tests.numpy(), -rows.reshape(outcomes.shape[:2]).min(axis=1))


def _result(regions: Regions, region: int, point: np.ndarray, distance: float, searched: int) -> Counterfactual:
    """Evaluate the network at the point found."""
    x = torch.from_numpy(point).reshape(regions.network.input_shape)
    return Counterfactual(x, distance, region, regions.network(x[None])[0], searched)
