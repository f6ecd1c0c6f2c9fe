"""Robustify: what an unlearned model says is distilled into shrunk weights, in which removed neurons stay at zero."""

from copy import deepcopy
from importlib import import_module

import pytest
import torch
from torch import nn
from toy_languages import BLOCK, NUMBERS, TOY_CONFIG, WORDS

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.records.unlearning import RobustifyRecord, UnlearnRecord
from hf_untangle.repairs.robustify import shrink_and_perturb_

SMALL = {
    "strength": 0.3,
    "tokens": 15_360,
    "tolerance": 0.0,
    "checks": 2,
    "text_tokens": 4096,
    "own_tokens": 0,
    "learning_rate": 2e-3,
    "step_tokens": 512,
    "block_size": BLOCK,
    "batch_size": 16,
    "evaluation_tokens": 1024,
}
module = import_module("hf_untangle.repairs.robustify")


@pytest.fixture
def model(strongly_pruned):
    """A copy of the pruned model."""
    return deepcopy(strongly_pruned[0])


@pytest.fixture
def robustify(model, strongly_pruned, tokenizer):
    """Distill the pruned model on words, unless told otherwise."""

    def call(**settings):
        defaults = {"mask": strongly_pruned[1], "tokenizer": tokenizer, "progress": False}
        return untangle.repairs.robustify(model, NUMBERS, WORDS, **defaults | SMALL | settings)

    return call


def test_weights_are_shrunk_and_matrices_perturbed():
    layer = nn.Linear(300, 100)
    before = deepcopy(layer.state_dict())
    shrink_and_perturb_(layer, strength=0.4, noise=0.5, seed=0)
    assert torch.equal(layer.bias, 0.6 * before["bias"]), "fresh vectors are zero"
    drawn = (layer.weight.detach() - 0.6 * before["weight"]) / (0.4 * 0.5)
    assert float(drawn.std()) == pytest.approx((2 / 400) ** 0.5, rel=0.03)
    assert abs(float(drawn.mean())) < 2e-3


def test_without_noise_weights_only_shrink_and_every_draw_has_its_seed():
    first, second, third = (nn.Linear(8, 8) for _ in range(3))
    for one, seed in ((second, 0), (third, 1)):
        one.load_state_dict(first.state_dict())
        shrink_and_perturb_(one, 0.25, 0.1, seed)
    assert not torch.equal(second.weight, third.weight)
    before = first.weight.detach().clone()
    shrink_and_perturb_(first, 0.25, 0.0, 0)
    assert torch.equal(first.weight, 0.75 * before)


def test_the_student_comes_near_the_unlearned_model_and_removed_neurons_stay_at_exactly_zero(robustify, model, strongly_pruned):
    record = robustify()
    first, *_, last = record.divergences
    assert (first.tokens, last.tokens) == (0, 15_360)
    assert last.nats < 0.25 * first.nats
    assert record.after.retain.top1 > 0.8 * record.before.retain.top1
    assert all_zero(held_parameters(model, strongly_pruned[1], neuron_groups(model)))
    assert not torch.equal(model.lm_head.weight, strongly_pruned[0].lm_head.weight)


def test_a_stronger_one_begins_farther_away(robustify, model, strongly_pruned):
    begins = []
    for strength in (0.1, 0.6):
        model.load_state_dict(strongly_pruned[0].state_dict())
        begins.append(robustify(strength=strength, tokens=512).divergences[0].nats)
    assert begins[0] < begins[1]


def test_distillation_ends_when_the_student_is_near_enough(robustify):
    record = robustify(strength=0.1, tolerance=10.0)
    assert record.tokens == 0 and len(record.divergences) == 1 and record.is_within_tolerance
    assert not robustify(tokens=512).is_within_tolerance


def test_the_cost_is_known_beforehand_and_written_down(robustify):
    config = RobustifyConfig(**SMALL)
    assert config.distilled_tokens == 15_360
    assert config.forward_tokens == 3 * 15_360 + config.text_tokens + 2 * config.own_tokens + 3 * 1024
    record = robustify()
    read = record.corpus["tokens"]
    assert record.forward_tokens == 3 * 15_360 + read + config.own_tokens + 3 * 1024 <= config.forward_tokens


def test_the_model_writes_text_to_distill_on_too(robustify):
    corpus = robustify(tokens=512, own_tokens=256).corpus
    assert corpus["corpus"] == "strings (retain) + self"


@pytest.mark.parametrize("function", ["train_", "shrink_and_perturb_", "judge"])
def test_an_interruption_leaves_the_model_as_it_was(robustify, model, untouched, monkeypatch, function):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, interrupted)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        robustify(tokens=512)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strength": 0}, "`strength`: input should be greater than 0"),
        ({"strenght": 0.2}, "There is no setting `strenght` .did you mean `strength`"),
    ],
)
def test_wrong_settings_are_named(robustify, wrong, message):
    with pytest.raises(ConfigError, match=message):
        robustify(**wrong)


def test_a_model_that_still_has_its_neurons_is_refused(taught, strongly_pruned, tokenizer, untouched):
    how = {"mask": strongly_pruned[1], "tokenizer": tokenizer, "progress": False}
    with untouched(taught), pytest.raises(MaskError, match="must be zero in the weights"):
        untangle.repairs.robustify(taught, NUMBERS, WORDS, **how, **SMALL)


@pytest.fixture(scope="module")
def result(unlearned):
    """A result with a model of its own."""
    return type(unlearned)(**{**vars(unlearned), "model": deepcopy(unlearned.model)})


def test_a_result_keeps_the_distillation_among_its_repairs(result):
    robust = result.robustify(progress=False, **SMALL | {"tokens": 512})
    assert robust is result
    again = UnlearnRecord.model_validate_json(robust.record.model_dump_json())
    assert again == robust.record and isinstance(again.repairs[-1], RobustifyRecord)
    robust.check_weights()


def test_unlearn_makes_robust_in_the_same_call_or_leaves_the_model_as_it_was(toy_model, tokenizer, untouched, monkeypatch):
    settings = {"tokenizer": tokenizer, "config": TOY_CONFIG.with_settings(steps=1, controls=0), "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_", lambda *_, **__: 1 / 0)
        with untouched(toy_model), pytest.raises(ZeroDivisionError):
            untangle.unlearn(toy_model, NUMBERS, WORDS, robustify=RobustifyConfig(**SMALL), **settings)
    hardening = RobustifyConfig(**SMALL | {"tokens": 512})
    result = untangle.unlearn(toy_model, NUMBERS, WORDS, robustify=hardening, **settings)
    assert result.record.repairs[0].settings["strength"] == 0.3


def test_a_strength_alone_is_settings_too(toy_model, tokenizer):
    with pytest.raises(ConfigError, match="`strength`: input should be less than or equal to 1, got 1.5"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, robustify=1.5, tokenizer=tokenizer, progress=False)
