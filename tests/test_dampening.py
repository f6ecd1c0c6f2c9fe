"""Selective synaptic dampening, neuron by neuron: by hand, in hooks and in weights."""

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.importance.registry import damping
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.dampening import dampen_, dampened
from hf_untangle.masks.mask import NeuronMask


def factors_of(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {group.name: torch.rand(group.size, generator=generator).double() for group in neuron_groups(model)}


def logits(model, blocks) -> torch.Tensor:
    with torch.no_grad():
        return model(blocks.input_ids).logits


def test_factors_by_hand():
    forget, retain = torch.tensor([20.0, 11.0, 10.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    assert damping(forget, retain).tolist() == pytest.approx([1 / 20, 1 / 11, 1, 1, 0])
    assert damping(forget, retain, alpha=15.0, strength=2.0).tolist() == pytest.approx([0.1, 1, 1, 1, 0])


def test_no_factor_is_above_one():
    assert damping(torch.tensor([3.0]), torch.tensor([2.0]), alpha=1.0, strength=9.0).item() == 1


def test_negative_settings_are_an_error():
    with pytest.raises(ConfigError, match="must be at least 0, got alpha=-1"):
        damping(torch.ones(1), torch.ones(1), alpha=-1.0)


def test_dampened_neurons_are_dampened_columns(model, blocks):
    model.double()
    factors, before = factors_of(model), logits(model, blocks)
    with dampened(model, factors):
        expected = logits(model, blocks)
    assert torch.equal(logits(model, blocks), before)
    dampen_(model, factors, neuron_groups(model))
    torch.testing.assert_close(logits(model, blocks), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(expected, before)


def test_a_factor_of_zero_is_a_mask(tiny_model, blocks):
    model = tiny_model("llama")
    group = neuron_groups(model)[0]
    mask = NeuronMask({group.name: torch.arange(group.size) > 3}, {group.name: group.kind}, "tiny")
    with masked(model, mask):
        expected = logits(model, blocks)
    with dampened(model, {group.name: mask[group.name].double()}):
        assert torch.equal(logits(model, blocks), expected)


def test_factors_of_another_model_are_refused_and_nothing_is_written(tiny_model, untouched):
    model, other = tiny_model("llama"), tiny_model("gpt2")
    with untouched(model), pytest.raises(MaskError, match="has no such projection"):
        dampen_(model, factors_of(other), neuron_groups(model))
    wrong = {name: values[:-1] for name, values in factors_of(model).items()}
    with untouched(model), pytest.raises(MaskError, match="factors for .* but this model has"):
        dampen_(model, wrong, neuron_groups(model))
