"""Models whose weights accelerate keeps in memory or on disk: the same statistics, masks and checkpoints as without offload."""

import hashlib
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from test_removal import logits, random_mask
from toy_languages import NUMBERS, SMALL, WORDS
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.parameters import Edit, read_parameter, write_parameters_
from hf_untangle.compaction.compact import compact
from hf_untangle.errors import ArchitectureError, MaskError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.dampening import dampen_
from hf_untangle.masks.removal import remove_, removed_parameters
from hf_untangle.masks.undo_removal import bit_sum, cut_out_, put_back_
from hf_untangle.pruning.resume import weights_fingerprint
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.statistics.weight_norms import weight_norms
from hf_untangle.unlearn import unlearn

CPU = torch.device("cpu")


def to_memory(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    return cpu_offload(model, CPU)


def to_disk(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    return disk_offload(model, str(folder / "offload"), CPU)


def layer_map(model: PreTrainedModel) -> dict[str, str]:
    """The first layer stays where it is, and the last one goes to disk."""
    names = {name for name, _ in model.named_modules()}
    leaves = [name for name in names if name and not any(other.startswith(f"{name}.") for other in names)]
    return {name: "disk" if ".1." in name else "cpu" for name in leaves}


def in_part_to_disk(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    return dispatch_model(model, layer_map(model), main_device="cpu", offload_dir=str(folder / "offload"))


@pytest.fixture(params=[to_memory, to_disk, in_part_to_disk], ids=lambda one: one.__name__)
def offload(request, tmp_path):
    """Every way to offload a copy of a model, in turn."""
    return lambda model: request.param(deepcopy(model), tmp_path)


@pytest.mark.parametrize("family", ["llama", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gpt2", "phi3"))])
def test_neurons_statistics_and_metrics_are_those_of_the_loaded_model(tiny_model, offload, padded_blocks, family):
    model = tiny_model(family)
    elsewhere, groups = offload(model), neuron_groups(model)
    found = neuron_groups(elsewhere)
    assert [(one.name, one.kind, one.heads) for one in found] == [(one.name, one.kind, one.heads) for one in groups]
    for one, other in zip(found, groups, strict=True):
        assert [(part.name, part.rows.tolist()) for part in one.producers] == [
            (part.name, part.rows.tolist()) for part in other.producers
        ]
    statistics, expected = (collect(one, padded_blocks, progress=False) for one in (elsewhere, model))
    assert all(torch.equal(statistics[name].square, expected[name].square) for name in expected)
    mask = random_mask(groups)
    with masked(elsewhere, mask), masked(model, mask):
        tried, masked_metrics = (next_token_metrics(one, padded_blocks, progress=False) for one in (elsewhere, model))
    assert tried == masked_metrics


def test_gradients_norms_and_fingerprint_are_those_of_the_loaded_model(tiny_model, offload, blocks):
    model = tiny_model("llama")
    elsewhere, groups = offload(model), neuron_groups(model)
    saliency, expected = (collect_saliency(one, blocks, groups=groups, progress=False) for one in (elsewhere, model))
    assert all(torch.equal(saliency[name].second, expected[name].second) for name in expected)
    norms, expected = weight_norms(elsewhere, groups), weight_norms(model, groups)
    assert all(torch.equal(norms[name].rows, expected[name].rows) for name in expected)
    assert weights_fingerprint(elsewhere) == weights_fingerprint(model)
    assert bit_sum(elsewhere) == bit_sum(model)


def test_a_pass_leaves_nothing_behind_that_could_not_be_trained(tiny_model, offload, blocks):
    elsewhere = offload(tiny_model("llama"))
    collect(elsewhere, blocks, progress=False)
    next_token_metrics(elsewhere, blocks, progress=False)
    assert not any(parameter.is_inference() for parameter in elsewhere.parameters())
    assert input_device(elsewhere) == CPU


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_removal_lands_where_the_weights_are_and_is_undone_bit_for_bit(tiny_model, offload, blocks, family, held):
    model = tiny_model(family, **({"mlp_bias": True, "attention_bias": True} if family == "llama" else {}))
    elsewhere, groups = offload(model), neuron_groups(model)
    mask = random_mask(groups)
    values = mean_ablation(collect(model, blocks, progress=False)) if held else None
    assert removed_parameters(elsewhere, mask, groups) == removed_parameters(model, mask, groups)
    original = bit_sum(model)
    removed = cut_out_(elsewhere, mask, groups, constants=values)
    pruned = remove_(deepcopy(model), mask, groups, constants=values)
    assert torch.equal(logits(elsewhere, blocks.input_ids), logits(pruned, blocks.input_ids))
    assert bit_sum(elsewhere) == bit_sum(pruned) != original
    put_back_(elsewhere, removed)
    assert torch.equal(logits(elsewhere, blocks.input_ids), logits(model, blocks.input_ids))
    assert bit_sum(elsewhere) == original


def test_the_saved_checkpoint_is_that_of_the_loaded_model(tiny_model, tmp_path, blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    elsewhere, mask = in_part_to_disk(deepcopy(model), tmp_path), random_mask(groups)
    remove_(elsewhere, mask, groups)
    with pytest.warns(UserWarning, match="Attempting to save a model with offloaded modules"):
        elsewhere.save_pretrained(tmp_path / "saved")
    again, pruned = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved").state_dict(),
        remove_(model, mask, groups).state_dict(),
    )
    assert again.keys() == pruned.keys() and all(torch.equal(again[name], pruned[name]) for name in pruned)


@pytest.mark.parametrize("with_folder", [False, True])
def test_removal_from_a_checkpoint_that_is_read_as_needed_does_not_write_to_it(tiny_model, tmp_path, blocks, with_folder):
    model = tiny_model("llama")
    model.save_pretrained(tmp_path / "checkpoint")
    fingerprint = digest(tmp_path / "checkpoint")
    how = {"offload_folder": str(tmp_path / "offload")} if with_folder else {}
    elsewhere = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", device_map=layer_map(model), **how).eval()
    groups = neuron_groups(elsewhere)
    mask = random_mask(groups)
    remove_(elsewhere, mask, groups)
    assert torch.equal(logits(elsewhere, blocks.input_ids), logits(remove_(model, mask, groups), blocks.input_ids))
    assert digest(tmp_path / "checkpoint") == fingerprint


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_disk_that_is_full_leaves_every_weight_as_it_was(tiny_model, tmp_path, blocks, monkeypatch):
    model = tiny_model("llama")
    elsewhere, groups = to_disk(deepcopy(model), tmp_path), neuron_groups(model)
    from hf_untangle.architecture import offload as module

    write, written = module.save_file, []

    def full(tensors, file):
        if len(written) == 3:
            raise OSError("No space left on device")
        written.append(file)
        write(tensors, file)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        remove_(elsewhere, random_mask(groups), groups)
    assert len(written) == 3 and not any(file.exists() for file in written)
    assert bit_sum(elsewhere) == bit_sum(model)
    assert torch.equal(logits(elsewhere, blocks.input_ids), logits(model, blocks.input_ids))


def test_changed_weights_on_disk_go_with_their_model(tiny_model, tmp_path):
    elsewhere = to_disk(tiny_model("llama"), tmp_path)
    name = "model.norm.weight"
    write_parameters_(elsewhere, [Edit(name, (torch.tensor([2, 5]),), torch.tensor([7.0, 8.0]))])
    assert read_parameter(elsewhere, name)[[2, 5]].tolist() == [7, 8]
    assert len(list((tmp_path / "offload").glob("hf_untangle-*"))) == 1
    del elsewhere
    import gc

    gc.collect()
    assert not list((tmp_path / "offload").glob("hf_untangle-*"))


@pytest.mark.slow
def test_an_offloaded_model_unlearns_and_is_saved_as_the_loaded_one(toy_model, tokenizer, offload, tmp_path):
    settings = {**SMALL, "ffn_fraction": 0.1, "steps": 1, "controls": 0}
    elsewhere = offload(toy_model)
    found, expected = (
        unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, progress=False, **settings) for model in (elsewhere, toy_model)
    )
    assert found.mask == expected.mask and found.mask.removed() > 0
    found.save_pretrained(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in toy_model.state_dict().items())


def test_what_needs_all_weights_in_memory_says_so(tiny_model, offload):
    elsewhere = offload(tiny_model("llama"))
    groups = neuron_groups(elsewhere)
    message = "All weights must be in memory for this, but some of them are offloaded or sharded. Load the model"
    with pytest.raises(MaskError, match=message):
        compact(elsewhere, random_mask(groups))
    with pytest.raises(MaskError, match=message):
        dampen_(elsewhere, {}, groups)


def test_a_bias_cannot_be_made_where_weights_are_elsewhere(tiny_model, offload, blocks):
    model = tiny_model("llama")
    elsewhere, groups = offload(model), neuron_groups(model)
    values = mean_ablation(collect(model, blocks, progress=False))
    with pytest.raises(ArchitectureError, match="must have a bias .* no bias can be made in a model that is offloaded"):
        remove_(elsewhere, random_mask(groups), groups, constants=values)
    assert bit_sum(elsewhere) == bit_sum(model)


def test_an_offloaded_model_that_its_configuration_does_not_make_is_refused(tiny_model, offload):
    model = tiny_model("llama")
    model.config.intermediate_size = 40
    with pytest.raises(ArchitectureError, match="are found from its configuration, but that of this LlamaForCausalLM does not"):
        neuron_groups(offload(model))


def test_weights_that_nobody_has_are_refused(tiny_model):
    model = tiny_model("llama").to("meta")
    with pytest.raises(ArchitectureError, match="is on the meta device, and was not offloaded by accelerate"):
        neuron_groups(model)
