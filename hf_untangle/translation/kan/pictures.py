"""Pictures of KANs: the functions on their edges as small multiples, and whole small networks.

Figures are made without pyplot, so nothing stays open: save one with `figure.savefig("edges.png")`.
"""

from collections.abc import Sequence
from itertools import pairwise, product

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError
from hf_untangle.translation.kan.activation_layers import KANLayer, kan_layers
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear

LINE, KNOT, DATA = "#1f5fa8", "#d1495b", "#d5dae1"
"""The colors of functions, of knots, and of the histogram of the data."""

MOST_EDGES = 400
"""With more edges than this, no picture shows anything."""


@checked_arguments
@torch.no_grad()
def plot_edges(layer: KANLayer, x: Float[Tensor, "token input"], outputs: Sequence[int], inputs: Sequence[int]) -> Figure:
    """Draw the functions on some edges of a layer, one small plot each, with one axis of values for all.

    Each function is drawn over the range of its input node on data, in front of a histogram of that, with a
    dot at every knot.

    Args:
        layer: The layer.
        x: The input nodes on data.
        outputs: Which output nodes to draw, a row each.
        inputs: Which input nodes to draw, a column each.

    Returns:
        The figure.

    Raises:
        ConfigError: If there are no edges to draw, or too many.
    """
    if fault := _fault_of_count(len(outputs) * len(inputs)):
        raise ConfigError(fault)
    figure = Figure((1 + 1.5 * len(inputs), 0.6 + 1.3 * len(outputs)), layout="constrained")
    grid = figure.subplots(len(outputs), len(inputs), sharex="col", sharey=True, squeeze=False)
    for (row, j), (column, i) in product(enumerate(outputs), enumerate(inputs)):
        axes = grid[row, column]
        _draw_histogram(axes, x[:, i])
        _draw_function(axes, layer, j, i, x[:, i], LINE)
        axes.tick_params(labelsize=6)
        axes.label_outer()
        axes.set_xlabel(f"input {i}" if row == len(outputs) - 1 else "", fontsize=8)
        axes.set_ylabel(f"output {j}" if column == 0 else "", fontsize=8)
    return figure


@checked_arguments
@torch.no_grad()
def plot_network(kan: nn.Module, x: Float[Tensor, "token input"]) -> Figure:
    """Draw a small KAN as a network: inputs at the bottom, and every edge with its function on it.

    The stronger an edge on data, the darker it is: its strength is the standard deviation of what it gives,
    as a share of the strongest in its layer.

    Args:
        kan: One KAN layer, or a Sequential of them.
        x: Inputs of the network.

    Returns:
        The figure.

    Raises:
        ConfigError: If there are too many edges for a picture.
    """
    layers = kan_layers(kan)
    widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
    edges = [n * m for n, m in pairwise(widths)]
    if fault := _fault_of_count(sum(edges)):
        raise ConfigError(fault)
    figure = Figure((min(40.0, 1 + 0.75 * max(edges)), 2.2 * len(layers) + 0.4))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(-0.1, len(layers) + 0.1))
    axes.set_axis_off()
    for level, layer in enumerate(layers):
        _draw_layer(axes, layer, x, level)
        x = layer(x)
    for level, width in enumerate(widths):
        axes.scatter(_places(width), [level] * width, s=40, color="black", zorder=3)
    return figure


def _draw_layer(axes: Axes, layer: KANLayer, x: Tensor, level: int) -> None:
    """Draw the edges between two levels of nodes, each through a box with its function."""
    strengths = layer.edge_outputs(x).std(0)
    strengths = (strengths / strengths.max().clamp(min=torch.finfo(strengths.dtype).tiny)).tolist()
    below, above = _places(layer.in_features), _places(layer.out_features)
    boxes = _places(layer.in_features * layer.out_features)
    for box, (i, j) in zip(boxes, product(range(len(below)), range(len(above))), strict=True):
        grey = str(0.85 * (1 - strengths[j][i]))
        axes.plot([below[i], box, box, above[j]], [level, level + 0.35, level + 0.65, level + 1], color=grey)
        inset = axes.inset_axes((box - 0.4 / len(boxes), level + 0.38, 0.8 / len(boxes), 0.24), transform=axes.transData)
        inset.set(xticks=[], yticks=[], facecolor="white")
        inset.spines[:].set_color(grey)
        _draw_function(inset, layer, j, i, x[:, i], grey)


def _draw_function(axes: Axes, layer: KANLayer, j: int, i: int, data: Tensor, color: str) -> None:
    """Draw one edge over the range of the data, with a dot at every knot."""
    edge, low, high = layer.edge(j, i), data.min(), data.max()
    points = torch.linspace(low.item(), high.item(), 201).to(data)
    if isinstance(edge, PiecewiseLinear):
        knots = edge.knots[(edge.knots > low) & (edge.knots < high)]
        points = torch.cat([points, knots]).sort().values
        axes.plot(knots.tolist(), edge(knots).tolist(), ".", color=KNOT, markersize=3, zorder=3)
    axes.plot(points.tolist(), edge(points).tolist(), color=color, linewidth=1.2)


def _draw_histogram(axes: Axes, data: Tensor) -> None:
    """Draw behind a function where its inputs are."""
    behind = axes.twinx()
    behind.hist(data.tolist(), bins=30, color=DATA)
    behind.set_yticks([])
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def _places(count: int) -> list[float]:
    """Places for so many things next to each other, from 0 to 1."""
    return [(index + 0.5) / count for index in range(count)]


def _fault_of_count(edges: int) -> str | None:
    """Say why so many edges make no picture."""
    if 0 < edges <= MOST_EDGES:
        return None
    return f"A picture shows 1 to {MOST_EDGES} edges, got {edges}. Choose the strongest, with strongest_edges."
