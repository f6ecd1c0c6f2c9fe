"""Labels of the trade-off cover neither each other nor what is drawn, and the axes show what there is."""

from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.text import Annotation
from records import a_record

from hf_untangle.records.unlearning import History, Scores, Step
from hf_untangle.reporting.plots import trade_off
from hf_untangle.reporting.style import quiet_style

BASE = a_record().history.base
RUNS = {
    "small effects": ([(0.0005, 0.002), (0.001, 0.004)], [(0.0006, 0.0008), (0.0011, 0.001)]),
    "negative drops": ([(-0.02, -0.01), (-0.01, 0.05), (0.005, 0.2)], [(-0.01, -0.02), (0.01, 0.01), (0.03, 0.02)]),
    "random masks on the curve": ([(0.01, 0.2), (0.03, 0.5), (0.06, 0.8)],) * 2,
    "as usual": (
        [(0.002, 0.15), (0.005, 0.33), (0.02, 0.5), (0.04, 0.78)],
        [(0.02, 0.03), (0.08, 0.07), (0.15, 0.1), (0.24, 0.16)],
    ),
    "all is lost": ([(1.0, 1.0)], [(1.0, 1.0)]),
    "many steps": ([(0.001 * n, 0.02 * n) for n in range(1, 41)], [(0.01 * n, 0.01 * n) for n in range(1, 41)]),
}


def scores(retain: float, forget: float) -> Scores:
    lost = {
        "retain": replace(BASE.retain, top1=BASE.retain.top1 * (1 - retain)),
        "forget": replace(BASE.forget, top1=BASE.forget.top1 * (1 - forget)),
    }
    return BASE.model_copy(update=lost)


def drawn(run, random, chosen=1):
    steps = tuple(
        Step(number=number, removed={"ffn": 1, "attention": 0}, scores=scores(*one), controls=(scores(*other),), seconds=1.0)
        for number, (one, other) in enumerate(zip(run, random, strict=True), start=1)
    )
    figure = trade_off(a_record(history=History(base=BASE, steps=steps, chosen=chosen)))
    with quiet_style():
        figure.canvas.draw()
    return figure.axes[0]


def boxes(axes):
    return [text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("chosen", [1, -1])
def test_no_label_covers_another_a_point_or_leaves_the_frame(name, chosen):
    run, random = RUNS[name]
    axes = drawn(run, random, chosen if chosen > 0 else len(run))
    labels = boxes(axes)
    assert len(labels) >= 2
    assert not any(one.overlaps(other) for one, other in combinations(labels, 2))
    points = axes.transData.transform([*run, *random])
    assert not any(box.count_contains(points) for box in labels)
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in labels)


@pytest.mark.parametrize("name", RUNS)
def test_points_fill_at_least_a_third_of_the_frame_or_an_axis_of_noise(name):
    run, random = RUNS[name]
    axes = drawn(run, random)
    for which, limits in ((0, axes.get_xlim()), (1, axes.get_ylim())):
        values = [0.0, *(point[which] for point in (*run, *random))]
        assert limits[0] <= min(values) and max(values) <= limits[1]
        assert max(values) - min(values) >= (limits[1] - limits[0]) / 3 or limits[1] - limits[0] < (0.06, 0.006)[which]
