"""Two figures of a run: what was given up for what, and where neurons were removed.

They are drawn with matplotlib's object interface and a style of their own, so that neither the caller's style nor its open
figures are touched.
"""

import math
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_untangle.architecture.neurons import KINDS, Kind
from hf_untangle.records.unlearning import Scores, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.card_text import AnyRecord
from hf_untangle.reporting.labels import Label, Point, place_labels
from hf_untangle.reporting.style import (
    BAND,
    INK,
    KIND_COLOR,
    KIND_NAME,
    MUTED,
    PAGE,
    RUN,
    Color,
    plain,
    quiet_style,
    share_ticks,
)
from hf_untangle.reporting.table import corpus_name, drop_of

SMALLEST = 0.03, 0.003
"""The least that the axes of retain and of forget span: smaller effects than these are noise, and are not blown up."""


def trade_off(record: UnlearnRecord) -> Figure:
    """Draw what every step took from the forget corpus against what it took from the retain corpus.

    Both are relative drops of top-1 accuracy on the validation parts, which is what steps were chosen by, with their 95%
    intervals over blocks. Above the diagonal, more is forgotten than lost. The band is the retain budget.

    Args:
        record: The run.

    Returns:
        A figure, 7 by 4.4 inches.
    """
    history = record.history
    run = [_drops(step.scores, history.base) for step in history.steps]
    random = [[_drops(scores, history.base) for scores in step.controls] for step in history.steps if step.controls]
    with quiet_style():
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        axes = figure.subplots()
        _frame(axes, [*run, *(point for points in random for point in points)])
        axes.set_xlabel(f"top-1 lost on {plain(corpus_name(record, 'retain'))} (retain)")
        axes.set_ylabel(f"top-1 lost on {plain(corpus_name(record, 'forget'))} (forget)")
        _draw_intervals(axes, run, [step.scores for step in history.steps])
        lines = [_draw_diagonal(axes), _draw_random(axes, random), _draw_run(axes, run, history.chosen)]
        labels = _run_labels(run, history.chosen) + _random_labels(random) + _draw_budget(axes, record.config.retain_budget)
        every = [[point] for points in random for point in points]
        place_labels(axes, [*labels, _diagonal_label(lines[0])], [*lines, *every])
    return figure


def removed_by_layer(record: AnyRecord) -> Figure:
    """Draw the share of neurons that was removed from every layer, FFN above attention.

    Args:
        record: The run.

    Returns:
        A figure, 7 by 3.6 inches, with a panel for every kind of neuron that the model has.
    """
    kinds: list[Kind] = [kind for kind in KINDS if any(group.kind == kind for group in record.groups)]
    with quiet_style():
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        panels = figure.subplots(len(kinds), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, kind in zip(panels, kinds, strict=True):
            _draw_layers(axes, record, kind)
        panels[0].set_ylim(0, max(panels[0].get_ylim()[1], 0.01))
        panels[-1].set_xlabel("layer")
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _drops(scores: Scores, base: Scores) -> Point:
    """Where a model stands: retain drop, forget drop."""
    return drop_of("retain", scores, base), drop_of("forget", scores, base)


def _frame(axes: Axes, points: list[Point]) -> None:
    """Choose limits that show all points with room for labels, also where they are few or all at one place."""
    finite = [point for point in points if all(map(math.isfinite, point))] + [(0.0, 0.0)]
    for which, (before, after), limit in ((0, (0.08, 0.35), axes.set_xlim), (1, (0.15, 0.3), axes.set_ylim)):
        low, high = (pick(point[which] for point in finite) for pick in (min, max))
        width = max(high - low, SMALLEST[which])
        # No drop is over 100%, so the axis need not show more.
        limit(low - before * width, max(min(low + (1 + after) * width, 1.05), high + 0.05 * width))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(share_ticks())
        axis.set_major_locator(MaxNLocator(6))


def _draw_budget(axes: Axes, budget: float) -> list[Label]:
    """Shade where a step may be chosen, unless that is everywhere, and name it at the top."""
    low, high = axes.get_xlim()
    if budget >= high:
        return []
    axes.axvspan(low, budget, color=BAND.light, linewidth=0, zorder=0)
    return [Label(f"retain budget {formatting.percent(budget)}", (budget, axes.get_ylim()[1]), MUTED)]


def _draw_diagonal(axes: Axes) -> list[Point]:
    """Draw where as much is lost as is forgotten, as far as the axes go."""
    low, high = (pick(ends) for pick, ends in zip((max, min), zip(axes.get_xlim(), axes.get_ylim(), strict=True), strict=True))
    axes.plot([low, high], [low, high], color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 4)))
    return [(low, low), (high, high)]


def _diagonal_label(diagonal: list[Point]) -> Label:
    """Name the diagonal at two thirds of its length."""
    low, high = diagonal[0][0], diagonal[1][0]
    at = low + (high - low) * 2 / 3
    return Label("no selectivity", (at, at), MUTED)


def _draw_random(axes: Axes, random: list[list[Point]]) -> list[Point]:
    """Draw every random mask as a point, and their means as a line."""
    if not random:
        return [(0.0, 0.0)]
    line: list[Point] = [(0.0, 0.0), *_means(random)]
    axes.plot(*zip(*line, strict=True), color=MUTED.light, linewidth=1.2)
    every = [point for points in random for point in points]
    axes.plot(*zip(*every, strict=True), "o", color=MUTED.light, markersize=4, markeredgecolor=PAGE.light)
    return line


def _means(random: list[list[Point]]) -> list[Point]:
    """The mean of the random masks of every step."""
    return [(fmean(x for x, _ in points), fmean(y for _, y in points)) for points in random]


def _random_labels(random: list[list[Point]]) -> list[Label]:
    """Name the random masks halfway along their line."""
    if not random:
        return []
    means = _means(random)
    return _label(min(means, key=lambda mean: abs(mean[0] - means[-1][0] / 2)), "random masks of equal size", MUTED)


def _draw_run(axes: Axes, run: list[Point], chosen: int) -> list[Point]:
    """Draw the steps from the original model on, and ring the chosen one."""
    line: list[Point] = [(0.0, 0.0), *run]
    axes.plot(*zip(*line, strict=True), color=RUN.light, linewidth=2)
    axes.plot(*zip(*run, strict=True), "o", color=RUN.light, markersize=5.5, markeredgecolor=PAGE.light)
    axes.plot(*run[chosen - 1], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK.light, markeredgewidth=1.4)
    return line


def _draw_intervals(axes: Axes, run: list[Point], steps: list[Scores]) -> None:
    """Draw how far a step may be off on either corpus, where that was measured, as far as the axes go."""
    sides = (axes.get_xlim(), axes.get_ylim())
    for point, scores in zip(run, steps, strict=True):
        if scores.retain_paired is None or scores.forget_paired is None:
            continue
        ends = scores.retain_paired.drop.interval(), scores.forget_paired.drop.interval()
        (left, right), (low, high) = (
            (max(one, side[0]), min(other, side[1])) for (one, other), side in zip(ends, sides, strict=True)
        )
        how = {"color": RUN.light, "linewidth": 0.8, "alpha": 0.6}
        axes.plot([left, right], [point[1]] * 2, **how)
        axes.plot([point[0]] * 2, [low, high], **how)


def _run_labels(run: list[Point], chosen: int) -> list[Label]:
    """Name the chosen step, and the last where that is another."""
    last = _label(run[-1], f"step {len(run)}", RUN) if chosen < len(run) else []
    return _label(run[chosen - 1], f"chosen: step {chosen}", INK) + last


def _label(point: Point, text: str, color: Color) -> list[Label]:
    """A label, where its point can be drawn."""
    return [Label(text, point, color)] if all(map(math.isfinite, point)) else []


def _draw_layers(axes: Axes, record: AnyRecord, kind: Kind) -> None:
    """Draw one kind's bars, and how much of the kind is gone altogether."""
    groups = [group for group in record.groups if group.kind == kind]
    layers = sorted({group.layer for group in groups})
    totals = [[group for group in groups if group.layer == layer] for layer in layers]
    shares = [sum(g.removed for g in total) / sum(g.neurons for g in total) for total in totals]
    overall = sum(group.removed for group in groups) / sum(group.neurons for group in groups)
    axes.bar(layers, shares, width=0.72, color=KIND_COLOR[kind].light, linewidth=0)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(share_ticks())
    axes.set_title(f"{KIND_NAME[kind]}: {formatting.percent(overall)} removed in all", color=KIND_COLOR[kind].light)
