"""A map of the linear regions of a network in the plane, colored by what the network computes in them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.translation.three_layers.regions import Regions
from hf_untangle.translation.three_layers.restrictions import polygons

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@checked_arguments
def plot_regions(
    regions: Regions,
    data: Float[Tensor, "point 2"] | None = None,
    labels: Int[Tensor, " point"] | None = None,
    *,
    output: int = 0,
    names: tuple[str, str] = ("x0", "x1"),
    axes: Any = None,
) -> "Axes":
    """Draw the regions of a network with two inputs, or of a slice.

    The hue is the direction in which the output rises, the strength of the color is how steeply; regions
    with the same slope have the same color, and flat ones are white.

    Args:
        regions: The regions.
        data: Points to draw on top.
        labels: A class for each point.
        output: The number of the output whose slope is shown.
        names: Names of the two inputs.
        axes: Matplotlib axes to draw on; by default those of a new figure, `axes.figure`.

    Returns:
        The axes.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    shapes = [corners.numpy() for corners in polygons(regions)]
    colors = slope_colors(regions.models[:, output, :-1])
    axes = Figure(figsize=(6, 6), layout="constrained").subplots() if axes is None else axes
    axes.add_collection(PolyCollection(shapes, facecolors=colors, edgecolors="#444444", linewidths=0.4))
    (left, bottom), (right, top) = regions.box.lower.tolist(), regions.box.upper.tolist()
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=names[0], ylabel=names[1])
    axes.set_title(f"{len(regions)} linear regions, colored by the slope of output {output}")
    if data is not None:
        _draw_data(axes, data, labels)
    return axes


def slope_colors(slopes: Float[Tensor, "region 2"]) -> Float[np.ndarray, "region 3"]:
    """Choose a color for each slope.

    Args:
        slopes: The slope of one output in each region.

    Returns:
        RGB colors: hue from the direction, saturation from the length relative to the longest.
    """
    from matplotlib.colors import hsv_to_rgb

    x, y = slopes.numpy().T
    length = np.hypot(x, y)
    hue = np.arctan2(y, x) / (2 * np.pi) % 1.0
    saturation = 0.6 * np.sqrt(length / max(length.max(initial=0.0), np.finfo(float).tiny))
    return hsv_to_rgb(np.stack([hue, saturation, np.full_like(hue, 0.97)], axis=1))


def _draw_data(axes: Any, data: Tensor, labels: Tensor | None) -> None:
    """Draw points, with a marker for each class."""
    markers = "osD^vP*X"
    classes = [None] if labels is None else sorted(set(labels.tolist()))
    for number, label in enumerate(classes):
        chosen = data if labels is None else data[labels == label]
        axes.scatter(
            *chosen.numpy().T,
            s=14,
            marker=markers[number % len(markers)],
            color=f"C{number}" if labels is not None else "black",
            edgecolors="white",
            linewidths=0.5,
            label=None if label is None else f"class {label}",
        )
    if labels is not None:
        axes.legend(loc="upper right")
