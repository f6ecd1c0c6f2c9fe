"""General compression: plans that touch nothing, budgets, the one call, and what it measures."""

import json
from importlib import import_module

import pytest
import torch
from toy_languages import NUMBERS, SMALL, WORDS
from transformers import AutoModelForCausalLM

import hf_untangle as untangle
from hf_untangle.errors import ArchitectureError, ConfigError, MaskError, StatisticsError
from hf_untangle.evaluation.footprint import footprint
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.select import top_like
from hf_untangle.records.compression import PruneRecord


@pytest.fixture
def plan(toy_model, tokenizer):
    """Plan a compression of the toy model on words, unless told otherwise."""

    def make(data=WORDS, **settings):
        return untangle.plan(toy_model, data, **{"tokenizer": tokenizer, "progress": False} | SMALL | settings)

    return make


@pytest.fixture
def prune(toy_model, tokenizer):
    """Compress the toy model on words, unless told otherwise."""

    def call(data=WORDS, **settings):
        return untangle.prune(toy_model, data, **{"tokenizer": tokenizer, "progress": False} | SMALL | settings)

    return call


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def gone(mask) -> list[int]:
    """How many neurons of each FFN go."""
    return [int((~kept).sum()) for name, kept in mask.items() if mask.kinds[name] == "ffn"]


def test_a_plan_touches_nothing(plan, toy_model, untouched):
    with untouched(toy_model):
        plan(ablation="mean")


@pytest.mark.parametrize("importance", IMPORTANCE)
def test_the_least_important_neurons_of_every_layer_go(plan, importance):
    made = plan(importance=importance, ratio=0.25)
    assert gone(made.mask) == [64, 64]
    for name, worth in made.importance.items():
        kept = made.mask[name]
        assert worth[~kept].max() <= worth[kept].min()


def test_all_layers_compete_when_allocation_is_global(plan):
    made = plan(ratio=0.3, allocation="global")
    assert sum(gone(made.mask)) == int(0.3 * 512)
    worth = torch.cat([worth / worth.mean() for worth in made.importance.values()])
    kept = torch.cat([made.mask[name] for name in made.importance])
    assert worth[~kept].max() <= worth[kept].min()


def test_layers_lose_what_the_list_says(plan):
    assert gone(plan(per_layer=(0.5, 0)).mask) == [128, 0]


def test_a_budget_of_parameters_is_kept(plan, toy_model):
    a_neuron = 3 * 32
    made = plan(parameters=100 * a_neuron)
    assert gone(made.mask) == [50, 50]
    assert made.parameters_removed == 100 * a_neuron
    assert plan(parameters=100 * a_neuron + 95).parameters_removed == 100 * a_neuron


def test_attention_stays_whole(plan):
    assert plan().mask.removed("attention") == 0


def test_a_plan_says_what_goes_where(plan):
    text = plan(per_layer=(0.25, 0), importance="rms").describe()
    assert "removes 64 of 512 ffn neurons (12.5%)" in text
    assert "6,144 of" in text
    assert "by the lowest rms on 2,048 tokens of strings" in text
    first, second = text.splitlines()[-2:]
    assert first.split()[:5] == ["0", "256", "64", "192", "25.0%"]
    assert second.split() == ["1", "256", "0", "256", "0.0%", "0.0%"]


def test_the_pruned_model_is_the_masked_model(plan, prune, taught, toy_model):
    result = prune(ratio=0.25)
    assert result.model is toy_model
    with untangle.masked(taught, result.mask):
        torch.testing.assert_close(logits(toy_model), logits(taught))


def test_a_plan_can_be_carried_out(plan, toy_model, taught, tokenizer):
    made = plan(ratio=0.1)
    result = untangle.prune(toy_model, made, tokenizer=tokenizer, progress=False)
    assert result.plan is made
    with untangle.masked(taught, made.mask):
        torch.testing.assert_close(logits(toy_model), logits(taught))


def test_what_is_worth_least_costs_least(prune):
    record = prune(ratio=0.4, importance="wanda", controls=3).record
    assert record.before.loss < record.after.loss < min(one.loss for one in record.random)


def test_the_record_holds_what_was_measured(prune, taught, tmp_path):
    result = prune(ratio=0.25, controls=2)
    record = result.record
    assert len(record.random) == 2
    assert record.parameters_removed == 128 * 96
    assert record.footprint_before.parameters == record.footprint_after.parameters == taught.num_parameters()
    assert record.footprint_before.tokens_per_second > 0
    assert record.corpora["train"]["fingerprint"] != record.corpora["test"]["fingerprint"]
    assert sum(group.removed for group in record.groups) == 128
    assert PruneRecord.model_validate(json.loads(record.model_dump_json())) == record


def test_what_is_saved_loads_with_plain_transformers(prune, toy_model, tmp_path):
    result = prune(ratio=0.25, ablation="mean")
    folder = result.save_pretrained(tmp_path / "smaller")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(toy_model))
    assert untangle.NeuronMask.load(folder / "mask.safetensors") == result.mask


@pytest.mark.parametrize("settings", [{"compact": "uniform"}, {"compact": "ragged", "per_layer": (0.25, 0.5)}])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_compaction_makes_a_smaller_model_and_leaves_the_given_one(prune, toy_model, untouched, tmp_path, settings, ablation):
    with untouched(toy_model):
        result = prune(ablation=ablation, **settings)
        with untangle.masked(toy_model, result.mask, constants=result.plan.constants):
            expected = logits(toy_model)
    assert result.model is not toy_model
    torch.testing.assert_close(logits(result.model), expected, rtol=1e-4, atol=1e-4)
    record = result.record
    added = sum(bias.numel() for name, bias in result.model.named_parameters() if name.endswith("bias"))
    assert record.footprint_after.parameters == record.footprint_before.parameters - record.parameters_removed + added
    folder = result.save_pretrained(tmp_path / "smaller")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(result.model))
    assert "The tensors keep their shapes" not in (folder / "README.md").read_text()


def test_entropy_is_an_importance_like_any_other(plan):
    made = plan(importance="entropy", ratio=0.1)
    moments = next(iter(made.statistics.values()))
    share = moments.positive / moments.count
    kept = next(kept for name, kept in made.mask.items() if name in made.importance)
    assert (share - 0.5).abs()[~kept].min() >= (share - 0.5).abs()[kept].max() - 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "`ratio`: input should be greater than 0, got 0"),
        ({"ratio": 1.0}, "`ratio`: input should be less than 1"),
        ({"ratio": 0.001}, "must remove at least one of 512 FFN neurons, but it rounds to 0"),
        ({"per_layer": (0.5,)}, "per_layer must have a share for each of the 2 FFNs of .*, got 1"),
        ({"per_layer": (0.0, 0.0)}, "every share must be at least 0 and below 1, and one above 0"),
        ({"per_layer": (0.5, 0.1), "parameters": 5}, "either `parameters` or `per_layer`, got both"),
        ({"per_layer": (0.5, 0.1), "allocation": "global"}, "`per_layer` says what each layer loses"),
        ({"parameters": 10**9}, "parameters must be below the 49,152 that all FFN neurons"),
        ({"parameters": 3}, "must remove at least one of"),
        ({"importance": "wands"}, "must be one of abs, .*did you mean `wanda`"),
        ({"rato": 0.5}, "There is no setting `rato` .did you mean `ratio`"),
    ],
)
def test_a_budget_that_means_nothing_is_an_error_and_nothing_is_touched(prune, toy_model, untouched, settings, message):
    with untouched(toy_model), pytest.raises(ConfigError, match=message):
        prune(**settings)


def test_a_plan_comes_without_other_settings(plan, toy_model, tokenizer):
    made = plan()
    with pytest.raises(ConfigError, match="A plan has its settings already"):
        untangle.prune(toy_model, made, tokenizer=tokenizer, ratio=0.5)


def test_a_plan_for_another_model_is_refused(plan, tiny_model, tokenizer, untouched):
    other = tiny_model("llama")
    with untouched(other), pytest.raises(MaskError, match="Was it made for another size"):
        untangle.prune(other, plan(), tokenizer=tokenizer, progress=False)


def test_a_fill_that_no_bias_can_hold_is_refused(tiny_model, tokenizer, untouched):
    model = tiny_model("qwen2")
    with untouched(model), pytest.raises(ArchitectureError, match="must have a bias"):
        untangle.prune(model, WORDS, tokenizer=tokenizer, ablation="mean", progress=False)


def test_an_interruption_leaves_the_model_as_it_was(prune, toy_model, untouched, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("hf_untangle.prune"), "next_token_metrics", stop)
    with untouched(toy_model), pytest.raises(KeyboardInterrupt):
        prune()


def test_a_model_that_is_broken_already_is_refused(prune, toy_model):
    with torch.no_grad():
        toy_model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(StatisticsError, match="must be finite"):
        prune()


def test_a_control_of_equal_size_takes_the_top_of_every_group(plan):
    made = plan(per_layer=(0.25, 0.5))
    scores = {name: torch.arange(len(kept)).double() for name, kept in made.mask.items()}
    control = top_like(made.mask, scores)
    assert gone(control) == gone(made.mask)
    for name in made.importance:
        assert not control[name].int().diff().gt(0).any()


def test_the_footprint_counts_parameters_and_bytes(toy_model, blocks):
    found = footprint(toy_model, blocks)
    assert found.parameters == sum(parameter.numel() for parameter in toy_model.parameters())
    assert found.bytes == sum(one.numel() * one.element_size() for one in [*toy_model.parameters(), *toy_model.buffers()])


def test_another_corpus_makes_another_plan(plan):
    assert plan(WORDS).mask != plan(NUMBERS).mask
