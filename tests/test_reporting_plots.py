"""The figures say what the record says, and are drawn whatever it says."""

import io
import math

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex
from records import a_mask, a_record, corpora, history, scores, some_statistics

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.unlearning import History, Step
from hf_untangle.reporting.plots import removed_by_layer, trade_off
from hf_untangle.reporting.scatter import POINTS, importance_scatter
from hf_untangle.reporting.style import ATTENTION, FFN, POINT, RUN


def drawn(figure):
    """Draw a figure to the end, which is when matplotlib finds most of what is wrong with it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure


def words(figure):
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    labels = [axes.get_xlabel() + axes.get_ylabel() + axes.get_title("left") for axes in figure.axes]
    return " ".join(texts + labels)


def line(axes, color, marker):
    """The only line of a color and marker, as a list of points."""
    (found,) = (each for each in axes.lines if to_hex(each.get_color()) == color.light and each.get_marker() == marker)
    return list(zip(found.get_xdata(), found.get_ydata(), strict=True))


def scatter_of(record, mask=None):
    mask = mask or a_mask(record)
    return importance_scatter(record, some_statistics(record, 1, 3.0), some_statistics(record, 2, 0.5), mask)


def test_every_step_is_a_point_of_its_two_drops():
    record = a_record()
    (axes,) = drawn(trade_off(record)).axes
    expected = [
        (step.scores.retain_drop(record.history.base), step.scores.forget_drop(record.history.base))
        for step in record.history.steps
    ]
    assert line(axes, RUN, "o") == expected
    assert line(axes, RUN, "None") == [(0, 0), *expected]


def test_the_chosen_step_the_budget_and_the_controls_are_named():
    text = words(trade_off(a_record()))
    for phrase in (
        "chosen: step 4",
        "retain budget 5.0%",
        "random masks",
        "no selectivity",
        "code (forget)",
        "general (retain)",
    ):
        assert phrase in text


def test_without_controls_no_random_line_is_drawn():
    figure = drawn(trade_off(a_record(history=history(controls=0))))
    assert "random" not in words(figure)


def test_a_budget_that_is_everywhere_is_not_shaded():
    figure = drawn(trade_off(a_record(config=UnlearnConfig(retain_budget=1.0))))
    assert "budget" not in words(figure)


@pytest.mark.parametrize(
    ("base", "result"),
    [
        (scores(0.5, 0.3), scores(0.5, 0.3)),
        (scores(0.5, 0.3), scores(0.4999999, 0.2999999)),
        (scores(0.5, 0.3), scores(0.0, 0.0)),
        (scores(0.5, 0.3), scores(0.9, 0.4)),
    ],
    ids=["nothing changed", "hardly anything changed", "all is lost", "both rose"],
)
def test_a_run_of_one_step_is_drawn_wherever_it_ends(base, result):
    step = Step(number=1, removed={"ffn": 1, "attention": 0}, scores=result, controls=(result,), seconds=1.0)
    figure = drawn(trade_off(a_record(history=History(base=base, steps=(step,), chosen=1))))
    (low, high), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    x, y = line(figure.axes[0], RUN, "o")[0]
    assert math.isnan(y) or (low <= x <= high and bottom <= y <= top)


def test_the_bars_are_the_shares_of_each_layer():
    record = a_record()
    figure = drawn(removed_by_layer(record))
    for axes, kind, color in zip(figure.axes, ("ffn", "attention"), (FFN, ATTENTION), strict=True):
        groups = [group for group in record.groups if group.kind == kind]
        assert [bar.get_height() for bar in axes.patches] == [group.removed / group.neurons for group in groups]
        assert {to_hex(bar.get_facecolor()) for bar in axes.patches} == {color.light}
    # By hand: 2 + 4 + ... + 12 of 6 * 96, and 0 + 0 + 1 + 1 + 2 + 2 of 6 * 32.
    assert "FFN: 7.3% removed in all" in words(figure)
    assert "attention: 3.1% removed in all" in words(figure)


def test_two_groups_of_one_layer_share_a_bar():
    (group, *_) = a_record().groups
    twins = (group.model_copy(update={"removed": 8}), group.model_copy(update={"name": "other", "removed": 0}))
    (axes,) = drawn(removed_by_layer(a_record(groups=twins))).axes
    assert [bar.get_height() for bar in axes.patches] == [8 / 64]


def test_layers_that_lost_nothing_are_drawn_from_zero():
    groups = tuple(group.model_copy(update={"removed": 0}) for group in a_record().groups)
    figure = drawn(removed_by_layer(a_record(groups=groups)))
    assert figure.axes[0].get_ylim()[0] == 0


def test_every_neuron_is_a_point_kept_or_removed():
    record = a_record()
    figure = drawn(scatter_of(record))
    for axes, kind in zip(figure.axes, ("ffn", "attention"), strict=True):
        mask = a_mask(record)
        assert len(line(axes, RUN, ".")) == mask.removed(kind)
        assert len(line(axes, POINT, ".")) == mask.neurons(kind) - mask.removed(kind)


def test_a_point_is_retain_importance_against_forget_importance():
    record = a_record()
    group = record.groups[1]
    axes = scatter_of(record).axes[0]
    forget, retain = (
        (some_statistics(record, seed, boost)[group.name].square[0] / 1000).sqrt() for seed, boost in ((1, 3.0), (2, 0.5))
    )
    assert (pytest.approx(retain.item()), pytest.approx(forget.item())) in line(axes, RUN, ".")


def test_of_many_neurons_the_same_sample_is_drawn_every_time():
    record = a_record()
    group = record.groups[1].model_copy(update={"neurons": POINTS + 5000, "removed": 1000})
    record = record.model_copy(update={"groups": (group,)})
    first, second = (scatter_of(record).axes[0] for _ in range(2))
    assert len(line(first, RUN, ".")) + len(line(first, POINT, ".")) == POINTS
    assert line(first, RUN, ".") == line(second, RUN, ".")


@pytest.mark.parametrize("factor", [0.0, 1e-30])
def test_neurons_that_do_nothing_stand_on_the_edge(factor):
    record = a_record()
    statistics = some_statistics(record, 1)
    for moments in statistics.values():
        moments.square[::2] *= factor
    axes = drawn(importance_scatter(record, statistics, statistics, a_mask(record))).axes[0]
    low, high = axes.get_xlim()
    assert all(low <= x <= high for x, _ in line(axes, POINT, "."))


@pytest.mark.parametrize("value", [0.0, 1e-12, 1.0])
def test_a_model_whose_neurons_are_all_alike_is_drawn(value):
    record = a_record()
    statistics = some_statistics(record, 1)
    for moments in statistics.values():
        moments.square.fill_(value)
    drawn(importance_scatter(record, statistics, statistics, a_mask(record)))


def test_statistics_of_another_model_are_refused():
    record = a_record()
    other = NeuronMask({"elsewhere": torch.ones(3, dtype=torch.bool)}, {"elsewhere": "ffn"}, "other")
    with pytest.raises(StatisticsError, match="must be of the model that the mask was made for .`other`."):
        scatter_of(record, other)


def test_a_corpus_name_is_not_read_as_a_formula():
    record = a_record(corpora=corpora(forget="$x^$.txt"))
    drawn(trade_off(record))
    drawn(scatter_of(record))


def test_the_style_of_the_caller_is_neither_used_nor_changed():
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30.0}):
        before = dict(matplotlib.rcParams)
        figure = trade_off(a_record())
        assert dict(matplotlib.rcParams) == before
    assert to_hex(figure.axes[0].get_facecolor()) == "#ffffff"
