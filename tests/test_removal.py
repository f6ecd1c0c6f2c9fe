"""Removal: the masked model in its weights, with nothing left that could grow a neuron back."""

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import bias_of, input_axis, weight_of
from hf_untangle.errors import MaskError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable, remove_, removed_parameters
from hf_untangle.masks.select import random_like

Groups = tuple[NeuronGroup, ...]


def random_mask(groups: Groups) -> NeuronMask:
    """About half of the neurons of every group go, so that some value rows lose all of their query heads and some do not."""
    kept = {group.name: torch.arange(group.size) < group.size // 2 for group in groups}
    return random_like(NeuronMask.keep_all(groups, "m").with_kept(kept), seed=3)


def whole_rows_mask(groups: Groups) -> NeuronMask:
    """Every third value row goes, with all of the query heads' neurons that read it, and every third FFN neuron."""
    return NeuronMask.keep_all(groups, "m").with_kept({group.name: group.producers[0].rows % 3 > 0 for group in groups})


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def slices(model: nn.Module, group: NeuronGroup, kept: Tensor) -> list[Tensor]:
    """Every weight and bias that belongs to removed neurons of a group, and the gradients of these."""
    projection = model.get_submodule(group.name)
    found = [(weight_of(projection), input_axis(projection), ~kept)]
    for producer in group.producers:
        projection = model.get_submodule(producer.name)
        gone = torch.zeros(weight_of(projection).shape[1 - input_axis(projection)], dtype=torch.bool)
        gone[producer.rows_needed_by_none(kept)] = True
        found.append((weight_of(projection), 1 - input_axis(projection), gone))
        if (bias := bias_of(projection)) is not None:
            found.append((bias, 0, gone))
    tensors = [(tensor, axis, gone.nonzero().flatten()) for tensor, axis, gone in found]
    return [one.index_select(axis, at) for tensor, axis, at in tensors for one in (tensor, tensor.grad) if one is not None]


@pytest.mark.parametrize("mask_of", [random_mask, whole_rows_mask])
def test_the_removed_model_is_the_masked_model(model, blocks, mask_of):
    groups = neuron_groups(model)
    mask = mask_of(groups)
    with masked(model, mask):
        tried = logits(model, blocks.input_ids)
    assert remove_(model, mask, groups) is model
    torch.testing.assert_close(logits(model, blocks.input_ids), tried)
    with masked(model, mask):
        torch.testing.assert_close(logits(model, blocks.input_ids), tried)


def test_removing_nothing_changes_no_bit(model, untouched):
    groups = neuron_groups(model)
    with untouched(model):
        remove_(model, NeuronMask.keep_all(groups, "m"), groups)


def test_what_belongs_to_a_removed_neuron_is_zero_and_nothing_else_is(model):
    groups = neuron_groups(model)
    mask = random_mask(groups)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    remove_(model, mask, groups)
    for group in groups:
        assert not any(part.any() for part in slices(model, group, mask[group.name]))
    for name, value in model.state_dict().items():
        assert torch.equal(value[value != 0], before[name][value != 0])


def test_removed_parameters_are_those_that_became_zero(model):
    groups = neuron_groups(model)
    mask = random_mask(groups)
    promised = removed_parameters(model, mask, groups)
    assert zeros(model) == 0
    remove_(model, mask, groups)
    assert zeros(model) == promised > 0


def zeros(model: nn.Module) -> int:
    return sum(int((parameter == 0).sum()) for parameter in model.parameters())


def test_removed_parameters_of_a_gated_ffn_neuron_by_hand(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "m")
    mask[groups[1].name][5] = False
    assert removed_parameters(model, mask, groups) == 32 + 32 + 32


def test_a_mask_of_some_groups_counts_and_removes_those_alone(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups[:1])
    promised = removed_parameters(model, mask, groups)
    assert zeros(remove_(model, mask, groups)) == promised > 0


def test_removed_neurons_get_no_gradient_and_do_not_grow_back(model, blocks):
    groups = neuron_groups(model)
    mask = whole_rows_mask(groups)
    remove_(model, mask, groups)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(blocks.input_ids, labels=blocks.input_ids).loss.backward()
        for group in groups:
            assert not any(part.any() for part in slices(model, group, mask[group.name]))
        optimizer.step()
    for group in groups:
        assert not any(part.any() for part in slices(model, group, mask[group.name]))
        assert not torch.equal(weight_of(model.get_submodule(group.name)), before[f"{group.name}.weight"])


@pytest.mark.parametrize("grouped", ["llama", "qwen3", "phi3"])
def test_a_value_row_stays_until_all_of_its_query_heads_lost_it(tiny_model, grouped):
    model = tiny_model(grouped)
    groups = neuron_groups(model)
    group = groups[0]
    assert group.head_size is not None
    producer, first, second = group.producers[0], 3, group.head_size + 3
    assert producer.rows[first] == producer.rows[second]
    row, column = value_row(model, group, first), weight_of(model.get_submodule(group.name))

    mask = NeuronMask.keep_all(groups, "m")
    mask[group.name][first] = False
    remove_(model, mask, groups)
    assert row.all() and not column[:, first].any() and column[:, second].all()
    assert group.shares_rows_with_kept(mask[group.name]).nonzero().flatten().tolist() == [first]

    mask[group.name][second] = False
    remove_(model, mask, groups)
    assert not row.any() and not column[:, second].any()
    assert not group.shares_rows_with_kept(mask[group.name]).any()


def value_row(model: nn.Module, group: NeuronGroup, neuron: int) -> Tensor:
    producer = group.producers[0]
    return weight_of(model.get_submodule(producer.name))[int(producer.rows[neuron])]


def test_a_mask_of_another_model_removes_nothing(tiny_model, untouched):
    llama, wide, gpt2 = tiny_model("llama"), tiny_model("llama", intermediate_size=64), tiny_model("gpt2")
    mask = random_mask(neuron_groups(llama))
    for other, message in ((wide, "48 neurons for .* it has 64. Was it made for another size"), (gpt2, "no such projection")):
        groups = neuron_groups(other)
        with untouched(other), pytest.raises(MaskError, match=message):
            remove_(other, mask, groups)


def test_a_quantized_model_is_refused_before_anything_is_written(tiny_model, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    last = model.get_submodule(groups[-1].producers[-1].name)
    last.weight = nn.Parameter(torch.ones_like(last.weight, dtype=torch.int8), requires_grad=False)
    message = f"The weights of `{groups[-1].producers[-1].name}` must be in floating point .* they are quantized. Try the mask"
    with untouched(model), pytest.raises(MaskError, match=message):
        remove_(model, mask, groups)
    with pytest.raises(MaskError, match=message):
        check_removable(model, groups)


def test_an_offloaded_model_is_refused_before_anything_is_written(tiny_model, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    model.get_submodule(groups[-1].name).to("meta")
    first = model.get_submodule(groups[0].name)
    with untouched(first), pytest.raises(MaskError, match="must be loaded to be removed, but they are on the meta device"):
        remove_(model, random_mask(groups), groups)


def test_frozen_weights_are_removed_too(tiny_model):
    model = tiny_model("llama").requires_grad_(False)
    groups = neuron_groups(model)
    mask = random_mask(groups)
    remove_(model, mask, groups)
    assert zeros(model) == removed_parameters(model, mask, groups)


def test_bfloat16_weights_are_removed_too(model, blocks):
    model.bfloat16()
    groups = neuron_groups(model)
    mask = random_mask(groups)
    with masked(model, mask):
        tried = logits(model, blocks.input_ids)
    remove_(model, mask, groups)
    torch.testing.assert_close(logits(model, blocks.input_ids), tried)
