"""Figures of density: the metric as more and more is taken away, and the core as networks get wider."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_untangle.density.result import DensityResult
from hf_untangle.density.scaling import ScalingResult
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.reporting.style import ATTENTION, FFN, INK, MUTED, PAGE, POINT, RUN, plain, quiet_style, share_ticks

COLORS = (RUN, FFN, ATTENTION, INK, POINT)
MARKERS = ("o", "s", "^", "D", "v")


def density_curves(results: Mapping[str, DensityResult]) -> Figure:
    """Draw the metric against the share that was taken away, the first crossing of each sweep ringed.

    The dashed line is the limit of the first sweep: the worst value that still counts.

    Args:
        results: Sweeps of one network by one metric, by what they are to be called.

    Returns:
        A figure, 7 by 4.4 inches.
    """
    first = next(iter(results.values()))
    accuracy = TOLERANCES[first.config.tolerance].metric == "accuracy"
    with quiet_style():
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(first.limit, color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 4)))
        for index, (name, result) in enumerate(results.items()):
            _draw_curve(axes, name, result, index)
        axes.set_xlabel("share taken away, one shot, not retrained")
        axes.set_ylabel("accuracy" if accuracy else "loss (nats)")
        axes.xaxis.set_major_formatter(share_ticks())
        if accuracy:
            axes.yaxis.set_major_formatter(share_ticks())
        else:
            axes.set_ylim(0.95 * first.base, first.base + 4)  # A broken model's loss has no bound that is worth seeing.
        axes.legend(frameon=False, fontsize=9)
    return figure


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
        right.legend(frameon=False, fontsize=8)
    return figure


def _draw_curve(axes: Axes, name: str, result: DensityResult, index: int) -> None:
    """Draw one sweep."""
    color = COLORS[index % len(COLORS)].light
    shares, values = [point.share for point in result.curve], [point.value for point in result.curve]
    axes.plot(shares, values, color=color, linewidth=1.8, label=plain(f"{name}: {result.first:.0%}"))
    at = dict(zip(shares, values, strict=True))[result.first]
    axes.plot(result.first, at, "o", markersize=9, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.4)


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
