"""Methods beside pruning, run on the model that knows two toy languages: what they take, what they write, what they undo."""

from copy import deepcopy
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from toy_languages import BLOCK, NUMBERS, WORDS

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import BudgetError, ConfigError, CorpusError
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of
from hf_untangle.masks.select import random_like
from hf_untangle.methods import descent
from hf_untangle.methods.registry import METHODS
from hf_untangle.methods.rows import predicting
from hf_untangle.methods.snapshot import Snapshot, restored_on_failure
from hf_untangle.pruning.judging import origin_on

QUICK = {
    "tokens": 1024,
    "evaluation_tokens": 512,
    "block_size": BLOCK,
    "batch_size": 16,
    "ffn_fraction": 0.1,
    "attention_fraction": 0.05,
    "disruption_budget": 0.1,
    "step_rows": 8,
    "steps": 6,
    "learning_rate": 1e-3,
    "bisections": 2,
    "controls": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture
def call(toy_model, tokenizer):
    """Unlearn numbers from the toy model by a method."""

    def unlearn(method, forget=NUMBERS, retain=WORDS, **settings):
        more = {"tokenizer": tokenizer, "prompts": [], "progress": False}
        return untangle.unlearn(toy_model, forget, retain, method=method, **QUICK | more | settings)

    return unlearn


def changed(model, before) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


STEPS = {"rmu": {"learning_rate": 1e-2, "disruption_budget": 1.0}, "repselect": {"steps": 12}, "satimp": {"gamma": 1.0}}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_more_from_forget_than_from_retain_inside_the_budget(call, name):
    result = call(name, **STEPS.get(name, {}))
    test, (record,) = result.record.test, result.record.training
    assert test.after.selectivity(test.before) > 0
    chosen = record.steps[record.chosen - 1]
    assert chosen.scores.disruption <= result.record.config.disruption_budget
    assert chosen.scores == result.history.step.scores
    assert record.method == name and result.record.methods == (name,)


def test_what_is_reported_is_measured_on_the_weights_that_are_left(call, toy_model):
    result = call("graddiff")
    origin = origin_on(toy_model, result.held_out, batch_size=8, progress=False)
    assert origin.scores.forget == result.record.test.after.forget
    assert origin.scores.retain == result.record.test.after.retain


def test_the_first_run_and_the_second_give_the_same_weights(call, toy_model):
    before = deepcopy(toy_model.state_dict())
    call("npo")
    first = deepcopy(toy_model.state_dict())
    toy_model.load_state_dict(before)
    call("npo")
    assert not changed(toy_model, first)


def test_the_neurons_of_a_mask_are_all_that_is_written(call, toy_model):
    groups, before = neuron_groups(toy_model), deepcopy(toy_model.state_dict())
    whole = NeuronMask.keep_all(groups, "tiny-llama")
    mask = random_like(whole.with_kept({name: torch.arange(len(kept)) >= len(kept) // 4 for name, kept in whole.items()}), 0)
    call("graddiff", writes="neurons", mask=mask, disruption_budget=10.0, retain_budget=1.0)
    may = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in before.items()}
    for name, index in zeros_of(toy_model, mask, groups):
        may[name][index] = True
    assert changed(toy_model, before)
    for name, value in toy_model.state_dict().items():
        assert torch.equal(value[~may[name]].view(torch.int32), before[name][~may[name]].view(torch.int32)), name


def test_neurons_that_may_be_written_are_found_where_no_mask_is_given(call, toy_model):
    before = deepcopy(toy_model.state_dict())
    record = call("graddiff", writes="neurons", neurons=0.1).record.training[0]
    assert 0 < record.written < 0.3 * toy_model.num_parameters()
    assert changed(toy_model, before) and "model.embed_tokens.weight" not in changed(toy_model, before)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"writes": "modules", "modules": ["layers.1.mlp.down_proj"]}, {"model.layers.1.mlp.down_proj.weight"}),
        ({"writes": "ffn outputs", "layer": 0}, {"model.layers.0.mlp.down_proj.weight"}),
        (
            {"writes": "lora", "modules": ["up_proj"], "learning_rate": 1e-2},
            {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"},
        ),
    ],
    ids=["modules", "ffn outputs", "lora"],
)
def test_chosen_modules_are_all_that_is_written(call, toy_model, settings, expected):
    before = deepcopy(toy_model.state_dict())
    call("graddiff", **settings)
    assert changed(toy_model, before) == expected
    assert not any("lora" in name for name, _ in toy_model.named_modules()), "the result is an ordinary model"


@pytest.mark.parametrize("settings", [{}, {"writes": "lora", "learning_rate": 1e-2}], ids=["all", "lora"])
def test_what_was_pruned_stays_at_zero_while_another_method_trains(call, toy_model, settings):
    result = call(["prune", "npo"], disruption_budget=0.3, **settings)
    assert result.mask.removed("ffn") > 0 and result.record.methods == ("prune", "npo")
    assert all_zero(held_parameters(toy_model, result.mask, neuron_groups(toy_model)))
    steps = result.history.steps
    assert [step.number for step in steps] == list(range(1, len(steps) + 1)) and len(result.mask_path) == len(steps)
    assert steps[0].scores.disruption <= 0.15, "the first of two methods may use half of the budget"


def test_pruning_may_follow_training_and_is_judged_against_the_original(call, toy_model):
    result = call("graddiff, prune", disruption_budget=0.3)
    assert result.record.methods == ("graddiff", "prune") and result.mask.removed("ffn") > 0
    assert all_zero(held_parameters(toy_model, result.mask, neuron_groups(toy_model)))


def test_a_kl_retain_objective_and_reference_sums_run_too(call):
    assert call("npo", retain_objective="kl", sequence_sum=True, beta=0.1).record.training[0].settings["sequence_sum"]


def test_bfloat16_weights_are_stepped_in_float32(call, toy_model):
    toy_model.bfloat16()
    before = deepcopy(toy_model.state_dict())
    call("graddiff", learning_rate=3e-4, disruption_budget=1.0, retain_budget=1.0)
    assert {value.dtype for value in toy_model.state_dict().values()} == {torch.bfloat16}
    assert changed(toy_model, before)


@pytest.mark.parametrize("method", ["npo", ["prune", "npo"]], ids=str)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_after_the_training_leaves_the_model_as_it_was(call, toy_model, untouched, monkeypatch, method, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(import_module("hf_untangle.unlearn"), "compare_stages", fail)
    with untouched(toy_model), pytest.raises(error):
        call(method, disruption_budget=0.3)


@pytest.mark.parametrize("writes", ["all", "lora"])
def test_an_interrupt_in_the_middle_of_a_step_leaves_the_model_as_it_was(call, toy_model, untouched, monkeypatch, writes):
    steps, own = [], descent._gradients

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(descent, "_gradients", interrupted)
    with untouched(toy_model), pytest.raises(KeyboardInterrupt):
        call("graddiff", writes=writes)


def test_the_original_comes_back_bit_for_bit(call, toy_model, untouched):
    with untouched(toy_model):
        result = call(["prune", "npo"], keep_removed=True, disruption_budget=0.3)
        untangle.restore(toy_model, result)


def test_a_budget_that_no_step_keeps_is_an_error_of_one_sentence(call, toy_model, untouched):
    with untouched(toy_model), pytest.raises(BudgetError, match="At least one step of `graddiff` must stay inside the budget"):
        call("graddiff", disruption_budget=1e-7, bisections=0)


def test_a_learning_rate_that_explodes_ends_at_the_best_step_inside_the_budget(call, monkeypatch, caplog):
    own, steps = descent._gradients, []

    def exploding(*arguments):
        steps.append(1)
        loss, of_retain = own(*arguments)
        return (float("nan") if len(steps) == 4 else loss), of_retain

    monkeypatch.setattr(descent, "_gradients", exploding)
    record = call("graddiff", learning_rate=1e-4, disruption_budget=1.0, evaluate_every=1).record.training[0]
    assert record.ended == "the loss was not finite at step 4" and len(record.steps) == 3
    assert "The loss was not finite at step 4, so the run ends at the best step inside the budget" in caplog.text


def test_a_learning_rate_that_breaks_everything_at_once_leaves_the_model_as_it_was(call, toy_model, untouched):
    with untouched(toy_model), pytest.raises(BudgetError, match="Allow a larger budget, or lower the learning_rate"):
        call("graddiff", learning_rate=1e5)


def test_the_step_that_breaks_the_budget_is_cut_to_the_part_that_fits(call):
    record = call("graddiff", evaluate_every=2, steps=8, disruption_budget=0.05, bisections=3).record.training[0]
    assert record.ended == "the budget is used up"
    assert any(step.share < 1 for step in record.steps)
    assert record.steps[record.chosen - 1].scores.disruption <= 0.05


def test_the_learning_rate_is_the_one_whose_short_trial_took_most(call):
    settings = {"learning_rate": None, "search": (0.1, 10.0), "trial_steps": 2, "steps": 4}
    result = call("graddiff", **settings)
    record = result.record.training[0]
    assert [one.learning_rate for one in record.trials] == pytest.approx([1e-5, 1e-3])
    base = result.history.base
    took = [one.best.selectivity(base) for one in record.trials]
    assert took[1] > took[0] and record.learning_rate == pytest.approx(1e-3)


def test_a_search_leaves_the_run_as_if_it_had_not_been(call, toy_model):
    before = deepcopy(toy_model.state_dict())
    call("graddiff", learning_rate=None, search=(0.1, 10.0), trial_steps=2)
    found = deepcopy(toy_model.state_dict())
    toy_model.load_state_dict(before)
    call("graddiff", learning_rate=METHODS["graddiff"].learning_rate * 10)
    assert not changed(toy_model, found)


def test_a_random_update_of_equal_size_takes_less(call):
    test = call("graddiff", controls=1).record.test
    assert test.controls[0].forget_drop(test.before) < test.after.forget_drop(test.before) / 2


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("npoo", {}, r"method must be one of auto, prune, graddiff, .*, got `npoo` \(did you mean `npo`\?\)"),
        (["npo", "npo"], {}, "Every method must be named once"),
        ([], {}, "Every method must be named once, got \\[\\]"),
        (["snip_set_difference", "npo"], {}, "snip_set_difference must come last, got `npo` after it"),
        (["prune", "npo"], {"ablation": "mean"}, "A method that trains needs ablation=`zero`, got `mean`"),
        ("dpo", {"alternatives": []}, "DPO needs answers to prefer, got \\[\\]"),
        ("dpo", {"alternatives": ["Yes.", " "]}, "DPO needs answers to prefer, got \\['Yes.', ' '\\]"),
        ("rmu", {"layer": 2}, "`layer` must be one of the model's 2 layers, 0 to 1, got 2"),
        ("npo", {"retain_objective": "hidden", "layer": -1}, "`layer` must be one of the model's 2 layers, 0 to 1, got -1"),
        ("npo", {"learning_rates": 1}, "There is no setting `learning_rates`"),
        ("npo", {"writes": "modules", "modules": ["attn.w"]}, "no module's name ends in `attn.w`"),
        ("npo", {"writes": "modules"}, "writes=`modules` must leave something to write"),
        ("npo", {"learning_rate": -1.0}, "`learning_rate`: input should be greater than 0, got -1.0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_said_in_one_sentence(call, toy_model, untouched, method, settings, message):
    with untouched(toy_model), pytest.raises(ConfigError, match=message):
        call(method, **settings)


@pytest.mark.parametrize("prunes", [{"method": "prune"}, {"ffn_fraction": 0.1}], ids=["named", "by a setting of pruning"])
def test_settings_of_methods_are_refused_for_pruning_alone(toy_model, tokenizer, prunes):
    with pytest.raises(ConfigError, match="`learning_rate` is a setting of methods other than pruning, got method=`prune`"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, tokenizer=tokenizer, learning_rate=1e-4, **prunes)


def test_lora_stands_on_projections_of_the_mask_alone(call, toy_model):
    groups = neuron_groups(toy_model)
    whole = NeuronMask.keep_all(groups, "tiny-llama")
    kept = {name: torch.arange(len(kept)) >= 4 * ("mlp" in name) for name, kept in whole.items()}
    mask = whole.with_kept(kept)
    with pytest.raises(ConfigError, match="LoRA may be put on projections that read or compute a neuron of the mask alone"):
        call("npo", writes="lora", modules=["q_proj"], mask=mask)
    with pytest.raises(ConfigError, match="`mask` says where writes=`neurons` or `lora` may write, got writes=None"):
        call("npo", mask=mask)
    assert call("npo", writes="lora", modules=["down_proj"], mask=mask, learning_rate=1e-2).record.training


def test_rows_whose_answer_is_empty_or_cut_off_are_refused(blocks_of):
    ids, answers = torch.arange(8).view(2, 4), torch.tensor([[False, True, True, True], [True, False, False, False]])
    blocks = replace(blocks_of(ids), answers=answers)
    with pytest.raises(CorpusError, match="needs a token of its answer in the block, got 1 of 2 rows without"):
        predicting(blocks)
    text = blocks_of(ids, torch.tensor([[True, True, True, True], [True, False, False, False]]))
    assert predicting(text).input_ids.tolist() == [[0, 1, 2, 3]], "of a text of one token nothing can be predicted"


def test_rows_with_answers_are_trained_on_their_answers(call):
    rows = [{"prompt": NUMBERS[seed][:9], "completion": NUMBERS[seed][9:30]} for seed in range(200)]
    result = call("dpo", forget=rows, alternatives=["no", "never"], disruption_budget=1.0, evaluation_tokens=256)
    assert result.record.test.after.selectivity(result.record.test.before) > 0


def test_a_snapshot_gives_values_back_bit_for_bit_and_lies_between():
    class Holder:
        def __init__(self, tensor):
            self.tensor = tensor

        def values(self):
            return self.tensor

        def write_(self, values):
            self.tensor = values.clone()

    holders = [
        Holder(torch.tensor([[-0.0, 1.5], [float("nan"), 3.0]], dtype=dtype)) for dtype in (torch.bfloat16, torch.float32)
    ]
    first = Snapshot(holders)
    for holder in holders:
        holder.write_(holder.tensor + 1)
    second = Snapshot(holders)
    first.between_(second, 0.25)
    assert [float(holder.tensor[0, 1]) for holder in holders] == [1.75, 1.75]
    first.restore_()
    assert holders[0].tensor.view(torch.int16).tolist() == next(first.values()).view(torch.int16).tolist()
    assert [str(float(holder.tensor[0, 0])) for holder in holders] == ["-0.0", "-0.0"]


def test_weights_come_back_when_the_body_fails(tiny_model, untouched):
    model = tiny_model("gpt2")
    with untouched(model), pytest.raises(ZeroDivisionError), restored_on_failure(model):
        with torch.no_grad():
            model.transformer.wte.weight += 1
        raise ZeroDivisionError


def test_a_trial_stops_at_the_forget_target(call):
    record = call("graddiff", forget_target=0.02, evaluate_every=1, disruption_budget=1.0).record.training[0]
    assert record.ended == "the forget target is reached"
