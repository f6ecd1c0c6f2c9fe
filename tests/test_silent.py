"""Neurons that are 0 at every token go without any change."""

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import silent_mask
from hf_untangle.statistics.collect import collect

NAME = "model.decoder.layers.0.fc2"


@pytest.fixture
def half_deaf(tiny_model):
    """An OPT model in which two ReLU neurons are never active."""
    model = tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.bias[[3, 17]] = -1e4
    return model


def test_the_mask_removes_the_neurons_that_never_speak_and_no_others(half_deaf, blocks):
    groups = neuron_groups(half_deaf)
    statistics = collect(half_deaf, blocks)
    mask = silent_mask(statistics, groups)
    assert {3, 17} <= set((~mask[NAME]).nonzero().flatten().tolist())
    for name, kept in mask.items():
        assert torch.equal(kept, statistics[name].absolute > 0)
    assert mask.removed("attention") == 0


def test_without_them_the_logits_are_equal_to_the_last_bit(half_deaf, blocks):
    groups = neuron_groups(half_deaf)
    with torch.no_grad():
        before = half_deaf(blocks.input_ids).logits
        mask = silent_mask(collect(half_deaf, blocks), groups)
        assert mask.removed() >= 2
        after = remove_(half_deaf, mask, groups)(blocks.input_ids).logits
    assert torch.equal(before, after)


def test_a_group_without_statistics_is_named(half_deaf, blocks):
    groups = neuron_groups(half_deaf)
    few = collect(half_deaf, blocks, groups=groups[:1])
    with pytest.raises(StatisticsError, match="Every group needs statistics, but `model.decoder.layers"):
        silent_mask(few, groups)
