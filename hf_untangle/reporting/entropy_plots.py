"""Figures of entropy: what masking costs by share, and how the entropy of neurons is distributed by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from hf_untangle.entropy.neuron_record import MaskingRecord, spread
from hf_untangle.entropy.watch import Phase
from hf_untangle.importance.entropy import entropy
from hf_untangle.reporting.style import ATTENTION, BAND, FFN, INK, MUTED, RUN, Color, plain, quiet_style, share_ticks
from hf_untangle.statistics.moments import Moments

ORDER_COLOR: dict[str, Color] = {"bottom": FFN, "top": RUN, "random": MUTED}
PANELS_IN_A_ROW = 4
BINS = 40
"""Bins of a histogram of entropies, from 0 to 1 bit."""


def masking_costs(record: MaskingRecord) -> Figure:
    """Draw the change of accuracy against the share that is masked, one panel a set, one line an order.

    Bands are one standard deviation over models (or over parts of the text that entropy was measured on) to both sides. The
    line at 0 is the mask that masks nothing.

    Args:
        record: The experiment.

    Returns:
        A figure, 2.3 inches wide a panel and 2.6 inches high a row.
    """
    rows = -(-len(record.sets) // PANELS_IN_A_ROW)
    columns = min(len(record.sets), PANELS_IN_A_ROW)
    with quiet_style():
        figure = Figure(figsize=(0.6 + 2.3 * columns, 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for axes, name in zip(panels, record.sets, strict=False):
            _draw_set(axes, record, name)
        for axes in panels[len(record.sets) :]:
            axes.set_axis_off()
        panels[0].set_ylabel("change of accuracy")
        figure.supxlabel("share masked", fontsize=10, color=MUTED.light)
    return figure


def entropy_histograms(entropies: Mapping[str, Float[Tensor, " neuron"]]) -> Figure:
    """Draw the entropies of all neurons of each group as one row of shades, in the order in which groups run.

    Args:
        entropies: Entropy in bits of every neuron, by group.

    Returns:
        A figure, 7 inches wide.
    """
    counts = torch.stack([torch.histc(one.float(), BINS, 0, 1) / len(one) for one in entropies.values()])
    with quiet_style():
        figure = Figure(figsize=(7, 1.2 + 0.16 * len(counts)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(counts.numpy(), aspect="auto", extent=(0, 1, len(counts) - 0.5, -0.5), cmap="Blues")
        axes.set_yticks(range(len(counts)), [plain(_short(name)) for name in entropies], fontsize=7)
        axes.set_xlabel("entropy of a neuron, bits")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, format=share_ticks(), label="share of the group's neurons")
    return figure


def entropy_over_time(epochs: Mapping[str, Sequence[float]], quantiles: Mapping[str, Float[Tensor, "_ quantile"]]) -> Figure:
    """Draw how quantiles of neuron entropy move while a model is trained, one panel a kind of data.

    Args:
        epochs: When entropy was measured, by what it was measured on.
        quantiles: 5%, 25%, 50%, 75% and 95% of all neurons at each of these times.

    Returns:
        A figure, 7 by 3 inches.
    """
    with quiet_style():
        figure = Figure(figsize=(7, 3), layout="constrained")
        panels = figure.subplots(1, len(quantiles), sharey=True, squeeze=False)[0]
        for axes, (name, values), color in zip(panels, quantiles.items(), (FFN, ATTENTION), strict=False):
            low, lower, middle, upper, high = values.T.tolist()
            axes.fill_between(epochs[name], low, high, color=BAND.light, linewidth=0)
            axes.fill_between(epochs[name], lower, upper, color=color.light, alpha=0.25, linewidth=0)
            axes.plot(epochs[name], middle, "o-", color=color.light, markersize=4)
            axes.set(title=plain(name), xlabel="epoch", ylim=(0, 1))
        panels[0].set_ylabel("entropy of a neuron, bits")
    return figure


def _draw_set(axes: Axes, record: MaskingRecord, name: str) -> None:
    """Draw the lines of one set."""
    shares = sorted(share for share in record.settings.shares if isinstance(share, float))
    axes.axhline(0, color=INK.light, linewidth=0.8)
    for order, color in ORDER_COLOR.items():
        points = [spread(found) for share in shares if (found := record.changes(name, order, share))]
        if not points:
            continue
        middle = [mean for mean, _ in points]
        low, high = ([mean + side * deviation for mean, deviation in points] for side in (-1, 1))
        axes.fill_between(shares, low, high, color=color.light, alpha=0.15, linewidth=0)
        axes.plot(shares, middle, "o-", color=color.light, markersize=4, label=order)
    axes.xaxis.set_major_formatter(share_ticks())
    axes.set_title(f"{plain(name)} ({fmean(record.base(name)):.2f})")
    axes.legend(frameon=False, fontsize=8)


def _short(name: str) -> str:
    """The layer's number and the last word of a projection's path."""
    *_, last = name.split(".")
    number = next((part for part in name.split(".") if part.isdigit()), "")
    return f"{number} {last}"


def draw_watch(
    folder: Path,
    phase: Phase,
    time: float,
    moments: Mapping[str, Moments],
    history: Mapping[Phase, Sequence[tuple[float, Float[Tensor, " quantile"]]]],
) -> None:
    """Write the figures of one look at a model that is being trained.

    Args:
        folder: Where to write; made when it is not there.
        phase: Training or evaluation.
        time: When the look was, in epochs.
        moments: The sums of every group that it saw.
        history: The times and quantiles of all looks, by phase.
    """
    folder.mkdir(parents=True, exist_ok=True)
    histograms = entropy_histograms({group: entropy(one) for group, one in moments.items()})
    histograms.savefig(folder / f"{phase}-epoch-{time:g}.svg")
    quantiles = {name: torch.stack([values for _, values in looks]) for name, looks in history.items() if looks}
    times = {name: [at for at, _ in looks] for name, looks in history.items() if looks}
    entropy_over_time(times, quantiles).savefig(folder / "over-time.svg")
