"""The figure of all neurons: what each matters to the forget corpus against what it matters to the retain corpus."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from hf_untangle.architecture.neurons import KINDS, Kind
from hf_untangle.errors import StatisticsError
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE, needs_of
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.style import INK, KIND_COLOR, KIND_NAME, MUTED, POINT, RUN, Color, plain, quiet_style
from hf_untangle.reporting.table import corpus_name
from hf_untangle.reporting.ticks import few_ticks
from hf_untangle.statistics.activation_statistics import ActivationStatistics

POINTS = 12_000
"""Neurons of a kind that are drawn; of more, a random sample."""
DECADES = 6
"""How far below the largest importance an axis goes. What is smaller, or zero, stands on its edge."""


class Neurons(NamedTuple):
    """All neurons of one kind."""

    forget: Float[Tensor, " neuron"]
    retain: Float[Tensor, " neuron"]
    kept: Bool[Tensor, " neuron"]


def importance_scatter(
    record: UnlearnRecord, forget: ActivationStatistics, retain: ActivationStatistics, mask: NeuronMask
) -> Figure:
    """Draw the importance of every neuron to both corpora on logarithmic axes, removed neurons in color.

    The importance is the run's own; of a signed one (`mean`) the size is drawn, and `rms` where it needs more than activations.
    Points are drawn as pixels, and no more than
    `POINTS` of a kind, chosen at random with the run's seed.

    Args:
        record: The run.
        forget: Statistics of the original model on the forget corpus.
        retain: The same on the retain corpus.
        mask: Which neurons stayed.

    Returns:
        A figure, 7 by 3.9 inches, with a panel for every kind of neuron that the model has.

    Raises:
        StatisticsError: The statistics and the mask are of different models.
    """
    _check_same_groups(mask, forget, retain)
    kinds: list[Kind] = [kind for kind in KINDS if mask.neurons(kind)]
    importance = _drawable(record.config.importance)
    with quiet_style():
        figure = Figure(figsize=(7, 3.9), layout="constrained")
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            neurons = _neurons(importance, forget, retain, mask, kind)
            _draw_neurons(axes, _thinned(neurons, record.config.seed))
            title = (
                f"{KIND_NAME[kind]}: {formatting.amount(mask.removed(kind))} of {formatting.amount(mask.neurons(kind))} removed"
            )
            axes.set_title(title, color=KIND_COLOR[kind].light)
            axes.set_xlabel(f"{importance} on {plain(corpus_name(record, 'retain'))} (retain)")
        panels[0].set_ylabel(f"{importance} on {plain(corpus_name(record, 'forget'))} (forget)")
    return figure


def _check_same_groups(mask: NeuronMask, *statistics: ActivationStatistics) -> None:
    """Refuse statistics whose neurons are not those of the mask."""
    sizes = {name: len(kept) for name, kept in mask.items()}
    for each in statistics:
        if sizes != {name: len(moments.total) for name, moments in each.items()}:
            raise StatisticsError(
                f"The statistics must be of the model that the mask was made for (`{mask.model}`), but those of `{each.model}` "
                "have other neuron groups. Pass the statistics of the same run."
            )


def _drawable(importance: str) -> str:
    """The importance that the statistics alone can show."""
    return importance if importance in IMPORTANCE and needs_of(importance) <= {"activations", "roots"} else "rms"


def _neurons(
    importance: str, forget: ActivationStatistics, retain: ActivationStatistics, mask: NeuronMask, kind: Kind
) -> Neurons:
    """Gather the neurons of one kind from all layers."""
    names = [name for name in mask if mask.kinds[name] == kind]
    size = IMPORTANCE[importance]
    return Neurons(
        torch.cat([size(Observations(forget[name], group=name)).abs() for name in names]),
        torch.cat([size(Observations(retain[name], group=name)).abs() for name in names]),
        torch.cat([mask[name] for name in names]),
    )


def _thinned(neurons: Neurons, seed: int) -> Neurons:
    """Keep a random sample where there are more neurons than can be told apart."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(len(neurons.kept), generator=generator)[:POINTS]
    return Neurons(neurons.forget[sample], neurons.retain[sample], neurons.kept[sample])


def _draw_neurons(axes: Axes, neurons: Neurons) -> None:
    """Draw kept neurons in grey, removed ones above them in color, and where both corpora count the same."""
    high = float(torch.cat([neurons.forget, neurons.retain]).max()) or 1.0
    low = max(_smallest(neurons), high / 10**DECADES)
    limits = (low / 1.5, max(high, 2 * low) * 1.5)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    few_ticks(axes.xaxis, axes.yaxis)
    axes.set_box_aspect(1)
    axes.plot(limits, limits, color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 4)))
    _draw_points(axes, neurons, neurons.kept, low, POINT, 2.4)
    _draw_points(axes, neurons, ~neurons.kept, low, RUN, 3.6)
    note = {"transform": axes.transAxes, "fontsize": 9}
    axes.text(0.03, 0.97, "removed", color=RUN.light, va="top", **note)
    axes.text(0.03, 0.90, "kept", color=MUTED.light, va="top", **note)
    axes.text(0.97, 0.03, "matters more to retain", color=INK.light, ha="right", **note)


def _smallest(neurons: Neurons) -> float:
    """The smallest importance above zero, or zero when there is none."""
    values = torch.cat([neurons.forget, neurons.retain])
    positive = values[values > 0]
    return float(positive.min()) if len(positive) else 0.0


def _draw_points(axes: Axes, neurons: Neurons, which: Tensor, low: float, color: Color, width: float) -> None:
    """Draw some of the neurons as pixels."""
    forget, retain = (values[which].clamp_min(low).numpy() for values in (neurons.forget, neurons.retain))
    axes.plot(retain, forget, ".", color=color.light, markersize=width, alpha=0.6, markeredgewidth=0, rasterized=True)
