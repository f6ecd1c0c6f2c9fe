"""Ticks of logarithmic axes: few, round, and never on top of each other, whatever the axis spans."""

import io
from itertools import pairwise

import pytest
import torch
from matplotlib.figure import Figure
from records import a_mask, a_record, some_statistics

from hf_untangle.reporting.scatter import importance_scatter
from hf_untangle.reporting.style import quiet_style
from hf_untangle.reporting.ticks import FEWEST, MOST, few_ticks, log_ticks, tick_labels

SPANS = [(0.02, 3.5), (1e-6, 1.2), (0.3, 0.9), (0.011, 0.012), (2e-9, 3e-9), (1e-30, 1.0), (1200.0, 56_000.0), (1e5, 3e9)]


@pytest.mark.parametrize(
    ("span", "ticks", "labels"),
    [
        ((0.02, 3.5), [0.03, 0.1, 0.3, 1.0, 3.0], ["0.03", "0.1", "0.3", "1", "3"]),
        ((0.3, 0.9), [0.4, 0.6, 0.8], ["0.4", "0.6", "0.8"]),
        ((5.0, 70.0), [5.0, 10.0, 20.0, 50.0], ["5", "10", "20", "50"]),
        ((1200.0, 56_000.0), [3000.0, 10_000.0, 30_000.0], ["3,000", "10,000", "30,000"]),
        ((1e-6, 1.2), [1e-6, 1e-4, 1e-2, 1.0], ["$10^{-6}$", "$10^{-4}$", "$10^{-2}$", "$10^{0}$"]),
    ],
)
def test_ticks_by_hand(span, ticks, labels):
    assert log_ticks(*span) == ticks
    assert tick_labels(ticks) == labels


def test_every_axis_has_a_few_ticks_inside_it_with_labels_of_their_own():
    generator = torch.Generator().manual_seed(0)
    for start, decades in torch.rand(500, 2, generator=generator, dtype=torch.float64).tolist():
        low = 10 ** (24 * start - 12)
        high = low * 10 ** (12 * decades**3 + 0.02)
        ticks = log_ticks(low, high)
        assert all(low <= tick <= high for tick in ticks)
        assert FEWEST <= len(ticks) <= MOST, (low, high)
        assert len(set(tick_labels(ticks))) == len(ticks)


def _labels_apart(figure: Figure) -> None:
    """No tick label of a drawn figure covers another."""
    figure.savefig(io.BytesIO(), format="png")
    for axes in figure.axes:
        for axis, place in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
            assert len(boxes) >= FEWEST
            ends = [getattr(box, f"{place}0") for box in boxes], [getattr(box, f"{place}1") for box in boxes]
            assert all(after > before for (_, before), (after, _) in pairwise(sorted(zip(*ends, strict=True))))


@pytest.mark.parametrize("span", SPANS)
def test_labels_are_apart_on_a_panel_as_narrow_as_that_of_the_scatter(span):
    with quiet_style():
        figure = Figure(figsize=(7, 3.9), layout="constrained")
        for axes in figure.subplots(1, 2):
            axes.set(xscale="log", yscale="log", xlim=span, ylim=span)
            axes.set_box_aspect(1)
            few_ticks(axes.xaxis, axes.yaxis)
    _labels_apart(figure)


@pytest.mark.parametrize("boost", [1e-8, 1.0, 1e6])
def test_the_scatter_has_few_ticks_that_can_be_read(boost):
    record = a_record()
    statistics = some_statistics(record, 1, 3 * boost), some_statistics(record, 2, boost)
    figure = importance_scatter(record, *statistics, a_mask(record))
    _labels_apart(figure)
    for axes in figure.axes:
        assert len(axes.get_xticks()) <= MOST and len(axes.xaxis.get_minorticklocs()) == 0
