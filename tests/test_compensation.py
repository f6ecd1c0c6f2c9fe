"""Compensation: kept neurons write what removed ones did, in least squares, and nothing of the model changes on the way."""

import json
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from peft import LoraConfig, inject_adapter_in_model
from test_experts import mixture
from test_removal import random_mask
from test_restore import same
from toy_languages import NUMBERS, SMALL, TOY_CONFIG, WORDS
from transformers import AutoModelForCausalLM

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import matrix_of, place_of
from hf_untangle.compensation import least_squares, refitted
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.undo_removal import RemovedWeights, cut_out_, put_back_
from hf_untangle.records.compression import PruneRecord
from hf_untangle.reporting.card_text import limits
from hf_untangle.statistics import Gram, collect_grams, gram
from hf_untangle.statistics.collect import collect, run_over

QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(scope="module")
def text(blocks_of):
    """Twelve blocks of twelve random tokens, the last three of which are held out."""
    return blocks_of(torch.randint(256, (12, 12), generator=torch.Generator().manual_seed(2)))


@pytest.fixture
def prune(toy_model, tokenizer):
    """Compress the toy model on words, with a refit unless told otherwise."""

    def call(data=WORDS, **settings):
        how: dict[str, Any] = {"tokenizer": tokenizer, "compensate": "least-squares", **QUIET, **SMALL, **settings}
        return untangle.prune(toy_model, data, **how)

    return call


@pytest.fixture(params=["llama", "gpt2"])
def model(request, tiny_model):
    """A model without biases, and one with biases and transposed weights."""
    return tiny_model(request.param)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def activations(model, blocks, groups):
    """What every neuron of some groups is at every token that counts; of experts, one tensor each."""
    seen: dict[tuple[str, int], list[torch.Tensor]] = {}

    def add(group, values, neurons):
        expert = (neurons.start or 0) // (group.size // (group.experts or 1))
        seen.setdefault((group.name, expert), []).append(values.clone())

    run_over(model, blocks, groups, add, batch_size=4, progress=False)
    return {key: torch.cat(values).double() for key, values in seen.items()}


def with_ridge(inputs, targets, ridge, *, intercept):
    """What `torch.linalg.lstsq` says, the penalty written as more rows."""
    ones = torch.ones(len(inputs), 1, dtype=inputs.dtype)
    moved = inputs - inputs.mean(0) if intercept else inputs
    penalty = (ridge * moved.square().sum(0).mean()).sqrt() * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    if intercept:
        inputs, penalty = torch.cat([inputs, ones], 1), torch.nn.functional.pad(penalty, (0, 1))
    rows = torch.cat([inputs, penalty])
    return torch.linalg.lstsq(rows, torch.nn.functional.pad(targets, (0, 0, 0, len(penalty)))).solution


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gpt2", "opt"])
@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_the_refit_is_what_lstsq_finds_on_the_activations(tiny_model, family, text, ridge):
    model = tiny_model(family)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    found: Any = least_squares(model, mask, groups, text, ridges=[ridge], **QUIET)
    seen = activations(model, text, groups)
    with_bias = matrix_of(model, groups[0].name).bias is not None
    assert any(one is not None for one in found.ridges.values())
    for name, chosen in found.ridges.items():
        if chosen is None:
            assert name not in found.weights
            continue
        kept, values, reads = mask[name], seen[name, 0], matrix_of(model, name).weight[0].detach()
        solution = with_ridge(values[:, kept], values[:, ~kept], ridge, intercept=with_bias)
        expected = reads[:, kept] + (solution[: int(kept.sum())] @ reads[:, ~kept].double().T).T
        weight = found.weights[name].T if place_of(model, name).is_transposed else found.weights[name]
        torch.testing.assert_close(weight[:, kept].double(), expected.double(), rtol=1e-3, atol=1e-4)
        assert torch.equal(weight[:, ~kept], reads[:, ~kept])
        if with_bias:
            torch.testing.assert_close(found.constants[name][~kept], solution[-1], rtol=1e-3, atol=1e-4)


def held_out_error(model, original, blocks, groups, mask, constants) -> dict[str, float]:
    """Squared error of what each projection writes for the activations of the original model."""
    errors = {}
    for name, values in activations(original, blocks, groups).items():
        reads, new = (matrix_of(one, name[0]).weight[name[1]].detach().double() for one in (original, model))
        kept = mask[name[0]].view(len(matrix_of(original, name[0]).weight), -1)[name[1]]
        held = 0 if constants is None else constants[name[0]].view(-1, len(kept))[name[1]].double()
        wrote = torch.where(kept, values, held) @ new.T
        errors[name[0]] = errors.get(name[0], 0.0) + float((values @ reads.T - wrote).square().sum())
    return errors


def test_held_out_error_is_never_worse_and_is_what_is_said(model, text):
    groups = neuron_groups(model)
    mask = random_mask(groups)
    # The held-out blocks choose the ridge before they are fitted themselves.
    refit = least_squares(model, mask, groups, text, **QUIET)
    without = held_out_error(model, model, text.rows(slice(9, 12)), groups, mask, None)
    with refitted(deepcopy(model), refit) as new:
        after = held_out_error(new, model, text.rows(slice(9, 12)), groups, mask, refit.constants)
    for name in refit.ridges:
        assert refit.errors[name] <= 1
        assert after[name] <= without[name] * (1 + 1e-5)
    assert min(refit.errors.values()) < 0.9


def test_the_error_that_is_recorded_is_that_of_the_fit_on_the_other_blocks(tiny_model, text):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    refit = least_squares(model, mask, groups, text, ridges=[1.0], **QUIET)
    train, test = (activations(model, text.rows(rows), groups) for rows in (slice(0, 9), slice(9, 12)))
    for name, error in refit.errors.items():
        kept, reads = mask[name], matrix_of(model, name).weight[0].detach().double()
        solution = with_ridge(train[name, 0][:, kept], train[name, 0][:, ~kept], 1.0, intercept=False)
        missed = (test[name, 0][:, ~kept] - test[name, 0][:, kept] @ solution) @ reads[:, ~kept].T
        share = float(missed.square().sum() / (test[name, 0][:, ~kept] @ reads[:, ~kept].T).square().sum())
        assert error == pytest.approx(min(share, 1.0), rel=1e-4)


def test_where_nothing_can_be_learnt_nothing_is_refitted(tiny_model, blocks_of):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    # Two tokens of one block say little about another block.
    few = blocks_of(torch.tensor([[1, 2], [3, 4]]))
    refit = least_squares(model, mask, groups, few, ridges=[1e-6], **QUIET)
    assert [name for name, ridge in refit.ridges.items() if ridge is None] == [
        n for n in refit.ridges if n not in refit.weights
    ]
    assert any(refit.errors[name] == 1 for name in refit.ridges)


def test_several_passes_find_what_one_finds(tiny_model, text, monkeypatch):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    expected = least_squares(model, mask, groups, text, **QUIET)
    monkeypatch.setattr(gram, "AT_LEAST", 1)
    monkeypatch.setattr(gram, "SHARE", 0.0)
    assert [len(some) for some in gram.passes_of(model, groups, 2)] == [1] * len(groups)
    found = least_squares(model, mask, groups, text, **QUIET)
    assert found.ridges == expected.ridges
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


def test_moments_are_sums_over_the_tokens_that_count(tiny_model, padded_blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    found = collect_grams(model, padded_blocks, groups, batch_size=4, **QUIET)
    seen = activations(model, padded_blocks, groups)
    for name, sums in found.items():
        values = seen[name, 0]
        assert len(values) == sums.count.item() == padded_blocks.tokens
        torch.testing.assert_close(sums.second[0].double(), values.T @ values, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sums.total[0].double(), values.sum(0), rtol=1e-4, atol=1e-4)


def test_tokens_that_are_no_answers_do_not_count(tiny_model, text, blocks_of):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    answers = torch.arange(12).expand(12, 12) >= 6
    some = blocks_of(text.input_ids, counted=answers)
    found = least_squares(model, random_mask(groups), groups, some, ridges=[1.0], **QUIET)
    other = blocks_of(text.input_ids.clone(), counted=answers.clone())
    assert found.tokens == 72
    sums = collect_grams(model, other, groups, batch_size=4, **QUIET)
    assert all(one.count.item() == 72 for one in sums.values())
    all_count = least_squares(model, random_mask(groups), groups, text, ridges=[1.0], **QUIET)
    assert any(
        not torch.equal(found.weights[name], all_count.weights[name]) for name in found.weights.keys() & all_count.weights
    )


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss", "qwen2_moe"])
def test_experts_are_refitted_each_on_its_own_tokens(model_type, text):
    model: Any = mixture(model_type)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    experts = [group for group in groups if (group.experts or 1) > 1]
    refit = least_squares(model, mask, groups, text, ridges=[1.0], **QUIET)
    seen = activations(model, text, experts)
    checked = 0
    for group in experts:
        before, kept = matrix_of(model, group.name), mask[group.name].view(group.experts or 1, -1)
        if group.name not in refit.weights:
            continue
        weight = refit.weights[group.name]
        weight = weight.transpose(1, 2) if before.transposed else weight
        for expert, own in enumerate(kept):
            reads = before.weight[expert].detach()
            if (group.name, expert) not in seen:
                assert torch.equal(weight[expert], reads)
                continue
            values = seen[group.name, expert]
            intercept = refit.constants is not None
            solution = with_ridge(values[:, own], values[:, ~own], 1.0, intercept=intercept)[: int(own.sum())]
            expected = reads[:, own].double() + reads[:, ~own].double() @ solution.T
            torch.testing.assert_close(weight[expert][:, own].double(), expected, rtol=2e-3, atol=2e-4)
            checked += 1
    assert checked


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss", "qwen2_moe"])
def test_what_was_removed_from_experts_and_refitted_comes_back(model_type, text, tmp_path):
    model: Any = mixture(model_type)
    groups, original = neuron_groups(model), deepcopy(model)
    mask = random_mask(groups)
    refit = least_squares(model, mask, groups, text, **QUIET)
    cut_out_(model, mask, groups, constants=refit.constants, weights=refit.weights).save(tmp_path / "removed.safetensors")
    assert not same(model, original)
    assert same(put_back_(model, RemovedWeights.load(tmp_path / "removed.safetensors")), original)


def test_the_pruned_model_is_the_refitted_and_masked_one(model, text, untouched):
    groups = neuron_groups(model)
    mask = random_mask(groups)
    with untouched(model):
        refit = least_squares(model, mask, groups, text, **QUIET)
        with refitted(model, refit), masked(model, mask, constants=refit.constants):
            expected = logits(model)
        with masked(model, mask):
            without = logits(model)
    remove_(model, mask, groups, constants=refit.constants, weights=refit.weights)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, without, atol=1e-2)


def test_a_refit_with_a_failure_inside_leaves_nothing_behind(tiny_model, text, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    refit = least_squares(model, random_mask(groups), groups, text, **QUIET)
    with untouched(model), pytest.raises(KeyboardInterrupt), refitted(model, refit):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("family", "with_means"), [("llama", False), ("gpt2", False), ("gpt2", True)])
def test_what_was_refitted_comes_back_bit_for_bit(tiny_model, family, text, with_means):
    dtype = torch.bfloat16
    model = tiny_model(family).to(dtype)
    groups, original = neuron_groups(model), deepcopy(model)
    constants = mean_ablation(collect(model, text, groups=groups, **QUIET)) if with_means else None
    mask = random_mask(groups)
    refit = least_squares(model, mask, groups, text, constants=constants, **QUIET)
    assert all(weight.dtype == dtype for weight in refit.weights.values())
    removed = cut_out_(model, mask, groups, constants=refit.constants, weights=refit.weights)
    assert not same(model, original)
    assert same(put_back_(model, removed), original)


@pytest.mark.parametrize("to", [cpu_offload, disk_offload])
def test_offloaded_models_are_refitted_alike(tiny_model, text, to, tmp_path):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    where = (torch.device("cpu"),) if to is cpu_offload else (str(tmp_path / "offload"), torch.device("cpu"))
    elsewhere = to(deepcopy(model), *where)
    refit = least_squares(model, mask, groups, text, **QUIET)
    found = least_squares(elsewhere, mask, groups, text, **QUIET)
    assert all(torch.equal(found.weights[name], weight) for name, weight in refit.weights.items())
    before = logits(elsewhere)
    with refitted(model, refit), masked(model, mask):
        expected = logits(model)
    with refitted(elsewhere, found), masked(elsewhere, mask):
        torch.testing.assert_close(logits(elsewhere), expected)
    assert torch.equal(logits(elsewhere), before)
    remove_(elsewhere, mask, groups, weights=found.weights)
    torch.testing.assert_close(logits(elsewhere), expected)


def test_one_block_is_too_few(tiny_model, text):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    with pytest.raises(ConfigError, match="at least two blocks, one of them held out, got 1 of made"):
        least_squares(model, random_mask(groups), groups, text.rows(slice(0, 1)), **QUIET)


def test_adapters_are_refused(tiny_model, text):
    model: Any = inject_adapter_in_model(LoraConfig(target_modules=["down_proj"]), tiny_model("llama"))
    groups = neuron_groups(model)
    with pytest.raises(MaskError, match="must carry no adapter to be refitted"):
        least_squares(model, random_mask(groups), groups, text, **QUIET)


def test_merged_moments_are_those_of_all_tokens(tiny_model, text):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    parts = [collect_grams(model, text.rows(rows), groups, **QUIET) for rows in (slice(0, 4), slice(4, 12))]
    whole = collect_grams(model, text, groups, **QUIET)
    for name, sums in whole.items():
        merged: Gram = parts[0][name] + parts[1][name]
        torch.testing.assert_close(merged.second, sums.second, rtol=1e-4, atol=1e-4)
        assert merged.count.item() == sums.count.item()


def test_pruning_with_a_refit_costs_less_and_says_so(prune, taught, toy_model):
    result = prune(ratio=0.5)
    record = result.record
    assert record.before.loss < record.after.loss < record.without_refit.loss
    assert record.refit.tokens == record.corpora["train"]["tokens"]
    assert record.refit.ridges.keys() == {name for name, kept in result.mask.items() if not kept.all()}
    assert PruneRecord.model_validate(json.loads(record.model_dump_json())) == record
    with masked(taught, result.mask):
        assert not torch.allclose(logits(taught), logits(toy_model), atol=1e-2)


def test_what_is_measured_is_what_is_saved(prune, toy_model, tmp_path):
    result = prune(ratio=0.5)
    now = next_token_metrics(toy_model, result.held_out, batch_size=16, **QUIET)
    assert now.loss == pytest.approx(result.record.after.loss, abs=1e-5)
    folder = result.save_pretrained(tmp_path / "smaller")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(toy_model))
    card = (folder / "README.md").read_text()
    assert "2 of 2 output projections were refitted in closed form on 2,048 tokens of strings" in card
    assert "| wanda, refitted |" in card and "| wanda without the refit |" in card
    assert untangle.PruneResult.from_pretrained(folder, corpora={"data": WORDS}).record == result.record


@pytest.mark.parametrize(("layout", "ablation"), [("uniform", "zero"), ("ragged", "mean")])
def test_compaction_keeps_the_refit_and_leaves_the_given_model(prune, toy_model, untouched, tmp_path, layout, ablation):
    with untouched(toy_model):
        result = prune(ratio=0.5, compact=layout, ablation=ablation)
    in_place = prune(ratio=0.5, ablation=ablation)
    torch.testing.assert_close(logits(result.model), logits(in_place.model), rtol=1e-4, atol=1e-4)
    folder = result.save_pretrained(tmp_path / "smaller")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(result.model))


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_pruned_and_refitted_model_is_restored(prune, taught, toy_model, tmp_path, ablation):
    result = prune(ratio=0.5, keep_removed=True, ablation=ablation)
    folder = result.save_pretrained(tmp_path / "smaller")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert same(untangle.restore(loaded, folder), taught)
    assert same(result.restore(), taught)


@pytest.mark.parametrize("place", ["refit_by", "next_token_metrics", "weights_fingerprint", "zeros_of"])
def test_a_failure_anywhere_leaves_the_model_as_it_was(prune, toy_model, untouched, monkeypatch, place):
    calls = []

    def fail(*args, **kwargs):
        calls.append(place)
        raise RuntimeError("injected")

    module = import_module("hf_untangle.masks.removal" if place == "zeros_of" else "hf_untangle.prune")
    monkeypatch.setattr(module, place, fail)
    with untouched(toy_model), pytest.raises(RuntimeError, match="injected"):
        prune(ratio=0.5)
    assert calls


def test_compensation_by_the_mean_is_mean_ablation(prune):
    config = prune(ratio=0.25, compensate="mean").record.config
    assert (config.compensate, config.ablation) == ("mean", "mean")


def test_a_refit_and_modes_do_not_go_together(prune):
    with pytest.raises(ConfigError, match="must come with ablation='zero' or 'mean', got 'mode'"):
        prune(compensate="least-squares", ablation="mode")


def test_no_adapter_can_hold_a_refit(prune, tmp_path):
    with pytest.raises(MaskError, match="An adapter can only silence neurons"):
        prune(ratio=0.25).to_adapter(tmp_path / "adapter")


@pytest.fixture(scope="module")
def forgot(taught, tokenizer):
    """A run of unlearning on a copy of the toy model, refitted on retain, its removed weights kept."""
    settings: dict[str, Any] = {
        "tokenizer": tokenizer,
        "config": TOY_CONFIG,
        "steps": 3,
        "keep_removed": True,
        "retain_budget": 0.5,
    }
    return untangle.unlearn(deepcopy(taught), NUMBERS, WORDS, compensate="least-squares", **settings, **QUIET)


def test_unlearning_is_refitted_on_the_retain_corpus_alone(forgot, taught, pairs):
    train = pairs[0]
    expected = least_squares(taught, forgot.mask, neuron_groups(taught), train.retain, batch_size=16, **QUIET)
    assert forgot.record.refit.ridges == expected.ridges
    assert forgot.record.refit.tokens == train.retain.tokens
    pruned = remove_(deepcopy(taught), forgot.mask, neuron_groups(taught), weights=expected.weights)
    assert same(forgot.model, pruned)


def test_what_unlearning_reports_is_the_refitted_model(forgot):
    test = forgot.record.test
    now = next_token_metrics(forgot.model, forgot.held_out.retain, batch_size=16, **QUIET)
    assert now.loss == pytest.approx(test.after.retain.loss, abs=1e-5)
    assert test.after.retain.loss < test.without_refit.retain.loss
    assert "output projections were refitted in closed form on 2,048 tokens of retain alone" in " ".join(limits(forgot.record))


def test_a_refitted_result_of_unlearning_is_saved_read_and_restored(forgot, taught, tmp_path, no_report):
    folder = replace(forgot).save_pretrained(tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(loaded), logits(forgot.model))
    again = untangle.UnlearnResult.from_pretrained(folder, corpora={"forget": NUMBERS, "retain": WORDS})
    assert again.record == forgot.record
    assert same(untangle.restore(loaded, folder), taught)
    with pytest.raises(MaskError, match="An adapter can only silence neurons"):
        again.to_adapter(tmp_path / "adapter")


def test_a_failure_after_the_refit_leaves_the_model_that_was_to_unlearn(toy_model, tokenizer, untouched, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("injected")

    monkeypatch.setattr(import_module("hf_untangle.unlearn"), "remove_", fail)
    how: dict[str, Any] = {
        "tokenizer": tokenizer,
        "config": TOY_CONFIG,
        "steps": 1,
        "controls": 0,
        "compensate": "least-squares",
    }
    with untouched(toy_model), pytest.raises(RuntimeError, match="injected"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, **how, **QUIET)


def test_methods_that_train_take_no_refit(toy_model, tokenizer):
    with pytest.raises(ConfigError, match="A method that trains needs compensate=`none`, got `least-squares`"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, method="npo", tokenizer=tokenizer, compensate="least-squares", **QUIET)
