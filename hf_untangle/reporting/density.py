"""The figure of density: the metric as more and more is taken away."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_untangle.arguments import checked_arguments
from hf_untangle.density.result import DensityResult
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.reporting.style import ATTENTION, FFN, INK, MUTED, POINT, RUN, plain, quiet_style, share_ticks

COLORS = (RUN, FFN, ATTENTION, INK, POINT)
MARKERS = ("o", "s", "^", "D", "v")


@checked_arguments
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


def _draw_curve(axes: Axes, name: str, result: DensityResult, index: int) -> None:
    """Draw one sweep."""
    color = COLORS[index % len(COLORS)].light
    shares, values = [point.share for point in result.curve], [point.value for point in result.curve]
    axes.plot(shares, values, color=color, linewidth=1.8, label=plain(f"{name}: {result.first:.0%}"))
    at = dict(zip(shares, values, strict=True))[result.first]
    axes.plot(result.first, at, "o", markersize=9, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.4)
