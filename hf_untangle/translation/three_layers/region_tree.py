"""The tree of linear regions: an inner node asks for the sign of one neuron, a leaf is one linear region.

Neurons are asked in the order of the network. Below a node all earlier layers are affine, so the next
neuron's pre-activation is one row a . x + c. If it takes both signs in the node's cell, the node gets two
children that share this very row and ask for complementary sides, a . x + c > 0 and a . x + c <= 0. So every
point of the input space, on boundaries too, belongs to exactly one leaf.

Rows are kept as they are composed, in the units of the input. Whether one cuts a cell is decided in the units of the
box, which becomes the cube from -1 to 1: what counts as too thin is a share of the box, whatever its units.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int8

from hf_untangle.translation.three_layers.cells import Cell, Polygon, PolygonProber, Prober
from hf_untangle.translation.three_layers.homogeneous import Point, Row, Rows, in_frame, mix, unit

Maps = Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Boundary:
    """Where one neuron's pre-activation is 0, while the layers below it have one activation pattern."""

    layer: int
    neuron: int
    below: bytes
    """The activation pattern of all layers below."""
    row: Row
    """(a, c) of the pre-activation a . x + c as composed; scaling it would round it."""


Test = tuple[Boundary, int]
"""A boundary and the side taken: 1 where its neuron is active, -1 where it is not."""


@dataclass(frozen=True, eq=False)
class Node:
    """A cell in which all layers below the current one are affine."""

    cell: Cell | Polygon
    values: tuple[Float[np.ndarray, "coordinate _"], ...]
    """The input and the outputs of the layers below, as linear functions of (x, 1)."""
    rows: Rows
    """The pre-activations of the current layer, one row for each neuron."""
    unit_rows: Rows
    """The same rows as distances in the units of the box, in which the cell is known too."""
    signs: Int8[np.ndarray, " row"]
    """1 where a neuron is active all over the cell, -1 where it is inactive, 0 where that is not known."""
    pattern: Bool[np.ndarray, " neurons_below"]
    """The activation pattern of the layers below."""
    tests: tuple[Test, ...]
    """The boundaries met on the way from the root."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """A linear region, and what the network computes there."""

    pattern: Bool[np.ndarray, " neurons"]
    """Which neurons are active in it."""
    tests: tuple[Test, ...]
    """The boundaries met on the way from the root; all other neurons have one sign in the region."""
    model: Float[np.ndarray, "output coordinate"]
    """The local linear model, one row (slope, intercept) for each output."""
    point: Point
    """A point (x, 1) inside."""


class RegionTree:
    """Grows the tree of a network in a box, node by node."""

    def __init__(
        self,
        layers: tuple[Maps, ...],
        output: Maps,
        lower: Float[np.ndarray, " input"],
        upper: Float[np.ndarray, " input"],
    ) -> None:
        """Take the network and the box.

        Args:
            layers: The maps of `ReluNetwork.layers`.
            output: The map of `ReluNetwork.output`.
            lower: Smallest value of each input.
            upper: Largest value of each input.
        """
        self.layers, self.output = layers, output
        cube = np.ones(len(lower))
        self.prober: Any = PolygonProber(-cube, cube) if len(lower) == 2 else Prober(-cube, cube)
        self._center, self._half = (lower + upper) / 2, (upper - lower) / 2

    def root(self) -> Node | Leaf:
        """Start with the whole box.

        Returns:
            The root of the tree.
        """
        basis = np.eye(len(self._center) + 1)
        return self._enter_layer(self.prober.box(), (basis,), np.zeros(0, bool), ())

    def grow(self, node: Node) -> tuple[Node | Leaf, ...]:
        """Look one step further.

        Args:
            node: A node.

        Returns:
            Two children if a neuron of the current layer takes both signs in the cell. Otherwise the layer is
            affine there, and the one child is at the next layer, or is a leaf.
        """
        cell, signs = self.prober.decide(node.cell, node.unit_rows, node.signs)
        node = replace(node, cell=cell, signs=signs)
        undecided = np.flatnonzero(node.signs == 0)
        if len(undecided):
            return tuple(_child(node, int(undecided[0]), side) for side in (1, -1))
        active = node.signs > 0
        values = (*node.values, node.rows.T * active)
        return (self._enter_layer(node.cell, values, np.append(node.pattern, active), node.tests),)

    def leaves(self, start: Node | Leaf) -> Iterator[Leaf]:
        """Walk through a subtree, depth first.

        Args:
            start: Its root.

        Yields:
            Its leaves.
        """
        stack = [start]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf):
                yield node
            else:
                stack.extend(reversed(self.grow(node)))

    def _enter_layer(
        self,
        cell: Cell | Polygon,
        values: tuple[np.ndarray, ...],
        pattern: np.ndarray,
        tests: tuple[Test, ...],
    ) -> Node | Leaf:
        """Compose the next layer's pre-activations, or the output after the last layer."""
        layer = len(values) - 1
        if layer == len(self.layers):
            point = np.append(self._center + self._half * cell.point[:-1], 1.0)
            return Leaf(pattern, tests, mix(self.output, values).T, point)
        rows = mix(self.layers[layer], values).T
        in_box = in_frame(rows, self._center, self._half)
        return Node(cell, values, rows, unit(in_box), _signs_in_cube(in_box), pattern, tests)


def _signs_in_cube(rows: Rows) -> Int8[np.ndarray, " row"]:
    """Find the rows that have one sign in all of the cube, from their smallest and largest value there."""
    middle, reach = rows[:, -1], np.abs(rows[:, :-1]).sum(axis=1)
    return np.where(middle + reach <= 0, -1, np.where(middle - reach >= 0, 1, 0)).astype(np.int8)


def _child(node: Node, neuron: int, side: int) -> Node:
    """Take the part of a node on one side of a neuron's boundary."""
    boundary = Boundary(len(node.values) - 1, neuron, node.pattern.tobytes(), node.rows[neuron])
    signs = node.signs.copy()
    signs[neuron] = side
    cell = node.cell.part(side * node.unit_rows[neuron])
    return replace(node, cell=cell, signs=signs, tests=(*node.tests, (boundary, side)))
