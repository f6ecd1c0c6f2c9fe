"""What a network does around a point, as a rule: while these inequalities hold, the output is this sum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.translation.three_layers.boxes import Bounds, box_of
from hf_untangle.translation.three_layers.cells import TOLERANCE
from hf_untangle.translation.three_layers.homogeneous import Rows, in_frame, unit
from hf_untangle.translation.three_layers.linear_programs import Polytope
from hf_untangle.translation.three_layers.network import ReluNetwork, activation_pattern, half_spaces, local_model
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.regions import Regions

MAX_TERMS = 8
"""How many terms of a sum are written out, largest first."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Rule:
    """A linear region in as few inequalities as possible, and the network's local model there."""

    model: Float[Tensor, "output coordinate"]
    """The output while the rule holds, one row (slope, intercept) for each."""
    rows: Float[Tensor, "condition coordinate"]
    """The pre-activations (a, c) whose signs matter; all other neurons follow from them."""
    active: Bool[Tensor, " condition"]
    """Whether a . x + c > 0 (or <= 0) is the condition."""
    neurons: Int[Tensor, "condition 2"]
    """The layer and the number of each neuron."""
    layer_names: tuple[str, ...]
    """The module that each layer came from."""
    distance: float
    """How far the point is from the nearest of the conditions, inf if there is none."""
    __repr__ = fields_repr

    def words(self, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> str:
        """Write the rule out.

        Args:
            inputs: Names of the inputs, by default x0, x1, ...
            outputs: Names of the outputs, by default y0, y1, ...

        Returns:
            Some lines of text.
        """
        results = [f"  {line}" for line in self.results(inputs, outputs)]
        if not len(self.rows):
            return "\n".join(["Everywhere", *results])
        conditions = [f"  {line}    ({reason})" for line, reason in zip(self.conditions(inputs), self._reasons(), strict=True)]
        nearest = f"The nearest boundary is {self.distance:.4g} away."
        return "\n".join(["While", *conditions, "the network computes", *results, nearest])

    def _reasons(self) -> list[str]:
        """Say which neuron each condition comes from."""
        return [
            f"neuron {neuron} of {self.layer_names[layer]} is {'active' if active else 'inactive'}"
            for active, (layer, neuron) in zip(self.active, self.neurons.tolist(), strict=True)
        ]

    def conditions(self, inputs: Sequence[str] = ()) -> list[str]:
        """Write the conditions as inequalities.

        Args:
            inputs: Names of the inputs, by default x0, x1, ...

        Returns:
            One line for each.
        """
        return [f"{_sum(row, inputs)} {'>' if active else '<='} 0" for row, active in zip(self.rows, self.active, strict=True)]

    def results(self, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> list[str]:
        """Write the local model as equations.

        Args:
            inputs: Names of the inputs, by default x0, x1, ...
            outputs: Names of the outputs, by default y0, y1, ...

        Returns:
            One line for each output.
        """
        outputs = outputs or [f"y{i}" for i in range(len(self.model))]
        return [f"{name} = {_sum(row, inputs)}" for name, row in zip(outputs, self.model, strict=True)]


@checked_arguments
def rule_at(network: nn.Module | ReluNetwork, x: Float[Tensor, "..."], box: Bounds | None = None) -> Rule:
    """Explain a network around one point.

    Args:
        network: The network, or a module that `read_network` can read.
        x: The point, one input without the batch.
        box: Leave out conditions that hold all over this box; by default all of the input space.

    Returns:
        The rule that holds at the point. Each condition is needed: without it, the others allow a part of the
        space (or box) where a neuron has another sign.
    """
    network = read_network(network)
    pattern = activation_pattern(network, x[None])[0]
    rows = half_spaces(network, pattern)
    sides = torch.where(pattern, 1.0, -1.0)[:, None]
    point = network.homogeneous(x[None])[0].numpy()
    kept = torch.from_numpy(irredundant((rows * sides).numpy(), *_limits(network, box), point[:-1]))
    distances = (unit(rows[kept].numpy()) @ point)[:, None]
    return Rule(
        model=local_model(network, pattern),
        rows=rows[kept],
        active=pattern[kept],
        neurons=_places(network)[kept],
        layer_names=network.names,
        distance=float(np.abs(distances).min(initial=np.inf)),
    )


def irredundant(
    rows: Rows,
    lower: Float[np.ndarray, " input"],
    upper: Float[np.ndarray, " input"],
    inside: Float[np.ndarray, " input"] | None = None,
) -> Int[np.ndarray, " kept"]:
    """Find the half-spaces that a polytope needs: those that reach beyond it when they are left out.

    How far is beyond is decided in units in which the box is the cube from -1 to 1 or, where it is not bounded, half of the
    hyperplanes are farther than 1 from the inner point.

    Args:
        rows: Half-spaces (a, c), for a . x + c >= 0.
        lower: Smallest value of each input; -inf is allowed.
        upper: Largest value of each input; inf is allowed.
        inside: A point of the polytope; the origin unless given.

    Returns:
        The numbers of the rows that are needed, ascending.
    """
    origin, scale = _frame(rows, lower, upper, np.zeros(len(lower)) if inside is None else inside)
    rows, polytope = unit(in_frame(rows, origin, scale)), Polytope((lower - origin) / scale, (upper - origin) / scale)
    needed = [number for number in range(len(rows)) if rows[number, :-1].any()]
    for number in list(needed):
        others = [other for other in needed if other != number]
        polytope.constrain(rows[others])
        if polytope.farthest(-rows[number])[0] <= TOLERANCE:
            needed = others
    return np.array(needed, dtype=np.int64)


@checked_arguments
def boundary_distance(network: nn.Module | ReluNetwork, x: Float[Tensor, "point ..."]) -> Float[Tensor, " point"]:
    """Measure how far points are from the boundary of their linear region, min over neurons of |h| / |a|.

    Args:
        network: The network, or a module that `read_network` can read.
        x: Points.

    Returns:
        Euclidean distances: within them the local model holds. inf in a network without boundaries.
    """
    network = read_network(network)
    rows = half_spaces(network, activation_pattern(network, x))
    values = (rows @ network.homogeneous(x)[:, :, None])[..., 0].abs()
    largest = rows[..., :-1].abs().sum(dim=-1)  # squares may be too small or too large for a number
    norms = (rows[..., :-1] / torch.where(largest > 0, largest, 1.0)[..., None]).norm(dim=-1)
    distances = torch.where(norms > 0, values / largest / norms, torch.inf)
    return torch.cat([distances, distances.new_full((len(x), 1), torch.inf)], dim=1).amin(dim=1)


def _frame(rows: Rows, lower: np.ndarray, upper: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An origin, and a unit along each input: half a side of the box, or the median way to a hyperplane."""
    bounded = np.isfinite(upper - lower)
    values, slopes = np.abs(rows[:, :-1] @ inside + rows[:, -1])[:, None], np.abs(rows[:, :-1])
    ways = np.where((slopes > 0) & (values > 0), values / np.where(slopes > 0, slopes, 1.0), np.nan)
    known = ~np.isnan(ways).all(axis=0)
    scale = np.where(bounded, (upper - lower) / 2, 1.0)
    scale[known & ~bounded] = np.nanmedian(ways[:, known & ~bounded], axis=0)
    return np.where(bounded, lower + scale, inside), scale


def _limits(network: ReluNetwork, box: Bounds | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the corners of the box, or of all space."""
    if box is None:
        return np.full(network.inputs, -np.inf), np.full(network.inputs, np.inf)
    bounded = box_of(network, box)
    return bounded.lower.numpy(), bounded.upper.numpy()


def _places(network: ReluNetwork) -> Tensor:
    """Give the layer and the number of every neuron."""
    return torch.tensor(
        [(layer, neuron) for layer, width in enumerate(network.widths) for neuron in range(width)],
        dtype=torch.long,
    ).reshape(-1, 2)


def _sum(row: Tensor, names: Sequence[str]) -> str:
    """Write a . x + c with its largest terms."""
    names = names or [f"x{i}" for i in range(len(row) - 1)]
    slopes, constant = row[:-1].tolist(), float(row[-1])
    order = sorted((i for i, slope in enumerate(slopes) if slope), key=lambda i: -abs(slopes[i]))
    terms = [f"{slopes[i]:.4g} {names[i]}" for i in sorted(order[:MAX_TERMS])]
    terms += [f"({len(order) - MAX_TERMS} smaller terms)"] if len(order) > MAX_TERMS else []
    terms += [f"{constant:.4g}"] if constant or not terms else []
    return " + ".join(terms).replace("+ -", "- ")


@checked_calls
@dataclass(frozen=True, eq=False)
class DecisionRule:
    """One row of the table."""

    region: int
    """The number of the region."""
    points: int | None
    """How many points of the data are in it, if data was given."""
    rule: Rule
    """Its conditions in the box, and its local model."""
    __repr__ = fields_repr


@checked_arguments
def decision_rules(regions: Regions, data: Float[Tensor, "point ..."] | None = None, most: int = 20) -> list[DecisionRule]:
    """Write regions as rules.

    Args:
        regions: Regions of a network in a box.
        data: Points, to count how many each rule decides about.
        most: How many rules to write at most.

    Returns:
        The rules with the most points, or the first ones without data.
    """
    box = regions.box.lower, regions.box.upper
    if data is None:
        counts, order = [None] * len(regions), range(len(regions))
    else:
        found = regions.locate(data)
        count = found[found >= 0].bincount(minlength=len(regions))
        counts, order = count.tolist(), torch.argsort(count, descending=True, stable=True).tolist()
    return [
        DecisionRule(number, counts[number], rule_at(regions.network, _point(regions, number), box)) for number in order[:most]
    ]


@checked_arguments
def rules_table(rules: Sequence[DecisionRule], inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> str:
    """Write rules as a table.

    Args:
        rules: The rules.
        inputs: Names of the inputs, by default x0, x1, ...
        outputs: Names of the outputs, by default y0, y1, ...

    Returns:
        The table in Markdown.
    """
    lines = ["| region | points | while | the network computes |", "|---:|---:|---|---|"]
    for row in rules:
        points = "" if row.points is None else str(row.points)
        conditions = "<br>".join(row.rule.conditions(inputs)) or "always"
        results = "<br>".join(row.rule.results(inputs, outputs))
        lines.append(f"| {row.region} | {points} | {conditions} | {results} |")
    return "\n".join(lines)


def _point(regions: Regions, number: int) -> Tensor:
    """Give a point of a region the shape of an input."""
    return regions.points[number].reshape(regions.network.input_shape)
