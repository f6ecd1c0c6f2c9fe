"""The figure of density across widths: the prunable share and the core as networks get wider."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_untangle.arguments import checked_arguments
from hf_untangle.papers.scaling.scaling import ScalingResult
from hf_untangle.reporting.density import COLORS, MARKERS
from hf_untangle.reporting.style import MUTED, PAGE, plain, quiet_style, share_ticks
from hf_untangle.reporting.ticks import few_ticks


@checked_arguments
def density_across_widths(results: Sequence[ScalingResult]) -> Figure:
    """Draw families of networks: the prunable share by size, and the core by size on logarithmic axes with its fit.

    Points are means over seeds, bars one standard deviation, dotted lines shares in random order. The grey line is a core of
    all parameters; a family parallel to it has a share that does not depend on its size.

    Args:
        results: One or more families.

    Returns:
        A figure, 9 by 4.2 inches, with two panels.
    """
    with quiet_style():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, result in enumerate(results):
            _draw_shares(left, result, index)
            _draw_cores(right, result, index)
        low, high = right.get_xlim()
        right.plot((low, high), (low, high), color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 4)), label="all of them")
        left.set(xscale="log", xlabel="prunable parameters", ylabel="prunable share", ylim=(0, 1))
        left.yaxis.set_major_formatter(share_ticks())
        left.text(0.02, 0.02, "dotted: in random order", transform=left.transAxes, color=MUTED.light, fontsize=8)
        right.set(xscale="log", yscale="log", xlabel="prunable parameters", ylabel="parameters of the core", xlim=(low, high))
        few_ticks(left.xaxis, right.xaxis, right.yaxis)
        right.legend(frameon=False, fontsize=8)
    return figure


def _draw_shares(axes: Axes, result: ScalingResult, index: int) -> None:
    """Draw the prunable share of a family, and in grey that of random order."""
    color, widths = COLORS[index % len(COLORS)].light, result.widths
    sizes = [width.parameters for width in widths]
    axes.errorbar(
        sizes,
        [width.share for width in widths],
        [width.share_spread for width in widths],
        color=color,
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
        markeredgecolor=PAGE.light,
        capsize=2,
        linewidth=1.6,
    )
    chance = [width.random for width in widths if width.random is not None]
    if len(chance) == len(sizes):
        axes.plot(sizes, chance, color=color, linewidth=0.8, linestyle=":")


def _draw_cores(axes: Axes, result: ScalingResult, index: int) -> None:
    """Draw the core of a family, and the line through it."""
    color, widths, fit = COLORS[index % len(COLORS)].light, result.widths, result.fit
    sizes = np.array([width.parameters for width in widths], dtype=float)
    if fit is not None:
        axes.loglog(sizes, np.exp(fit.intercept) * sizes**fit.slope, color=color, linewidth=0.9)
    axes.errorbar(
        sizes,
        [width.unprunable for width in widths],
        [width.unprunable_spread for width in widths],
        color=color,
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
        markeredgecolor=PAGE.light,
        capsize=2,
        linestyle="none",
        label=plain(f"{result.family}: {fit.describe() if fit else 'no slope'}"),
    )
