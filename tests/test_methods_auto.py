"""`method="auto"`: a composition where weights can be trained, pruning where they cannot or where the settings mean it."""

from copy import deepcopy

import pytest
import torch
from toy_languages import BLOCK, NUMBERS, WORDS

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.methods import automatic
from hf_untangle.methods.automatic import COMPOSITION, PRUNING_ALONE, TRAINED, choose
from hf_untangle.methods.choose import split_settings
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.pruning.tasks import open_pair

SMALL = {"tokens": 1024, "evaluation_tokens": 512, "block_size": BLOCK, "batch_size": 16, "controls": 0}


@pytest.fixture
def chosen(toy_model):
    """What `auto` is for the toy model."""
    groups = neuron_groups(toy_model)

    def of(config="default", task="next token", **settings):
        return choose(("auto",), toy_model, groups, task, config, settings)

    return of


def test_auto_trains_inside_the_budget_and_the_record_repeats_it(toy_model, tokenizer, capsys):
    settings = {**SMALL, "disruption_budget": 0.1, "learning_rate": 1e-3, "step_rows": 8}
    how = {"tokenizer": tokenizer, "prompts": []}
    result = untangle.unlearn(toy_model, NUMBERS, WORDS, method="auto", **how, **settings)
    (training,) = result.record.training
    assert result.record.methods == (TRAINED,)
    assert {name: training.settings[name] for name in ("retain_objective", "alpha")} == {
        name: COMPOSITION[name] for name in ("retain_objective", "alpha")
    }
    assert training.changed["learning_rate"] == 1e-3
    assert result.record.test.after.selectivity(result.record.test.before) > 0.1
    assert result.history.step.scores.disruption <= 0.1
    assert f"method: {TRAINED}" in capsys.readouterr().err


def test_a_model_from_which_training_takes_nothing_is_pruned(toy_model, tokenizer, capsys, monkeypatch):
    monkeypatch.setattr(automatic, "COMPOSITION", {**COMPOSITION, "steps": 1, "evaluate_every": 1})
    monkeypatch.setattr(automatic, "RELATIVE_RATE", 1e-9)
    how = {"tokenizer": tokenizer, "prompts": [], **SMALL, "retain_budget": 0.9, "perplexity_budget": 1e9}
    result = untangle.unlearn(toy_model, NUMBERS, WORDS, **how)
    assert result.record.methods == ("prune",) and result.mask.removed("ffn") > 0
    assert result.record.config.disruption_budget is None
    assert "method: prune, as training took nothing inside the budget" in capsys.readouterr().err


def test_training_that_was_asked_for_is_not_pruning(toy_model, tokenizer, untouched):
    how = {"tokenizer": tokenizer, "prompts": [], "progress": False, **SMALL, "steps": 1}
    with untouched(toy_model), pytest.raises(BudgetError, match="by `wga`"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, learning_rate=1e-12, **how)


def test_settings_of_the_caller_come_first(chosen):
    assert chosen(alpha=1.0).settings["alpha"] == 1.0 != COMPOSITION["alpha"]


@pytest.mark.parametrize("name", sorted(PRUNING_ALONE))
def test_a_setting_of_pruning_means_pruning(chosen, name):
    value = getattr(UnlearnConfig(), name)
    choice = chosen(**{name: value})
    assert choice.names == ("prune",) and choice.settings == {name: value}
    assert choice.lines == (f"method: prune, as `{name}` is a setting of pruning",)
    assert chosen(UnlearnConfig(**{name: value})).names == ("prune",)


SHARED = frozenset(
    ("tokens", "evaluation_tokens", "block_size", "batch_size", "packed", "chat", "split", "steps", "controls", "seed")
    + ("forget_target", "retain_budget", "perplexity_budget", "disruption_budget", "budget_confidence", "bisections")
)
"""Settings that training goes by as well."""


def test_every_setting_is_one_of_pruning_alone_or_one_that_training_goes_by_too():
    assert set(UnlearnConfig.model_fields) == SHARED | PRUNING_ALONE and not SHARED & PRUNING_ALONE


def test_what_is_not_of_pruning_alone_leaves_the_choice_open(chosen):
    shared = set(UnlearnConfig.model_fields) - PRUNING_ALONE
    defaults = {name: getattr(UnlearnConfig(), name) for name in shared}
    assert chosen(**defaults).names == (TRAINED,)
    assert chosen("default").names == (TRAINED,)


def test_the_composition_is_made_of_known_settings():
    split_settings((TRAINED,), "default", {**COMPOSITION, **automatic.BUDGET})
    assert not set(COMPOSITION) & PRUNING_ALONE and set(COMPOSITION) <= set(MethodConfig.model_fields)


def test_the_learning_rate_follows_the_size_of_the_weights(toy_model):
    groups = neuron_groups(toy_model)
    rate = automatic.rate_for(toy_model, groups)
    matrices = [p for name, p in toy_model.named_parameters() if p.dim() == 2 and "layers" in name]
    rms = torch.cat([p.detach().flatten() for p in matrices]).square().mean().sqrt()
    assert rate == pytest.approx(automatic.RELATIVE_RATE * float(rms), rel=0.05)
    with torch.no_grad():
        for parameter in toy_model.parameters():
            parameter.mul_(0.1)
    assert automatic.rate_for(toy_model, groups) == pytest.approx(0.1 * rate, rel=0.05)


def test_the_preset_of_the_paper_is_pruning(chosen):
    assert chosen("paper").names == ("prune",)


def test_a_model_of_another_task_is_pruned(chosen):
    assert chosen(task="class").lines == ("method: prune, as the model predicts a class",)


def test_several_processes_prune(chosen, monkeypatch):
    monkeypatch.setattr(automatic, "place", lambda: (0, 2))
    assert chosen().names == ("prune",)


def test_weights_that_are_not_in_memory_are_pruned(toy_model):
    away = deepcopy(toy_model).to("meta")
    choice = choose(("auto",), away, neuron_groups(toy_model), "next token", "default", {})
    assert choice.names == ("prune",) and "cannot be trained" in choice.lines[0]


def test_a_model_that_is_too_large_to_be_trained_here_is_pruned(chosen, toy_model, monkeypatch):
    parameters = sum(one.numel() for one in toy_model.parameters())
    assert automatic.training_bytes(toy_model) == 12 * parameters
    assert automatic.training_bytes(deepcopy(toy_model).bfloat16()) == 14 * parameters
    monkeypatch.setattr(automatic, "free_bytes", lambda _: 12 * parameters - 1)
    assert chosen().names == ("prune",) and "are free" in chosen().lines[0]
    monkeypatch.setattr(automatic, "free_bytes", lambda _: 12 * parameters)
    assert chosen().names == (TRAINED,)


def test_methods_that_are_named_are_left_alone(toy_model):
    choice = choose(("prune", "npo"), toy_model, neuron_groups(toy_model), "next token", "default", {"beta": 1.0})
    assert choice == automatic.ChosenMethod(("prune", "npo"), {"beta": 1.0})


def retained(choice, model, forget, retain=None) -> tuple[str, ...]:
    opened = open_pair("next token", forget, retain)
    _, kept = choice.retaining(opened, model, lambda pair: pair, named=retain is not None, progress=False)
    return tuple(one.name for one in kept.members) or (kept.name,)


def test_auto_retains_text_of_the_models_own_beside_general_prose(chosen, toy_model):
    assert retained(chosen(), toy_model, NUMBERS) == ("general", "self")


def test_a_retain_corpus_that_is_named_is_the_only_one(chosen, toy_model):
    assert retained(chosen(), toy_model, NUMBERS, "general") == ("general",)
    preferred = [{"prompt": "a", "completion": "b", "label": label} for label in (True, False)]
    assert len(retained(chosen(), toy_model, preferred)) == 1


def test_pruning_retains_what_it_did(chosen, toy_model):
    assert retained(chosen(ffn_fraction=0.1), toy_model, NUMBERS) == ("general",)


def test_auto_stands_alone(toy_model, tokenizer):
    with pytest.raises(ConfigError, match="`auto` chooses the method and must stand alone, got"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, method=["auto", "npo"], tokenizer=tokenizer)


def test_an_unknown_setting_is_refused_before_the_model_is_opened():
    with pytest.raises(ConfigError, match="There is no setting `alfa`"):
        untangle.unlearn("no such model", NUMBERS, WORDS, method="auto", alfa=1)
