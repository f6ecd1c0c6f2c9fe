"""The frontier with its intervals: on the page, in the table, in the figure and in the verdict."""

import pytest
from records import a_record, history, scores
from test_budgets import sums

from hf_untangle.pruning.measuring import paired
from hf_untangle.records.unlearning import Comparison, Scores, UnlearnRecord
from hf_untangle.reporting.frontier import frontier_rows, is_movable
from hf_untangle.reporting.page import report_page
from hf_untangle.reporting.plots import trade_off
from hf_untangle.reporting.table import budget_verdict, comparison_rows, drop_of

CHANGE = paired(sums([4, 3, 4], [20, 24, 20], divergence=[1, 3, 2]), sums([5, 5, 5], [10, 10, 10]))
BETWEEN = "26.7% (-2.0% to 55.4%)"


def measured(one: Scores) -> Scores:
    return one.model_copy(update={"forget_paired": CHANGE, "retain_paired": CHANGE, "disruption": 0.2})


@pytest.fixture
def record() -> UnlearnRecord:
    run = history()
    steps = tuple(step.model_copy(update={"scores": measured(step.scores)}) for step in run.steps)
    test = Comparison(before=scores(0.5, 0.3), after=measured(scores(0.4, 0.22)), controls=(scores(0.46, 0.3),))
    return a_record(history=run.model_copy(update={"steps": steps}), test=test)


def test_every_step_stands_with_its_intervals(record):
    rows = frontier_rows(record)
    assert [row.step for row in rows] == [str(number) for number in range(1, 9)]
    assert [row.step for row in rows if row.chosen] == ["4"]
    assert rows[3].retain == BETWEEN and rows[3].forget.endswith("(-2.0% to 55.4%)")
    assert (rows[3].removed, rows[3].disruption, rows[3].tokens) == ("28", "0.200", "30")


def test_a_step_whose_error_was_not_measured_has_its_drop_alone():
    row = frontier_rows(a_record())[0]
    assert (row.forget, row.retain, row.disruption, row.tokens) == ("31.8%", "0.0%", "", "8,192")


def test_the_drop_of_a_step_is_that_of_all_blocks_that_were_read(record):
    step = record.history.step.scores
    assert drop_of("retain", step, record.history.base) == pytest.approx(4 / 15)


def test_table_and_verdict_say_how_far_they_may_be_off(record):
    _, unlearned, random = comparison_rows(record)
    assert unlearned.retain.drop == BETWEEN and random.retain.drop == "0.0%"
    assert budget_verdict(record) == (
        "Over budget: general lost 26.7% (-2.0% to 55.4% with a confidence of 95%) on held-out text, of 5.0% allowed."
    )


def test_the_verdict_of_several_corpora_is_that_of_the_one_which_lost_most(record):
    before, after = record.test.before, record.test.after
    members = {
        name: (("a", scores(0.5, a).retain), ("self", scores(0.5, b).retain))
        for name, a, b in (("before", 0.3, 0.4), ("after", 0.3, 0.2))
    }
    test = record.test.model_copy(
        update={
            "before": before.model_copy(update={"members": members["before"]}),
            "after": after.model_copy(update={"members": members["after"], "members_paired": (("self", CHANGE),)}),
        }
    )
    verdict = budget_verdict(record.model_copy(update={"test": test}))
    assert verdict.startswith("Over budget: self lost 50.0% (-2.0% to 55.4% with")


def test_the_page_has_the_frontier_and_says_how_to_move_along_it(record):
    page = report_page(record, {})
    assert "<h2>The frontier</h2>" in page and page.count(BETWEEN) >= 8
    assert "<code>result.at_strength(step)</code>" in page
    trained = record.model_copy(update={"methods": ("prune", "npo")})
    assert is_movable(record) and not is_movable(trained)
    assert "at_strength" not in report_page(trained, {})


def test_the_figure_draws_the_intervals_inside_its_axes(record):
    plain, figure = (trade_off(one).axes[0] for one in (a_record(), record))
    drawn = [line for line in figure.lines if line.get_linewidth() == 0.8 and line.get_linestyle() == "-"]
    assert len(drawn) == 16 and not [
        line for line in plain.lines if line.get_linestyle() == "-" and line.get_linewidth() == 0.8
    ]
    (left, right), (low, high) = figure.get_xlim(), figure.get_ylim()
    assert all(left <= x <= right for line in drawn for x in line.get_xdata())
    assert all(low <= y <= high for line in drawn for y in line.get_ydata())
