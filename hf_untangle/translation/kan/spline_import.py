"""Layers of spline KANs read as piecewise linear layers, and the other way around.

A spline of order 1 is piecewise linear, with the nodes of its grid as knots. With a base function that is
piecewise linear too, nothing is lost on the way in; everything else is sampled, and between samples at a
distance h a straight line is off by at most h^2 / 8 max|phi''|. On the way out, what a spline layer cannot
hold are the end slopes: beyond its grid it falls to zero.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.translation.kan.knots import pad_knots, share_knots
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.kan.spline_kans import read_spline_layer


@checked_calls
@dataclass(frozen=True)
class ImportedLayer:
    """A piecewise linear layer that was read from a spline layer, and how far its edges may be off."""

    layer: PiecewiseLinearKANLayer
    """The layer."""
    error_bound: Float[Tensor, "output input"]
    """The largest difference of each edge within its grid, before rounding: 0 where it is read exactly."""
    __repr__ = fields_repr


@checked_arguments
@torch.no_grad()
def import_spline_layer(layer: Any, pieces: int = 16) -> ImportedLayer:
    """Read a layer of a spline KAN as a piecewise linear layer.

    The layers of a whole network are read one by one. An error at an edge reaches the outputs multiplied by
    the slopes of the edges behind it.

    Args:
        layer: A `KANLinear` of efficient-kan, a `KANLayer` of pykan, or any module with the same attributes.
        pieces: How many straight lines stand for a curve between two nodes of the grid, at least 1. What is
            straight there already is not divided.

    Returns:
        The layer in the dtype of the original, and the bound on its error, which falls with `pieces` squared.

    Raises:
        ConfigError: If `pieces` is less than 1.
    """
    if pieces < 1:
        raise ConfigError(f"A curve needs at least 1 straight piece between two nodes, got pieces={pieces}.")
    spline = read_spline_layer(layer)
    curvature = spline.curvature()
    pieces = pieces if curvature.any() else 1
    knots = _divided(spline.grid, pieces)
    if spline.base.kink is not None:
        knots = _with_kink(knots, spline.base.kink)
    values, slopes = spline(knots), [spline.base_weights * slope for slope in spline.base.slopes]
    parts = (part.to(layer.grid.dtype) for part in (knots.unsqueeze(0), values, *slopes))
    distance = spline.grid.diff().amax(-1) / pieces
    return ImportedLayer(PiecewiseLinearKANLayer(*parts), curvature * distance**2 / 8)


@checked_arguments
@torch.no_grad()
def export_grid(
    layer: PiecewiseLinearKANLayer, low: float, high: float, library: Literal["pykan", "efficient-kan"]
) -> dict[str, Tensor]:
    """Write a layer as the state dict of a spline layer of order 1, which equals it between `low` and `high`.

    It is loaded by `KANLayer(inputs, outputs, num=G, k=1)` of pykan or `KANLinear(inputs, outputs,
    grid_size=G, spline_order=1)` of efficient-kan, where G is the number of nodes in `grid` less 3. The base
    function gets no weight. These layers have no bias, so the one of this layer goes onto the edges from
    input node 0.

    Args:
        layer: The layer.
        low: The lower end of the range, below all knots.
        high: The upper end of the range, above all knots.
        library: Whose names to use.

    Returns:
        The state dict.

    Raises:
        ConfigError: If the range does not hold all knots, or the library is unknown.
    """
    if library not in STATE_DICTS:
        raise ConfigError(f"Grids can be exported to {', '.join(STATE_DICTS)}; got {library!r}.")
    shared = share_knots(layer)
    if not (low < shared.knots.min() and shared.knots.max() < high):
        first, last = shared.knots.min().item(), shared.knots.max().item()
        raise ConfigError(f"The range must hold all knots, from {first:g} to {last:g}; got {low:g} to {high:g}.")
    ends = [torch.full_like(shared.knots[0, :, :1], end) for end in (low, high)]
    nodes = torch.cat([ends[0], shared.knots[0], ends[1]], -1)
    values = shared.edge_outputs(nodes.T).permute(1, 2, 0)
    if shared.bias is not None:
        values[:, 0] += shared.bias.unsqueeze(-1)
    width = high - low  # how far beyond the range the outermost hats reach; any would do
    grid = torch.cat([ends[0] - width, nodes, ends[1] + width], -1)
    return STATE_DICTS[library](grid, values)


def _efficient_kan(grid: Tensor, values: Tensor) -> dict[str, Tensor]:
    """The parts of a KANLinear."""
    edges = values[..., 0]
    return {
        "grid": grid,
        "spline_weight": values,
        "spline_scaler": torch.ones_like(edges),
        "base_weight": torch.zeros_like(edges),
    }


def _pykan(grid: Tensor, values: Tensor) -> dict[str, Tensor]:
    """The parts of a KANLayer, whose first axis is the input."""
    edges = values[..., 0].T
    return {
        "grid": grid,
        "coef": values.transpose(0, 1),
        "scale_sp": torch.ones_like(edges),
        "scale_base": torch.zeros_like(edges),
        "mask": torch.ones_like(edges),
    }


STATE_DICTS = {"pykan": _pykan, "efficient-kan": _efficient_kan}
"""How each library names the parts of a spline layer."""


def _divided(grid: Float[Tensor, "input node"], pieces: int) -> Float[Tensor, "input knot"]:
    """All nodes, and between any two of them as many more as make equal pieces."""
    inside = torch.arange(pieces).to(grid) / pieces
    starts = grid[:, :-1, None] + grid.diff().unsqueeze(-1) * inside
    return torch.cat([starts.flatten(1), grid[:, -1:]], -1)


def _with_kink(knots: Float[Tensor, "input knot"], kink: float) -> Float[Tensor, "input more_knots"]:
    """A knot more at the kink, in all rows that do not have one there up to the rounding of float32 grids."""
    close = 1e-5 * knots.diff().amin()
    here = torch.tensor([kink]).to(knots)
    rows = [row if (row - kink).abs().min() < close else torch.cat([row, here]).sort().values for row in knots]
    return pad_knots(rows)
