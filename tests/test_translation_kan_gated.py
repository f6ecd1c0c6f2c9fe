"""Gated feed-forward blocks as KANs: a product is a difference of squares."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaMLP

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, kan_layers
from hf_untangle.translation.kan.gated import gated_to_kan


def block(activation: str = "silu", bias: bool = False) -> LlamaMLP:
    torch.manual_seed(0)
    sizes = {"hidden_size": 6, "intermediate_size": 10, "num_attention_heads": 2}
    return LlamaMLP(LlamaConfig(**sizes, hidden_act=activation, mlp_bias=bias)).double()


def kan_of(mlp: LlamaMLP) -> nn.Sequential:
    return gated_to_kan(mlp.gate_proj, mlp.up_proj, mlp.down_proj, mlp.act_fn)


def points() -> torch.Tensor:
    return 3 * torch.randn(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["silu", "gelu", "relu", "relu2"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_kan_computes_the_gated_block(activation: str, bias: bool):
    mlp = block(activation, bias)
    torch.testing.assert_close(kan_of(mlp)(points()), mlp(points()), rtol=0, atol=1e-12)


def test_three_times_four_by_hand():
    """Gate 3 and up 4 give the sum 7 and the difference -1, and (49 - 1) / 4 = 12."""
    gate, up, down = (nn.Linear(1, 1, bias=False) for _ in range(3))
    for linear, weight in ((gate, 3.0), (up, 4.0), (down, 1.0)):
        nn.init.constant_(linear.weight, weight)
    kan = gated_to_kan(gate, up, down, nn.ReLU())
    assert kan[:2](torch.ones(1, 1)).tolist() == [[7, -1]]
    assert kan(torch.ones(1, 1)).tolist() == [[12]]


def test_every_layer_sums_functions_of_one_node():
    x = points()
    for layer in kan_layers(kan_of(block())):
        by_edge = torch.stack(
            [sum(layer.edge(j, i)(x[:, i]) for i in range(x.shape[1])) for j in range(layer.out_features)], -1
        )
        torch.testing.assert_close(by_edge + layer.bias, layer(x))
        x = layer(x)


def test_the_block_keeps_its_parameters():
    mlp = block()
    before = mlp(points())
    for parameter in kan_of(mlp).parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(mlp(points()), before)


def test_shapes_that_are_no_gated_block_are_refused():
    with pytest.raises(TranslationError, match="Gate and up must read the same inputs"):
        gated_to_kan(nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(4, 3), ACT2FN["silu"])


def test_a_gate_that_mixes_nodes_is_refused_by_name():
    with pytest.raises(TranslationError, match="Softmax does not act on every number alone"):
        gated_to_kan(nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 3), nn.Softmax(-1))


def test_all_layers_are_kan_layers():
    assert all(isinstance(layer, ActivationKANLayer) for layer in kan_of(block()))
