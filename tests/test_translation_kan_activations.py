"""What an activation does to one number, and the KAN layer that it makes together with a linear layer."""

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import (
    ActivationKANLayer,
    BlockActivation,
    ScaledActivation,
    kan_layers,
    with_knots,
)
from hf_untangle.translation.kan.elementwise import FORMS, is_elementwise, known_form, piecewise_linear_form
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear

PIECEWISE_LINEAR = [
    nn.Identity(),
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.3),
    nn.Hardtanh(-0.5, 2),
    nn.ReLU6(),
    nn.Hardsigmoid(),
    nn.Softshrink(0.25),
    nn.RReLU().eval(),
    nn.Threshold(0.5, 0.5),
]


def points(width: int = 6) -> torch.Tensor:
    return 4 * torch.randn(50, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def linear(inputs: int = 6, outputs: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, dtype=torch.float64)


@pytest.mark.parametrize("activation", PIECEWISE_LINEAR, ids=repr)
def test_the_form_of_an_activation_is_the_activation(activation: nn.Module):
    x = points()
    torch.testing.assert_close(piecewise_linear_form(activation)(x), activation(x.clone()), rtol=0, atol=1e-12)


def test_every_known_form_is_tried_above():
    assert {type(activation) for activation in PIECEWISE_LINEAR} == set(FORMS)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (nn.Hardswish(), r"Hardswish is not a piecewise linear activation: .* the parabola x \(x \+ 3\) / 6"),
        (nn.Hardshrink(), "Hardshrink is not .*: it jumps"),
        (nn.GELU(), "GELU is not a piecewise linear activation: it is curved"),
        (nn.PReLU(), "PReLU is not supported as an activation: its slope is trained"),
        (nn.RReLU(), "RReLU is not supported as an activation: its slope is random in training mode"),
        (nn.Threshold(0.5, 0.0), "Threshold is not supported as an activation: its value is not its threshold"),
        (nn.LayerNorm(4), "LayerNorm is not supported as an activation: known are Identity, ReLU"),
        (nn.Softmax(-1), "Softmax is not .*: it does not act on each number alone"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(activation: nn.Module, message: str):
    assert known_form(activation) is None
    with pytest.raises(TranslationError, match=message):
        piecewise_linear_form(activation)


def test_a_name_is_not_believed():
    activation = nn.ReLU()
    activation.forward = lambda x: x.abs()
    assert known_form(activation) is None


@pytest.mark.parametrize("name", ["relu", "relu2", "gelu", "gelu_new", "silu", "tanh", "leaky_relu"])
def test_activations_of_transformers_are_elementwise(name: str):
    assert is_elementwise(ACT2FN[name])


@pytest.mark.parametrize(
    "module",
    [nn.Softmax(-1), nn.LayerNorm(64, elementwise_affine=False), nn.Flatten(), nn.GLU(), nn.Embedding(3, 3)],
    ids=repr,
)
def test_what_mixes_numbers_is_not_elementwise(module: nn.Module):
    assert not is_elementwise(module)


def test_a_position_dependent_module_is_not_elementwise():
    class Ramp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.arange(x.shape[-1])

    assert not is_elementwise(Ramp())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), ACT2FN["relu2"]], ids=repr)
def test_a_layer_computes_what_activation_and_linear_compute_to_the_last_bit(activation: nn.Module):
    second, x = linear(), points()
    assert torch.equal(ActivationKANLayer(second, activation)(x), second(activation(x)))


def test_a_layer_shares_the_parameters_of_its_linear():
    second = linear()
    layer = ActivationKANLayer(second, nn.ReLU())
    assert layer.weight is second.weight and layer.bias is second.bias
    assert layer.state_dict().keys() == second.state_dict().keys()


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Hardtanh(), nn.GELU()], ids=repr)
def test_outputs_are_sums_of_edges(activation: nn.Module):
    layer, x = ActivationKANLayer(linear(), activation), points()
    by_edge = [sum(layer.edge(j, i)(x[:, i]) for i in range(6)) + layer.bias[j] for j in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(by_edge, -1), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.edge_outputs(x).sum(-1) + layer.bias, layer(x), rtol=0, atol=1e-12)


def test_an_edge_of_a_relu_has_one_knot_and_two_slopes():
    layer = ActivationKANLayer(linear(), nn.ReLU())
    edge = layer.edge(2, 4)
    assert isinstance(edge, PiecewiseLinear)
    assert edge.knots.tolist() == [0] and edge.values.tolist() == [0]
    assert edge.slopes.tolist() == [0, layer.weight[2, 4].item()]


def test_an_edge_of_a_squared_relu_is_exact_without_knots():
    layer = ActivationKANLayer(linear(), ACT2FN["relu2"])
    edge, x = layer.edge(2, 4), points()[:, 0]
    assert isinstance(edge, ScaledActivation)
    assert torch.equal(edge(x), layer.weight[2, 4] * x.relu().square())


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True)], ids=repr)
def test_looking_at_edges_leaves_the_inputs_alone(activation: nn.Module):
    layer, x = ActivationKANLayer(linear(), activation), points()
    layer.edge_outputs(x)
    layer.edge(0, 0)(x)
    assert torch.equal(x, points())


@pytest.mark.parametrize("activation", [nn.Identity(), nn.LeakyReLU(0.2), nn.Hardtanh()], ids=repr)
def test_knots_can_be_given_to_every_edge(activation: nn.Module):
    layer, x = ActivationKANLayer(linear(), activation), points()
    torch.testing.assert_close(with_knots(layer)(x), layer(x), rtol=0, atol=1e-12)


def test_blocks_of_nodes_can_have_different_activations():
    activation = BlockActivation([2, 4], [nn.ReLU(), nn.Identity()])
    layer, x = ActivationKANLayer(linear(), activation), points()
    expected = torch.cat([x[:, :2].relu(), x[:, 2:]], -1)
    assert torch.equal(activation(x), expected)
    assert [layer.edge(0, i).slopes[0].item() == 0 for i in range(6)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_kan_is_read_layer_by_layer():
    first, second = ActivationKANLayer(linear(), nn.ReLU()), ActivationKANLayer(linear(3, 2), nn.ReLU())
    assert kan_layers(nn.Sequential(first, second)) == [first, second]
    assert kan_layers(first) == [first]


def test_what_is_no_kan_is_refused_by_name():
    with pytest.raises(TranslationError, match="got one with a Tanh. Translate a network first"):
        kan_layers(nn.Sequential(ActivationKANLayer(linear(), nn.ReLU()), nn.Tanh()))
