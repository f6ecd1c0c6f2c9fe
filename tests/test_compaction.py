"""Compaction: a smaller model that computes what the masked one does, loads again, and generates."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import weight_of
from hf_untangle.compaction.compact import compact
from hf_untangle.errors import CompactionError, MaskError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.survey.compaction_support import narrow_mask
from hf_untangle.survey.tiny_models import tiny_model as tiny_model_of

LAYOUTS = ("ragged", "uniform")
CUTS_HEADS = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"}
"""Families whose configuration states the width of a head, so that there can be fewer heads."""


def some_removed(groups: tuple[NeuronGroup, ...]) -> NeuronMask:
    """More goes in the second layer than in the first, and one key-value group goes there whole."""
    generator = torch.Generator().manual_seed(5)
    kept = {group.name: torch.rand(group.size, generator=generator) < (0.8, 0.5)[group.layer] for group in groups}
    for group in groups:
        if group.kind == "attention" and group.layer == 1:
            assert group.key_value_heads is not None
            kept[group.name][: group.size // group.key_value_heads] = False
    return NeuronMask.keep_all(groups, "m").with_kept(kept)


def without(groups: tuple[NeuronGroup, ...], kind: str, layers: tuple[int, ...], share: float = 1.0) -> NeuronMask:
    """The first of the neurons of a kind go in some layers."""
    mask = NeuronMask.keep_all(groups, "m")
    for group in groups:
        if group.kind == kind and group.layer in layers:
            mask[group.name][: int(share * group.size)] = False
    return mask


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def generated(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=257)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_compacted_model_is_the_masked_one_and_the_removed_one_and_loads_bit_for_bit(
    model, blocks, layout, untouched, tmp_path
):
    groups = neuron_groups(model)
    mask = some_removed(groups)
    with untouched(model):
        small = compact(model, mask, layout=layout)
    with masked(model, mask):
        tried, continued = logits(model, blocks.input_ids), generated(model, blocks.input_ids)
    torch.testing.assert_close(logits(small, blocks.input_ids), tried, atol=1e-5, rtol=1e-4)
    assert torch.equal(generated(small, blocks.input_ids), continued)
    torch.testing.assert_close(logits(remove_(deepcopy(model), mask, groups), blocks.input_ids), tried, atol=1e-5, rtol=1e-4)
    assert small.num_parameters() < model.num_parameters()
    small.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded, blocks.input_ids), logits(small, blocks.input_ids))
    assert torch.equal(generated(loaded, blocks.input_ids), generated(small, blocks.input_ids))


def test_every_ragged_layer_is_as_narrow_as_it_can_be(model, family):
    groups = neuron_groups(model)
    mask = some_removed(groups)
    found = neuron_groups(compact(model, mask))
    for group, old in zip(found, groups, strict=True):
        if group.kind == "ffn":
            assert group.size == int(mask[group.name].sum())
        elif family in CUTS_HEADS:
            assert group.key_value_heads == (2, 1)[group.layer]
            assert group.head_size == old.head_size


def test_uniform_layers_are_as_wide_as_the_widest_and_need_no_per_layer_settings(model):
    groups = neuron_groups(model)
    mask = some_removed(groups)
    small = compact(model, mask, layout="uniform")
    assert not small.config.is_heterogeneous
    widest = max(int(mask[group.name].sum()) for group in groups if group.kind == "ffn")
    assert {group.size for group in neuron_groups(small) if group.kind == "ffn"} == {widest}


def test_the_slices_of_a_gated_ffn_by_hand(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "m")
    mask["model.layers.1.mlp.down_proj"][2:] = False
    old, new = (one.model.layers[1].mlp for one in (model, compact(model, mask)))
    assert torch.equal(new.down_proj.weight, old.down_proj.weight[:, :2])
    assert torch.equal(new.gate_proj.weight, old.gate_proj.weight[:2])
    assert torch.equal(new.up_proj.weight, old.up_proj.weight[:2])


def test_the_slices_of_a_key_value_group_by_hand(tiny_model):
    model = tiny_model("qwen2")
    groups = neuron_groups(model)
    old, new = (one.model.layers[1].self_attn for one in (model, compact(model, without(groups, "attention", (1,), 0.5))))
    # Four query heads of 8 neurons share two key-value heads; the first two and theirs are gone.
    for projection, rows in (("q_proj", 16), ("k_proj", 8), ("v_proj", 8)):
        assert torch.equal(getattr(new, projection).weight, getattr(old, projection).weight[rows:])
        assert torch.equal(getattr(new, projection).bias, getattr(old, projection).bias[rows:])
    assert torch.equal(new.o_proj.weight, old.o_proj.weight[:, 16:])


def test_untouched_tensors_are_shared_and_tied_ones_stay_tied(tiny_model):
    model = tiny_model("llama", tie_word_embeddings=True)
    small = compact(model, without(neuron_groups(model), "ffn", (0,), 0.5))
    assert small.lm_head.weight is small.model.embed_tokens.weight is model.lm_head.weight
    assert small.model.layers[1].mlp.up_proj.weight is model.model.layers[1].mlp.up_proj.weight


def test_removed_neurons_are_read_off_the_weights(model, blocks):
    groups = neuron_groups(model)
    mask = some_removed(groups)
    expected = compact(model, mask)
    found = compact(remove_(model, mask, groups))
    assert torch.equal(logits(found, blocks.input_ids), logits(expected, blocks.input_ids))
    assert found.num_parameters() == expected.num_parameters()


def test_what_keeps_its_place_holds_zeros(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = some_removed(groups)
    small = compact(model, mask, layout="uniform", round_to=16)
    for group in neuron_groups(small):
        read = (weight_of(small.get_submodule(group.name)) != 0).any(0)
        assert int(read.sum()) == int(mask[group.name].sum())


@pytest.mark.parametrize(("layout", "widths"), [("ragged", [48, 16]), ("uniform", [48, 48])])
def test_widths_are_rounded_up_to_a_multiple(tiny_model, layout, widths):
    model = tiny_model("llama", intermediate_size=64)
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "m")
    for group, kept in zip((group for group in groups if group.kind == "ffn"), (33, 16), strict=True):
        mask[group.name][kept:] = False
    small = compact(model, mask, layout=layout, round_to=16)
    assert [group.size for group in neuron_groups(small) if group.kind == "ffn"] == widths


def test_an_ffn_that_was_removed_whole_gets_the_width_0(tiny_model, blocks, tmp_path):
    model = tiny_model("llama")
    mask = without(neuron_groups(model), "ffn", (0,))
    compact(model, mask).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.model.layers[0].mlp.down_proj.weight.shape == (32, 0)
    with masked(model, mask):
        torch.testing.assert_close(logits(loaded, blocks.input_ids), logits(model, blocks.input_ids))


def test_an_attention_block_that_was_removed_whole_keeps_one_key_value_group_of_zeros(tiny_model, blocks):
    model = tiny_model("llama")
    mask = without(neuron_groups(model), "attention", (0,))
    small = compact(model, mask)
    assert small.model.layers[0].self_attn.o_proj.weight.shape == (32, 16)
    assert not small.model.layers[0].self_attn.o_proj.weight.any()
    with masked(model, mask):
        torch.testing.assert_close(logits(small, blocks.input_ids), logits(model, blocks.input_ids))


def test_a_mask_of_some_groups_leaves_the_others_as_they_are(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    whole = without(groups, "ffn", (1,), 0.5)
    name = "model.layers.1.mlp.down_proj"
    small = compact(model, NeuronMask({name: whole[name]}, {name: "ffn"}, "m"))
    assert [group.size for group in neuron_groups(small)] == [32, 48, 32, 24]


def test_a_mask_that_removes_nothing_gives_the_same_model(model, blocks):
    small = compact(model, NeuronMask.keep_all(neuron_groups(model), "m"))
    assert small is not model
    assert torch.equal(logits(small, blocks.input_ids), logits(model, blocks.input_ids))


def test_bfloat16_and_training_mode_are_kept(tiny_model, blocks):
    model = tiny_model("llama").bfloat16().train()
    groups = neuron_groups(model)
    mask = some_removed(groups)
    small = compact(model, mask)
    assert small.dtype == torch.bfloat16 and small.training and model.training
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_a_compacted_model_is_compacted_again(tiny_model, blocks):
    model = tiny_model("llama")
    once = compact(model, without(neuron_groups(model), "ffn", (1,), 0.5))
    twice = compact(once, without(neuron_groups(once), "ffn", (0, 1), 0.5))
    assert [group.size for group in neuron_groups(twice) if group.kind == "ffn"] == [24, 12]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_whose_layers_all_have_widths_of_their_own_is_compacted_again(tiny_model, blocks, family, tmp_path):
    model = tiny_model(family)
    once = compact(model, some_removed(neuron_groups(model)))
    once.save_pretrained(tmp_path / "once")
    loaded = type(model).from_pretrained(tmp_path / "once").eval()
    before = [group.size for group in neuron_groups(loaded)]
    mask = without(neuron_groups(loaded), "ffn", (0, 1), 0.5)
    with masked(loaded, mask):
        expected = logits(loaded, blocks.input_ids)
    twice = compact(loaded, mask)
    after = [group.size for group in neuron_groups(twice)]
    # No width is the one that the configuration states for all layers.
    assert len({*before[1::2], 48}) == 3
    assert after == [*(size if index % 2 == 0 else size - size // 2 for index, size in enumerate(before))]
    torch.testing.assert_close(logits(twice, blocks.input_ids), expected, rtol=1e-4, atol=1e-4)


def test_layers_with_settings_of_their_own_that_are_alike_are_made_narrower_together(tiny_model, blocks):
    model = tiny_model("llama")
    once = compact(model, without(neuron_groups(model), "ffn", (0, 1), 0.5))
    assert [once.config.per_layer_config[layer].intermediate_size for layer in (0, 1)] == [24, 24]
    twice = compact(once, without(neuron_groups(once), "ffn", (0, 1), 0.5), layout="uniform")
    assert [group.size for group in neuron_groups(twice) if group.kind == "ffn"] == [12, 12]


def test_a_mask_of_another_model_is_refused(tiny_model, untouched):
    mask = some_removed(neuron_groups(tiny_model("llama", intermediate_size=64)))
    model = tiny_model("llama")
    with untouched(model), pytest.raises(MaskError, match="64 neurons for .* it has 48. Was it made for another size"):
        compact(model, mask)


def test_quantized_weights_are_refused(tiny_model):
    model = tiny_model("llama")
    mask = some_removed(neuron_groups(model))
    vars(model.model.layers[0].mlp.up_proj.weight)["quant_state"] = "as bitsandbytes marks its weights"
    with pytest.raises(MaskError, match="they are quantized. Try the mask with .* from the full-precision checkpoint"):
        compact(model, mask)


def test_layers_of_different_widths_cannot_be_made_alike(tiny_model):
    model = tiny_model("llama")
    ragged = compact(model, without(neuron_groups(model), "ffn", (1,), 0.5))
    message = r"needs layers of one width, but those of `model.layers.0.mlp.down_proj` .* already differ \(24, 48 neurons\)"
    with pytest.raises(CompactionError, match=message):
        compact(ragged, without(neuron_groups(ragged), "ffn", (0, 1), 0.5), layout="uniform")


def test_a_model_whose_configuration_has_no_such_setting_is_refused(tiny_model, untouched):
    model = tiny_model("gpt2")
    message = "Nothing can be taken out of this GPT2LMHeadModel: the mask removes .* no setting for the number of heads"
    with untouched(model), pytest.raises(CompactionError, match=message):
        compact(model, without(neuron_groups(model), "attention", (0,), 0.5))


@pytest.mark.parametrize("round_to", [0, -64])
def test_widths_are_not_rounded_to_a_multiple_of_nothing(tiny_model, round_to):
    model = tiny_model("llama")
    with pytest.raises(CompactionError, match=f"`round_to` must be a positive number of neurons, got {round_to}"):
        compact(model, some_removed(neuron_groups(model)), round_to=round_to)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_experts_some_of_which_have_no_neurons_are_refused_in_a_sentence(layout):
    model = tiny_model_of("longcat_flash")
    mask = narrow_mask(neuron_groups(model), model)
    with pytest.raises(CompactionError, match="must have neurons of its own to be cut, but of its 6 experts 4 have"):
        compact(model, mask, layout=layout)
