"""Blocks trained to write what they wrote with all neurons, on what the pruned layers before feed them."""

import json
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from test_experts import mixture
from test_removal import random_mask
from test_restore import same
from torch import nn
from toy_languages import SMALL, WORDS
from transformers import AutoModelForCausalLM

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compensation import least_squares, reconstruct, refitted
from hf_untangle.compensation.dense_block import BlockCall, DenseBlock
from hf_untangle.compensation.layer_by_layer import LayerByLayer, first_tensor
from hf_untangle.compensation.narrow_block import narrowed
from hf_untangle.errors import ArchitectureError, ConfigError, MaskError
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.removal import remove_, zeros_of
from hf_untangle.records.compression import PruneRecord
from hf_untangle.statistics.collect import collect

QUIET: dict[str, Any] = {"progress": False}
FEW: dict[str, Any] = {"steps": 20, "learning_rate": 1e-2, "batch_size": 4, **QUIET}


@pytest.fixture(scope="module")
def text(blocks_of):
    """Twelve blocks of twelve random tokens, the last three of which are held out."""
    return blocks_of(torch.randint(256, (12, 12), generator=torch.Generator().manual_seed(2)))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def passes_through(model, paths, inputs) -> dict[str, list]:
    """What some modules write in one pass of a model, with what they read."""
    seen: dict[str, list] = {}
    hooks = []

    def keep(path: str, _: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        seen.setdefault(path, []).append((args, kwargs, first_tensor(output)))

    for path in paths:
        hooks.append(model.get_submodule(path).register_forward_hook(partial(keep, path), with_kwargs=True))
    with torch.no_grad():
        model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def test_layer_by_layer_each_layer_writes_what_it_writes_in_the_whole_model(model, padded_blocks, untouched):
    stack = neuron_groups(model)[0].stack
    batches = list(padded_blocks.batches(4))
    paths = [f"{stack}.{number}" for number in range(2)]
    expected = [passes_through(model, paths, batch.inputs(torch.device("cpu"))) for batch in batches]
    found = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        found.append(first_tensor(output))

    with untouched(model), torch.no_grad():
        layers = LayerByLayer(model, stack, batches)
        for number, path in enumerate(paths):
            handle = model.get_submodule(path).register_forward_hook(keep)
            assert [index for _, index in layers.run(number)] == [0, 1]
            handle.remove()
            layers.advance(number)
    wanted = [one[path][0][2] for path in paths for one in expected]
    assert all(torch.equal(mine, its) for mine, its in zip(found, wanted, strict=True))


def test_layers_that_do_not_run_once_in_their_order_are_refused(tiny_model, text):
    model = tiny_model("llama")
    model.model.layers = nn.ModuleList([model.model.layers[0], model.model.layers[0]])
    with pytest.raises(ArchitectureError, match="each layer of `model.layers` must run once, on what the one before"):
        LayerByLayer(model, "model.layers", list(text.batches(4)))


class Remembering(nn.Module):
    """A layer that also reads what the first layer was given, which no state between two layers tells."""

    def __init__(self, layer: nn.Module, memory: dict) -> None:
        super().__init__()
        self.layer, self.memory = layer, memory

    def forward(self, states: torch.Tensor, **kwargs) -> torch.Tensor:
        seen = self.memory.get("states", 0)
        self.memory["states"] = states
        return self.layer(states + seen, **kwargs)


def test_layers_that_hand_more_on_than_their_states_are_refused(tiny_model, text):
    model, memory = tiny_model("llama"), {}
    model.model.layers = nn.ModuleList([Remembering(layer, memory) for layer in model.model.layers])
    with pytest.raises(ArchitectureError, match="Use compensate='least-squares'"):
        LayerByLayer(model, "model.layers", list(text.batches(4)))


@pytest.mark.parametrize(
    ("family", "attention", "ffn"),
    [
        ("llama", "model.layers.0.self_attn", "model.layers.0.mlp"),
        ("gpt2", "transformer.h.0.attn", "transformer.h.0.mlp"),
        ("opt", "model.decoder.layers.0.self_attn", "model.decoder.layers.0"),
        ("phi3", "model.layers.0.self_attn", "model.layers.0.mlp"),
    ],
)
def test_a_block_is_the_smallest_module_around_a_group(tiny_model, family, attention, ffn):
    model = tiny_model(family)
    paths = {group.kind: DenseBlock.of(model, group).path for group in neuron_groups(model) if group.layer == 0}
    assert paths == {"attention": attention, "ffn": ffn}


def held_out_errors(model, groups, mask, refit, blocks) -> dict[str, tuple[float, float]]:
    """Squared error of every block on what the pruned layers before feed it: with the closed form alone, and as it came out.

    By the definition: the model is pruned up to the block for good, and the block is called once dense and twice pruned.
    """
    closed = least_squares(model, mask, groups, blocks, **QUIET)
    held_out, errors, before = blocks.rows(slice(9, 12)), {}, {}
    for group in groups:
        prefix = deepcopy(model)
        names = {name: kept if name in before else torch.ones_like(kept) for name, kept in mask.items()}
        weights = {name: one for name, one in refit.weights.items() if any(name in own for own in before.values())}
        remove_(prefix, mask.with_kept(names), groups, weights=weights, constants=refit.constants)
        path = DenseBlock.of(model, group).path
        args, kwargs, dense = passes_through(prefix, [path], held_out.inputs(torch.device("cpu")))[path][0]
        found = []
        alone = {name: kept if name == group.name else torch.ones_like(kept) for name, kept in mask.items()}
        own = {group.name, *(producer.name for producer in group.producers)}
        for source in (closed, refit):
            pruned = deepcopy(prefix)
            mine = {name: one for name, one in source.weights.items() if name in own}
            remove_(pruned, mask.with_kept(alone), groups, weights=mine, constants=source.constants)
            with torch.no_grad():
                found.append(float((first_tensor(pruned.get_submodule(path)(*args, **kwargs)) - dense).square().sum()))
        errors[group.name] = tuple(found)
        before[group.name] = own
    return errors


@pytest.mark.parametrize(
    ("family", "narrow"), [("llama", {"ffn"}), ("opt", {"ffn"}), ("phi3", {"ffn"}), ("gpt2", set())], ids=lambda one: str(one)
)
def test_a_block_is_trained_without_its_removed_neurons_where_its_forward_pass_is_the_same(tiny_model, family, narrow):
    model = tiny_model(family)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    for group in groups[:2]:
        block = DenseBlock.of(model, group)
        ((args, kwargs, written),) = passes_through(model, [block.path], {"input_ids": torch.arange(40)[None]})[block.path]
        call = BlockCall(args, kwargs, written.flatten(0, -2), None)
        pruned, zeros = block.pruned(mask, {}, None), block.zeros(mask)
        smaller, stays = narrowed(pruned, zeros, [call])
        assert bool(stays) == (group.kind in narrow)
        with torch.no_grad():
            found, expected = (first_tensor(one(*args, **kwargs)) for one in (smaller, pruned))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if stays:
            inside = block.projections[group.name]
            assert smaller.get_parameter(inside).shape[1] == int(mask[group.name].sum()) < group.size
            assert set(stays) == set(zeros)


@pytest.mark.parametrize("family", ["llama", "opt", "phi3"])
def test_every_block_comes_nearer_to_the_dense_one_and_says_by_how_much(tiny_model, family, text, untouched):
    model = tiny_model(family)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    with untouched(model):
        refit = reconstruct(model, mask, groups, text, **FEW)
    errors = held_out_errors(model, groups, mask, refit, text)
    for name, (closed, trained) in errors.items():
        assert refit.block_errors[name] == pytest.approx(min(1.0, trained / closed), rel=2e-3)
    assert max(refit.block_errors.values()) <= 1
    assert min(refit.block_errors.values()) < 0.97


def test_weights_of_removed_neurons_are_as_they_were_and_zero_once_they_are_removed(tiny_model, text):
    model = tiny_model("llama").to(torch.bfloat16)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    refit = reconstruct(model, mask, groups, text, **FEW)
    assert any(name.endswith("gate_proj") for name in refit.weights)
    own = dict(model.named_parameters())
    for name, index in zeros_of(model, mask, groups):
        path = name.removesuffix(".weight")
        assert path not in refit.weights or torch.equal(refit.weights[path][index], own[name][index])
    assert {weight.dtype for weight in refit.weights.values()} == {torch.bfloat16}
    with refitted(model, refit), masked(model, mask, constants=refit.constants):
        expected = logits(model)
    remove_(model, mask, groups, weights=refit.weights, constants=refit.constants)
    torch.testing.assert_close(logits(model), expected, rtol=2e-2, atol=2e-2)
    assert all(not bool(dict(model.named_parameters())[name][index].any()) for name, index in zeros_of(model, mask, groups))


@pytest.mark.parametrize("with_means", [False, True])
def test_the_pruned_model_is_the_trained_and_masked_one_where_there_are_biases(tiny_model, text, with_means):
    model = tiny_model("gpt2")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    constants = mean_ablation(collect(model, text, groups=groups, **QUIET)) if with_means else None
    refit = reconstruct(model, mask, groups, text, constants=constants, **FEW)
    with refitted(model, refit), masked(model, mask, constants=refit.constants):
        expected = logits(model)
    remove_(model, mask, groups, constants=refit.constants, weights=refit.weights)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


def test_a_mean_without_a_bias_is_refused(tiny_model, text, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    constants = mean_ablation(collect(model, text, groups=groups, **QUIET))
    with untouched(model), pytest.raises(MaskError, match="need a bias of `model.layers.0.self_attn.o_proj`"):
        reconstruct(model, random_mask(groups), groups, text, constants=constants, **FEW)


def test_a_call_that_was_stopped_continues_after_the_last_block(tiny_model, text, untouched, monkeypatch, cache):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    module = import_module("hf_untangle.compensation.reconstruct")
    real, trained = module.train_block, []

    def stopped(block, *args, **kwargs):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(block.group.name)
        return real(block, *args, **kwargs)

    expected = reconstruct(model, mask, groups, text, **FEW)
    monkeypatch.setattr(module, "train_block", stopped)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        reconstruct(model, mask, groups, text, **FEW)
    trained.clear()
    found = reconstruct(model, mask, groups, text, **FEW)
    assert trained == [group.name for group in groups[2:]]
    assert found.block_errors == expected.block_errors
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())
    assert not list((cache / "blocks").glob("*"))


def test_blocks_of_another_mask_are_not_taken_and_damaged_ones_are_trained_again(tiny_model, text, monkeypatch, cache):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    module = import_module("hf_untangle.compensation.reconstruct")
    monkeypatch.setattr(module.FinishedBlocks, "close", lambda self: None)
    mask = random_mask(groups)
    first = reconstruct(model, mask, groups, text, **FEW)
    file = next((cache / "blocks").rglob("*.safetensors"))
    other = mask.with_kept({name: ~kept for name, kept in mask.items()})
    assert reconstruct(model, other, groups, text, **FEW).block_errors != first.block_errors
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    again = reconstruct(model, mask, groups, text, **FEW)
    assert all(torch.equal(again.weights[name], weight) for name, weight in first.weights.items())


@pytest.mark.parametrize("to", [cpu_offload, disk_offload])
def test_offloaded_models_are_trained_alike(tiny_model, text, to, tmp_path):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    where = (torch.device("cpu"),) if to is cpu_offload else (str(tmp_path / "offload"), torch.device("cpu"))
    elsewhere = to(deepcopy(model), *where)
    before = logits(elsewhere)
    refit = reconstruct(model, mask, groups, text, **FEW)
    found = reconstruct(elsewhere, mask, groups, text, **FEW)
    assert found.block_errors == refit.block_errors
    assert all(torch.equal(found.weights[name], weight) for name, weight in refit.weights.items())
    assert torch.equal(logits(elsewhere), before)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe"])
def test_experts_are_trained_together_as_one_block(model_type, text, untouched):
    model: Any = mixture(model_type)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    with untouched(model):
        refit = reconstruct(model, mask, groups, text, **FEW)
    experts = [group.name for group in groups if (group.experts or 1) > 1]
    assert min(refit.block_errors[name] for name in experts) < 1
    with refitted(model, refit), masked(model, mask, constants=refit.constants):
        expected = logits(model)
    remove_(model, mask, groups, constants=refit.constants, weights=refit.weights)
    torch.testing.assert_close(logits(model), expected, rtol=1e-3, atol=1e-3)


def test_tokens_that_do_not_count_are_no_part_of_an_error():
    block, counted = nn.Linear(3, 2), torch.tensor([True, False, True])
    states, written = torch.randn(1, 3, 3), torch.randn(3, 2)
    with torch.no_grad():
        call = BlockCall((states,), {}, written, counted)
        expected = (block(states)[0, [0, 2]] - written[[0, 2]]).square().sum()
        torch.testing.assert_close(call.missed(block), expected)
        torch.testing.assert_close(call.energy(), written[[0, 2]].square().sum())
        everything = BlockCall((states,), {}, written, None)
        torch.testing.assert_close(everything.missed(block), (block(states)[0] - written).square().sum())


def test_no_steps_are_no_training(tiny_model, text):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    with pytest.raises(ConfigError, match="at least one step, at a positive learning rate, got steps=0"):
        reconstruct(model, random_mask(groups), groups, text, steps=0, **QUIET)


def test_pruning_with_trained_blocks_is_recorded_saved_and_restored(taught, toy_model, tokenizer, tmp_path):
    how: dict[str, Any] = {"tokenizer": tokenizer, "ratio": 0.5, "block_steps": 30, "keep_removed": True, **QUIET, **SMALL}
    result = untangle.prune(toy_model, WORDS, compensate="block", **how)
    record: Any = result.record
    closed: Any = untangle.prune(deepcopy(taught), WORDS, compensate="least-squares", **how).record
    assert record.after.loss < closed.after.loss < record.without_refit.loss
    assert record.refit.block_errors.keys() == {name for name, kept in result.mask.items() if not kept.all()}
    assert PruneRecord.model_validate(json.loads(record.model_dump_json())) == record
    folder = result.save_pretrained(tmp_path / "smaller")
    assert "of 2 blocks were trained to write what they had written" in (folder / "README.md").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(loaded), logits(toy_model))
    assert same(untangle.restore(loaded, folder), taught)
