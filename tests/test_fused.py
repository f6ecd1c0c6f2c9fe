"""Fused kernels, which call no projection: what a hook does not see is refused, not passed over in silence."""

import pytest
from torch.nn import functional as F  # noqa: N812

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.collect import collect

SENTENCE = "must be called for their neurons to be seen or silenced, but .* such as `model.layers.0.mlp.* without `use_kernels`"


def mask_of(groups) -> NeuronMask:
    """The first neuron of every group goes."""
    mask = NeuronMask.keep_all(groups, "tiny-llama")
    for kept in mask.values():
        kept[0] = False
    return mask


def fuse_(model) -> None:
    """Let every FFN compute what it did, in one function of its weights."""
    for layer in model.model.layers:
        mlp = layer.mlp
        mlp.forward = lambda x, mlp=mlp: F.linear(
            mlp.act_fn(F.linear(x, mlp.gate_proj.weight)) * F.linear(x, mlp.up_proj.weight), mlp.down_proj.weight
        )


def test_a_mask_that_silences_nothing_is_refused_once_the_model_ran(tiny_model, blocks):
    model = tiny_model("llama")
    mask = mask_of(neuron_groups(model))
    fuse_(model)
    with pytest.raises(ArchitectureError, match=SENTENCE), masked(model, mask):
        model(blocks.input_ids)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_mask_on_a_model_that_does_not_run_is_no_error(tiny_model):
    model = tiny_model("llama")
    mask = mask_of(neuron_groups(model))
    fuse_(model)
    with masked(model, mask):
        pass


def test_statistics_of_a_fused_model_are_refused(tiny_model, blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    fuse_(model)
    with pytest.raises(ArchitectureError, match=SENTENCE):
        collect(model, blocks, groups=groups, progress=False)


def test_neurons_of_a_fused_model_are_not_looked_for_in_what_is_left(tiny_model):
    model = tiny_model("llama")
    fuse_(model)
    with pytest.raises(ArchitectureError, match=SENTENCE):
        neuron_groups(model)


def test_an_error_inside_the_block_is_the_one_that_is_raised(tiny_model, blocks):
    model = tiny_model("llama")
    mask = mask_of(neuron_groups(model))
    fuse_(model)
    with pytest.raises(KeyError), masked(model, mask):
        model(blocks.input_ids)
        raise KeyError("of the caller")
