"""A network on a line or a plane through its input space, where all its linear regions are found quickly.

A slice x = origin + t_1 d_1 + ... is affine in t, so a network on a slice is a network of t. On a segment
every neuron's sign changes are roots of linear functions, found for all pieces at once, layer after
layer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.cells import PolygonProber
from hf_untangle.translation.three_layers.homogeneous import mix
from hf_untangle.translation.three_layers.network import ReluNetwork
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.regions import Regions


@checked_calls
@dataclass(frozen=True, eq=False)
class Pieces:
    """The linear pieces of a network on the segment x = start + t (end - start), 0 <= t <= 1."""

    breakpoints: Float[Tensor, " piece_plus_1"]
    """Where pieces begin and end: from 0 to 1, ascending."""
    models: Float[Tensor, "piece output 2"]
    """The output on each piece, slope x t + intercept for each output."""
    patterns: Bool[Tensor, "piece all_neurons"]
    """The activation pattern on each piece."""
    __repr__ = fields_repr

    @property
    def middles(self) -> Float[Tensor, " piece"]:
        """The middle of each piece."""
        return (self.breakpoints[1:] + self.breakpoints[:-1]) / 2

    @property
    def lengths(self) -> Float[Tensor, " piece"]:
        """The length of each piece, in t."""
        return self.breakpoints.diff()


@checked_arguments
def restrict(
    network: nn.Module | ReluNetwork,
    origin: Float[Tensor, "..."],
    directions: Float[Tensor, "direction ..."],
) -> ReluNetwork:
    """Restrict a network to a slice of its input space.

    The regions of a plane are then `enumerate_regions(restrict(network, origin, directions), box)`.

    Args:
        network: The network, or a module that `read_network` can read.
        origin: One input, where all coordinates of the slice are 0.
        directions: What one step along each coordinate of the slice adds to the input.

    Returns:
        The network t -> network(origin + sum_k t_k directions[k]).

    Raises:
        ConfigError: The origin or the directions do not have the shape of an input.
    """
    network = read_network(network)
    if origin.shape != network.input_shape or directions.shape[1:] != network.input_shape:
        raise ConfigError(
            f"The origin and each direction must have the shape {network.input_shape} of an input, got "
            f"{tuple(origin.shape)} and {tuple(directions.shape[1:])}."
        )
    steps = torch.cat([directions.reshape(len(directions), -1), torch.zeros(len(directions), 1)], dim=1)
    frame = torch.cat([steps.to(network.output[0]), network.homogeneous(origin[None])]).T
    framed = [weights | {0: weights[0] @ frame} for weights in map(dict, (*network.layers, network.output))]
    return ReluNetwork((len(directions),), network.output_shape, tuple(framed[:-1]), network.names, framed[-1])


@checked_arguments
def segment(network: nn.Module | ReluNetwork, start: Float[Tensor, "..."], end: Float[Tensor, "..."]) -> Pieces:
    """Find the linear pieces of a network along a segment.

    Args:
        network: The network, or a module that `read_network` can read.
        start: The input at t = 0.
        end: The input at t = 1.

    Returns:
        The pieces.
    """
    network = read_network(network)
    start, end = start.to(network.output[0]), end.to(network.output[0])  # before the difference rounds
    line = restrict(network, start, (end - start)[None])
    ends = line.output[0].new_tensor([0.0, 1.0])
    t, values, patterns = torch.eye(2).to(ends)[None], [], [torch.zeros(1, 0, dtype=torch.bool)]
    for weights in line.layers:
        z = mix(weights, [t, *values])  # piece, (slope, intercept), neuron
        ends, piece = _split_at_roots(ends, z)
        middles = (ends[1:] + ends[:-1])[:, None] / 2
        active = z[piece, 0] * middles + z[piece, 1] > 0
        values = [*(value[piece] for value in values), z[piece] * active[:, None]]
        patterns = [*(pattern[piece] for pattern in patterns), active]
    models = mix(line.output, [t, *values]).mT
    return Pieces(ends, models, torch.cat(patterns, dim=1))


@checked_arguments
def polygons(regions: Regions) -> list[Float[Tensor, "_ 2"]]:
    """Find the corners of regions in the plane.

    Args:
        regions: Regions of a network with two inputs, for instance of a slice.

    Returns:
        The corners of each region in its box, in order around it.

    Raises:
        ConfigError: The network does not have two inputs.
    """
    if regions.network.inputs != 2:
        raise ConfigError(
            f"Only regions of a network with two inputs are polygons, got one with "
            f"{regions.network.inputs}. Take a slice: restrict(network, origin, directions)."
        )
    return [_polygon(regions, number) for number in range(len(regions))]


def _split_at_roots(ends: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Cut pieces where one of their linear functions is 0; also say which piece each new one is part of."""
    roots = -z[:, 1] / z[:, 0]
    inside = (roots > ends[:-1, None]) & (roots < ends[1:, None])
    cut = torch.cat([ends, roots[inside]]).unique()  # sorted, too
    return cut, torch.searchsorted(ends, cut[:-1], right=True) - 1


def _polygon(regions: Regions, number: int) -> Tensor:
    """Cut the box by the tests of one region."""
    polygon = PolygonProber(regions.box.lower.numpy(), regions.box.upper.numpy()).box()
    for boundary, side in regions.tests_of(number).tolist():
        polygon = polygon.part(side * regions.boundaries[boundary].numpy())
    return torch.from_numpy(polygon.corners[:, :2])
