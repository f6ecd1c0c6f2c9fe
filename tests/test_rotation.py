"""Attention heads on their principal directions: outputs stay, neurons become orthogonal."""

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks import rotation
from hf_untangle.masks.rotation import rotate_heads_

ROTATABLE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "gpt2", "opt", "gpt_neox")


def logits(model, blocks) -> torch.Tensor:
    with torch.no_grad():
        return model(blocks.input_ids).logits


@pytest.mark.parametrize("family", ROTATABLE)
def test_outputs_stay_as_they_are(model, blocks):
    model.double()
    before = logits(model, blocks)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    rotate_heads_(model, neuron_groups(model))
    torch.testing.assert_close(logits(model, blocks), before, rtol=1e-6, atol=1e-6)
    assert any(not torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_neurons_of_a_head_become_orthogonal_and_sorted(model):
    model.double()
    groups = [group for group in neuron_groups(model) if group.kind == "attention"]
    rotate_heads_(model, neuron_groups(model))
    for group in groups:
        rows = group.producers[0].rows.view(-1, group.head_size)
        reads, values = matrix_of(model, group.name).weight[0], matrix_of(model, group.producers[0].name).weight[0]
        for first in rows[:, 0].unique():
            shared = (rows[:, 0] == first).nonzero().flatten()
            stacked = torch.cat([reads[:, one * group.head_size : (one + 1) * group.head_size] for one in shared.tolist()])
            for products in (stacked.T @ stacked, values[rows[shared[0]]] @ values[rows[shared[0]]].T):
                torch.testing.assert_close(products, products.diag().diag(), rtol=1e-6, atol=1e-8)
                assert (products.diag().diff() <= 1e-9).all()


def test_the_value_bias_is_carried_by_hand():
    reads, values, bias = (
        torch.diag(torch.tensor([1.0, 3.0])).double(),
        torch.eye(2).double(),
        torch.tensor([5.0, 7.0]).double(),
    )
    outputs, inputs, shift = rotation._rotated(reads, values, bias)
    torch.testing.assert_close(outputs @ inputs, reads @ values)
    torch.testing.assert_close(outputs @ shift, reads @ bias)
    assert inputs.norm(dim=1).tolist() == pytest.approx([3**0.5, 1])


def test_where_something_stands_between_the_projections_the_model_is_left_as_it_was(tiny_model, untouched, monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(rotation, "_rotated", lambda reads, values, bias: (2 * reads, values, bias))
    with untouched(model), pytest.raises(ArchitectureError, match="The model is as it was; rotate models of plain attention"):
        rotate_heads_(model, neuron_groups(model))


def test_heads_that_a_gate_computes_too_are_refused(untouched):
    from hf_untangle.survey.tiny_models import tiny_model

    model = tiny_model("qwen3_next")
    groups = neuron_groups(model)
    gated = [group for group in groups if group.kind == "attention" and len(group.producers) != 1]
    assert gated
    with untouched(model), pytest.raises(ArchitectureError, match="must be computed by value rows alone"):
        rotate_heads_(model, groups)
