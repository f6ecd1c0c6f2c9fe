"""Controls: masks of equal size in every group, chosen by weights or by the retain corpus alone."""

import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.controls import least_used_like, random_seeds, smallest_weights_like
from hf_untangle.statistics.collect import collect


def two_gone(groups) -> NeuronMask:
    """A mask that removes the first two neurons of every group."""
    return NeuronMask.keep_all(groups, "tiny").with_kept({group.name: torch.arange(group.size) > 1 for group in groups})


def test_a_control_removes_as_many_neurons_of_every_group(tiny_model, blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = two_gone(groups)
    controls = smallest_weights_like(mask, model, groups), least_used_like(mask, collect(model, blocks, progress=False))
    for control in controls:
        assert control != mask
        assert all(int((~kept).sum()) == 2 for kept in control.values())


def test_magnitude_removes_the_neurons_with_the_smallest_weights(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    layer = model.model.layers[1].mlp
    for neuron in (5, 17):
        layer.down_proj.weight.data[:, neuron] *= 0.01
        layer.gate_proj.weight.data[neuron] *= 0.01
        layer.up_proj.weight.data[neuron] *= 0.01
    kept = smallest_weights_like(two_gone(groups), model, groups)["model.layers.1.mlp.down_proj"]
    assert (~kept).nonzero().flatten().tolist() == [5, 17]


def test_retain_only_removes_the_neurons_that_the_retain_corpus_leaves_silent(tiny_model, blocks):
    model = tiny_model("llama")
    for neuron in (3, 40):
        model.model.layers[0].mlp.up_proj.weight.data[neuron] *= 1e-4
    kept = least_used_like(two_gone(neuron_groups(model)), collect(model, blocks, progress=False))
    assert (~kept["model.layers.0.mlp.down_proj"]).nonzero().flatten().tolist() == [3, 40]


def test_a_result_is_compared_with_three_random_masks_or_more_or_with_none():
    assert [len(random_seeds(UnlearnConfig(controls=controls))) for controls in (0, 1, 3, 5)] == [0, 3, 3, 5]
    assert random_seeds(UnlearnConfig(controls=1, seed=7))[0] == 7
