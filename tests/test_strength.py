"""Another point of the frontier, chosen after the run."""

from copy import deepcopy
from dataclasses import replace

import pytest
from test_restore import same

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import BudgetError, ConfigError, MaskError
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.judging import judge, origin_on
from hf_untangle.results import strength as moving
from hf_untangle.results.strength import step_at
from hf_untangle.results.unlearned import UnlearnResult


@pytest.fixture
def result(unlearned) -> UnlearnResult:
    """A run of three steps whose removed weights were kept, on a copy of its model."""
    return replace(unlearned, model=deepcopy(unlearned.model))


def test_a_weaker_step_is_what_a_run_that_chose_it_would_have_left(result, taught):
    assert result.at_strength(1, progress=False) is result
    expected = remove_(deepcopy(taught), result.mask_path[0], neuron_groups(taught))
    assert same(result.model, expected) and result.mask == result.mask_path[0]
    how = {"batch_size": result.record.config.batch_size, "progress": False}
    origin = origin_on(taught, result.held_out, **how)
    assert result.record.test.before == origin.scores
    assert result.record.final == judge(expected, result.held_out, **how, origin=origin)
    assert (result.history.chosen, len(result.history.steps)) == (1, 3)
    assert sum(group.removed for group in result.record.groups) == result.mask.removed()
    result.check_weights()
    assert same(untangle.restore(result.model, result), taught)


def test_there_and_back_leaves_the_result_as_it_was(result):
    chosen, before, record = result.history.chosen, deepcopy(result.model), result.record
    there = {1, 2, 3} - {chosen}
    for step in (*there, chosen):
        result.at_strength(step, progress=False)
    assert same(result.model, before) and result.mask == result.mask_path[chosen - 1]
    changed = {"seconds", "date", "attacks", "metrics"}
    assert result.record.model_dump(exclude=changed) == record.model_dump(exclude=changed)


def test_a_point_is_found_by_what_it_takes_or_by_what_it_costs(result):
    history = result.history
    drops = [step.scores.forget_drop(history.base) for step in history.steps]
    costs = [step.scores.worst_retain_drop(history.base) for step in history.steps]
    assert drops == sorted(drops)
    assert step_at(history, None, drops[1], None) == 2
    assert step_at(history, None, drops[0] / 2, None) == 1
    assert step_at(history, None, None, 1.0) == 3
    assert step_at(history, None, None, costs[0]) == max(n for n in (1, 2, 3) if costs[n - 1] <= costs[0])


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, ConfigError, "one of strength, forget_drop and retain_drop, got 0 of them"),
        ({"strength": 1, "forget_drop": 0.5}, ConfigError, "got 2 of them"),
        ({"strength": 4}, ConfigError, "the number of a step, from 1 to 3, got 4. `restore` gives the original"),
        ({"forget_drop": 1.1}, BudgetError, "no step takes 110.0% of forget: the first takes .* of retain, the strongest"),
        ({"retain_drop": -1.0}, BudgetError, "no step costs at most -100.0% of retain"),
    ],
)
def test_a_point_that_is_not_there_is_refused(result, untouched, asked, error, message):
    with untouched(result.model), pytest.raises(error, match=message):
        result.at_strength(**asked)


def test_what_is_more_than_a_mask_cannot_be_moved(result, untouched):
    with untouched(result.model), pytest.raises(MaskError, match="its removed weights were not kept .`keep_removed=True`"):
        replace(result, removed=None).at_strength(1)
    trained = replace(result, record=result.record.model_copy(update={"methods": ("prune", "npo")}))
    with untouched(result.model), pytest.raises(MaskError, match="it was made by prune and npo. Run it again"):
        trained.at_strength(1)


def test_a_failure_on_the_way_leaves_model_and_result_as_they_were(result, untouched, monkeypatch):
    kept = dict(vars(result))

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for late in ("compare", "cut_out_"):
        monkeypatch.setattr(moving, late, fail)
        with untouched(result.model), pytest.raises(KeyboardInterrupt):
            result.at_strength(1, progress=False)
        assert dict(vars(result)) == kept
        monkeypatch.undo()
    result.check_weights()
