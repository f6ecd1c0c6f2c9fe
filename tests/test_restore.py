"""Undo: what was removed comes back bit for bit, or not at all."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from test_removal import random_mask, whole_rows_mask
from torch import nn
from transformers import AutoModelForCausalLM

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import MaskError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.masks.undo_removal import RemovedWeights, bit_sum, cut_out_, put_back_
from hf_untangle.results.unlearned import UnlearnResult


def same(model: nn.Module, other: nn.Module) -> bool:
    """Bit for bit, the sign of zeros included."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return all(torch.equal(one.view(torch.uint8), two.view(torch.uint8)) for one, two in pairs)


@pytest.fixture
def result(unlearned, no_report) -> UnlearnResult:
    """A run whose removed weights were kept, on a copy of its model."""
    return replace(unlearned, model=deepcopy(unlearned.model))


@pytest.mark.parametrize(("mask_of", "dtype"), [(random_mask, torch.float32), (whole_rows_mask, torch.bfloat16)])
def test_removing_and_putting_back_gives_the_original_bit_for_bit(model, mask_of, dtype):
    model.to(dtype)
    original, groups = deepcopy(model), neuron_groups(model)
    mask = mask_of(groups)
    removed = cut_out_(model, mask, groups)
    assert not same(model, original)
    assert put_back_(model, removed) is model
    assert same(model, original)


def test_cutting_out_is_removing(tiny_model, family):
    model, other = tiny_model(family), tiny_model(family)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    cut_out_(model, mask, groups)
    assert same(model, remove_(other, mask, groups))


def test_as_many_values_are_kept_as_are_removed(model):
    groups = neuron_groups(model)
    removed = cut_out_(model, random_mask(groups), groups)
    assert sum(piece.values.numel() for piece in removed.pieces) == sum(int((one == 0).sum()) for one in model.parameters()) > 0


def constants(groups) -> dict[str, torch.Tensor]:
    return {group.name: torch.linspace(-1, 1, group.size) for group in groups}


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_biases_that_a_constant_went_into_come_back_too(tiny_model, family, tmp_path):
    model = tiny_model(family)
    original, groups = deepcopy(model), neuron_groups(model)
    removed = cut_out_(model, random_mask(groups), groups, constants=constants(groups))
    removed.save(tmp_path / "removed.safetensors")
    put_back_(model, RemovedWeights.load(tmp_path / "removed.safetensors"))
    assert same(model, original)
    assert model.state_dict().keys() == original.state_dict().keys()
    assert model.config.to_dict() == original.config.to_dict()


def test_a_mask_of_another_model_cuts_nothing_out(tiny_model, untouched):
    mask, other = random_mask(neuron_groups(tiny_model("llama"))), tiny_model("gpt2")
    with untouched(other), pytest.raises(MaskError, match="no such projection"):
        cut_out_(other, mask, neuron_groups(other))


def test_what_is_saved_is_loaded(tiny_model, tmp_path):
    model = tiny_model("phi3").bfloat16()
    original, groups = deepcopy(model), neuron_groups(model)
    cut_out_(model, random_mask(groups), groups).save(tmp_path / "removed.safetensors")
    put_back_(model, RemovedWeights.load(tmp_path / "removed.safetensors"))
    assert same(model, original)


def test_a_mask_that_removes_nothing_leaves_nothing_to_put_back(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    removed = cut_out_(model, NeuronMask.keep_all(groups, "m"), groups)
    assert removed.pieces == removed.added == ()
    put_back_(model, removed)


def test_a_model_that_changed_since_is_refused_untouched(tiny_model, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    removed = cut_out_(model, random_mask(groups), groups)
    with torch.no_grad():
        model.lm_head.weight[3, 5] += 1e-6
    with untouched(model), pytest.raises(MaskError, match="some of its weights have changed since: it was trained, restored"):
        put_back_(model, removed)


def test_a_model_that_is_whole_already_is_refused(tiny_model, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    removed = cut_out_(model, random_mask(groups), groups)
    put_back_(model, removed)
    with untouched(model), pytest.raises(MaskError, match="restored already.*Nothing was put back: load the checkpoint"):
        put_back_(model, removed)


@pytest.mark.parametrize(
    ("family", "settings", "dtype", "message"),
    [
        (
            "gpt2",
            {},
            torch.float32,
            "removed from `m`, but this model has no `model.layers.0.self_attn.o_proj.weight`",
        ),
        (
            "llama",
            {},
            torch.bfloat16,
            "are torch.float32, but the model is torch.bfloat16.*Load the model with dtype=torch.float",
        ),
        ("llama", {"intermediate_size": 32}, torch.float32, "do not fit its shape .*another one, or was compacted"),
        ("llama", {"hidden_size": 64, "head_dim": 8}, torch.float32, "do not fit its shape"),
    ],
)
def test_another_model_is_refused_untouched(tiny_model, untouched, family, settings, dtype, message):
    model, other = tiny_model("llama"), tiny_model(family, **settings).to(dtype)
    groups = neuron_groups(model)
    removed = cut_out_(model, random_mask(groups), groups)
    with untouched(other), pytest.raises(MaskError, match=message):
        put_back_(other, removed)


def test_the_checksum_adds_bits_up_and_sees_a_single_one(tiny_model):
    two = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        two.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    assert bit_sum(two) == 0x3F800000 - 0x40800000
    model = tiny_model("llama").bfloat16()
    before = bit_sum(model)
    weight = model.lm_head.weight.data
    weight.view(torch.int16)[7, 7] ^= 1
    assert abs(bit_sum(model) - before) == 1


def test_a_run_is_undone_in_place(result, taught):
    assert not same(result.model, taught)
    assert untangle.restore(result.model, result) is result.model
    assert same(result.model, taught)


def test_a_saved_run_is_undone_from_its_folder(result, taught, tmp_path):
    folder = result.save_pretrained(tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert same(untangle.restore(loaded, folder), taught)


def test_a_result_that_kept_nothing_cannot_be_undone(result, tmp_path):
    result = replace(result, removed=None)
    folder = result.save_pretrained(tmp_path / "out")
    assert not (folder / "removed.safetensors").exists()
    for without in (result, folder):
        with pytest.raises(MaskError, match="must have been kept to be restored, .* has none. Call .*keep_removed=True"):
            untangle.restore(result.model, without)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft uses the old name
def test_smollm2_comes_back_and_its_adapter_is_its_mask(shared_cache, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_UNTANGLE_CACHE")
    model, _ = models.load("smollm2", dtype="bfloat16")
    original, groups, ids = deepcopy(model), neuron_groups(model), torch.arange(1000, 1064)[None]
    mask = random_like(
        NeuronMask.keep_all(groups, model.name_or_path).with_kept(
            {group.name: torch.arange(group.size) > 0.04 * group.size for group in groups}
        ),
        seed=0,
    )
    with torch.no_grad(), masked(model, mask):
        expected = model(ids).logits
    adapted = PeftModel.from_pretrained(deepcopy(model), str(mask.to_adapter(tmp_path / "adapter")))
    with torch.no_grad():
        assert torch.equal(adapted(ids).logits, expected)
    removed = cut_out_(model, mask, groups)
    removed.save(tmp_path / "removed.safetensors")
    assert (tmp_path / "removed.safetensors").stat().st_size < 0.05 * 2 * model.num_parameters()
    assert same(put_back_(model, RemovedWeights.load(tmp_path / "removed.safetensors")), original)
