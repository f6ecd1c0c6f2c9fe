"""Which parameters a sweep may take: matrices and kernels, and the rest only when asked for."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_untangle.density.parameters import prunable_parameters
from hf_untangle.errors import ArchitectureError, MaskError


@pytest.fixture
def network() -> nn.Module:
    """One of everything."""
    return nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3), Conv1D(2, 3), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)
    )


def test_matrices_and_kernels_alone_are_taken_by_default(network):
    assert list(prunable_parameters(network).parameters) == ["1.weight", "3.weight", "4.weight"]


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("biases", ["1.bias", "3.bias", "4.bias"]),
        ("norms", ["2.weight", "2.bias", "5.weight", "5.bias"]),
        ("embeddings", ["0.weight"]),
    ],
)
def test_the_other_parts_are_taken_when_asked_for(network, part, names):
    assert list(prunable_parameters(network, [part]).parameters) == names


def test_every_parameter_is_in_exactly_one_part(network):
    parts = [prunable_parameters(network, [part]).parameters for part in ("weights", "biases", "norms", "embeddings")]
    names = [name for part in parts for name in part]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())


def test_an_output_layer_that_is_also_the_embedding_stays_whole_and_says_why(tiny_model):
    model = tiny_model("llama", tie_word_embeddings=True)
    found = prunable_parameters(model)
    assert found.skipped == {"model.embed_tokens.weight": "tied to the embedding `model.embed_tokens.weight`"}
    assert not any("lm_head" in name for name in found.parameters)
    assert "lm_head.weight" in prunable_parameters(tiny_model("llama", tie_word_embeddings=False)).parameters


def test_a_shared_matrix_is_taken_once():
    shared = nn.Linear(3, 3)
    assert list(prunable_parameters(nn.Sequential(shared, nn.ReLU(), shared)).parameters) == ["0.weight"]


def test_names_can_be_skipped_by_pattern(network):
    found = prunable_parameters(network, skip=["1.*", "4.*"])
    assert list(found.parameters) == ["3.weight"]
    assert found.skipped == {"1.weight": "skipped by name", "4.weight": "skipped by name"}


def test_fused_experts_are_weights():
    experts = nn.Module()
    experts.gate_up_proj = nn.Parameter(torch.zeros(2, 3, 4))
    assert list(prunable_parameters(experts).parameters) == ["gate_up_proj"]


def test_a_model_without_such_parameters_is_refused():
    with pytest.raises(
        ArchitectureError, match=r"A sweep needs parameters that can be pruned, but this ReLU has none in weights"
    ):
        prunable_parameters(nn.ReLU())
    with pytest.raises(ArchitectureError, match=r"has none in weights \(1 skipped\)"):
        prunable_parameters(nn.Linear(2, 2), skip=["*"])


def test_quantized_and_missing_weights_are_refused():
    network = nn.Linear(2, 2)
    network.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(MaskError, match="`weight` must be whole and in floating point to be pruned, but they are torch.int8"):
        prunable_parameters(network)
    with pytest.raises(MaskError, match="on the meta device"):
        prunable_parameters(nn.Linear(2, 2, device="meta"))


def test_weights_of_four_bits_are_refused():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False)
    with pytest.raises(MaskError, match="quantized or sharded. Sweep the full-precision checkpoint"):
        prunable_parameters(layer)
