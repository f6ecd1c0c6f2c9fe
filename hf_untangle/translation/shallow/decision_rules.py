"""A network as a table of rules, one for each linear region, those with the most data first."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.translation.shallow.regions import Regions
from hf_untangle.translation.shallow.rules import Rule, rule_at


@dataclass(frozen=True, eq=False)
class DecisionRule:
    """One row of the table."""

    region: int
    """The number of the region."""
    points: int | None
    """How many points of the data are in it, if data was given."""
    rule: Rule
    """Its conditions in the box, and its local model."""


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
