"""All linear regions of a network in a box: what cuts them out, and what the network computes in each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.errors import BudgetError
from hf_untangle.translation.three_layers.boxes import Box
from hf_untangle.translation.three_layers.network import ReluNetwork
from hf_untangle.translation.three_layers.region_tree import Boundary, Leaf

Stopped = Literal["max_regions", "max_seconds"]

MAX_MEMBERSHIP = 2**32
"""Largest membership matrix that is made, in bytes."""


@checked_calls
@dataclass(frozen=True, eq=False, repr=False)
class Regions:
    """Linear regions that share their boundaries. If complete, every point x of the box lies in exactly one.

    A region is where, for each of its tests, boundary . (x, 1) > 0 (side 1) or <= 0 (side -1). Regions
    are in the order of the search tree: those on the active side of a boundary come before those on the
    other.
    """

    network: ReluNetwork
    """The network they are regions of."""
    box: Box
    """The box that was searched. Outside it a region's local model may differ from the network."""
    boundaries: Float[Tensor, "boundary coordinate"]
    """Rows (a, c): the pre-activation of one neuron, as a function of the input, in some of the regions."""
    neurons: Int[Tensor, "boundary 2"]
    """The layer and the number of that neuron."""
    tests: Int[Tensor, "test 2"]
    """All tests, region after region: the number of the boundary and the side."""
    test_counts: Int[Tensor, " region"]
    """How many of the tests belong to each region."""
    patterns: Bool[Tensor, "region all_neurons"]
    """The activation pattern of each region."""
    models: Float[Tensor, "region output coordinate"]
    """The local linear model of each region, one row (slope, intercept) for each output."""
    points: Float[Tensor, "region input"]
    """A point inside each region."""
    stopped: Stopped | None
    """Which limit ended the search early, if one did. The regions found until then are right."""

    def __len__(self) -> int:
        """Count the regions."""
        return len(self.patterns)

    def __repr__(self) -> str:
        """Say how many there are, and whether these are all."""
        end = "complete" if self.complete else f"stopped by {self.stopped} after {self.explored:.2%} of the tree"
        return f"Regions({len(self)} regions, {len(self.boundaries)} boundaries, {end})"

    @property
    def complete(self) -> bool:
        """Whether these are all regions of the network in the box."""
        return self.stopped is None

    @property
    def explored(self) -> float:
        """The share of the search tree that was walked through, where each split halves a share."""
        return float((0.5 ** self.test_counts.double()).sum())

    def tests_of(self, region: int) -> Int[Tensor, "test 2"]:
        """Look up what cuts out one region.

        Args:
            region: Its number.

        Returns:
            Boundaries and sides, in the order of the network.
        """
        start = int(self.test_counts[:region].sum())
        return self.tests[start : start + int(self.test_counts[region])]

    def membership(self) -> Int8[Tensor, "region boundary"]:
        """Write the tests as a matrix: the side of each boundary that a region is on, 0 if it does not
        matter.

        Returns:
            The matrix.

        Raises:
            BudgetError: It would have more than `MAX_MEMBERSHIP` entries.
        """
        if len(self) * len(self.boundaries) > MAX_MEMBERSHIP:
            raise BudgetError(
                f"{len(self)} regions with {len(self.boundaries)} boundaries are too many to write as one "
                "matrix. Take a smaller box."
            )
        matrix = torch.zeros(len(self), len(self.boundaries), dtype=torch.int8)
        regions = torch.arange(len(self)).repeat_interleave(self.test_counts)
        matrix[regions, self.tests[:, 0]] = self.tests[:, 1].to(torch.int8)
        return matrix

    def locate(self, x: Float[Tensor, "point ..."]) -> Int[Tensor, " point"]:
        """Find the region of each point, from the root of the search tree down.

        Args:
            x: Points.

        Returns:
            The number of the one region whose tests all hold; -1 if the search was stopped before it was
            found.
        """
        coordinates = self.network.homogeneous(x)
        found = torch.full((len(x),), -1)
        starts = (self.test_counts.cumsum(0) - self.test_counts).tolist()
        stack = [(torch.arange(len(x)), 0, len(self), 0)] if len(self) else []
        while stack:
            points, first, last, depth = stack.pop()
            if depth == self.test_counts[first]:
                found[points] = first
                continue
            test = torch.tensor(starts[first:last]) + depth
            middle = first + int((self.tests[test, 1] > 0).sum())  # the active side comes first
            active = coordinates[points] @ self.boundaries[self.tests[test[0], 0]] > 0
            children = (points[active], first, middle), (points[~active], middle, last)
            stack += [(*child, depth + 1) for child in children if len(child[0]) and child[1] < child[2]]
        return found


def gather_regions(network: ReluNetwork, box: Box, leaves: Iterable[Leaf], stopped: Stopped | None) -> Regions:
    """Put the leaves of a search together.

    Args:
        network: The network that was searched.
        box: The box that was searched.
        leaves: What was found.
        stopped: Which limit ended the search, if one did.

    Returns:
        The regions, in the same order, with each boundary once.
    """
    leaves = list(leaves)
    boundaries: dict[tuple[int, int, bytes], tuple[int, Boundary]] = {}
    tests = []
    for boundary, side in (test for leaf in leaves for test in leaf.tests):
        key = (boundary.layer, boundary.neuron, boundary.below)
        number, _ = boundaries.setdefault(key, (len(boundaries), boundary))
        tests.append((number, side))
    kept = [boundary for _, boundary in boundaries.values()]
    return Regions(
        network=network,
        box=box,
        boundaries=_stack([torch.from_numpy(b.row) for b in kept], (0, network.inputs + 1)),
        neurons=torch.tensor([(b.layer, b.neuron) for b in kept], dtype=torch.long).reshape(-1, 2),
        tests=torch.tensor(tests, dtype=torch.long).reshape(-1, 2),
        test_counts=torch.tensor([len(leaf.tests) for leaf in leaves], dtype=torch.long),
        patterns=_stack([torch.from_numpy(leaf.pattern) for leaf in leaves], (0, network.neurons)).bool(),
        models=_stack([torch.from_numpy(leaf.model) for leaf in leaves], (0, network.outputs, network.inputs + 1)),
        points=_stack([torch.from_numpy(leaf.point[:-1]) for leaf in leaves], (0, network.inputs)),
        stopped=stopped,
    )


def _stack(tensors: list[Tensor], empty: tuple[int, ...]) -> Tensor:
    """Stack tensors, of which there may be none."""
    return torch.stack(tensors) if tensors else torch.zeros(empty, dtype=torch.float64)
