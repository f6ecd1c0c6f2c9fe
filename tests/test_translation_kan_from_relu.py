"""ReLU networks read as KANs: three forms of the same function."""

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5DenseActDense

from hf_untangle.errors import ConfigError, TranslationError
from hf_untangle.translation.kan.activation_layers import kan_layers
from hf_untangle.translation.kan.edges import count_edges, region_bound
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan


def network(widths: tuple[int, ...] = (4, 7, 9, 3), activation: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [[nn.Linear(*pair), activation or nn.ReLU()] for pair in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[module for layer in layers for module in layer][:-1]).double()


def points(width: int = 4) -> Tensor:
    return 3 * torch.randn(1000, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.1), nn.Hardtanh(), nn.ReLU6(), nn.Hardsigmoid(), nn.Softshrink()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("form", ["fused", "shifted", "alternating"])
def test_every_form_is_the_same_function(form: str, activation: nn.Module):
    net = network(activation=activation)
    torch.testing.assert_close(relu_to_kan(net, form)(points()), net(points()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_fused_form_is_equal_to_the_last_bit(dtype: torch.dtype):
    net, x = network((4, 64, 64, 3)).to(dtype), points().to(dtype)
    assert torch.equal(relu_to_kan(net)(x), net(x))


def test_the_fused_form_has_the_same_parameters_and_widths():
    net = network()
    kan = relu_to_kan(net)
    assert {id(p) for p in kan.parameters()} == {id(p) for p in net.parameters()}
    assert [layer.in_features for layer in kan_layers(kan)] == [4, 7, 9]


def test_the_shifted_form_turns_biases_into_thresholds():
    net = network()
    kan = relu_to_kan(net, "shifted")
    hidden = kan_layers(kan)[1]
    assert isinstance(hidden, PiecewiseLinearKANLayer)
    assert torch.equal(hidden.knots.flatten(), -net[0].bias)
    assert [layer.bias is None for layer in kan_layers(kan)] == [True, True, False]


def test_the_shifted_form_leaves_the_network_alone():
    net, x = network(), points()
    before = net(x)
    kan = relu_to_kan(net, "shifted")
    nn.init.zeros_(kan_layers(kan)[0].weight)
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("widths", [(4, 7, 3), (5, 16, 16, 16, 2), (8, 32, 8)])
def test_the_alternating_form_adds_one_edge_for_every_hidden_neuron(widths: tuple[int, ...]):
    net = network(widths)
    weights = sum(int(layer.weight.count_nonzero()) for layer in net if isinstance(layer, nn.Linear))
    alternating = relu_to_kan(net, "alternating")
    assert len(alternating) == 2 * (len(widths) - 1) - 1
    assert count_edges(relu_to_kan(net)) == count_edges(relu_to_kan(net, "shifted")) == weights
    assert count_edges(alternating) == weights + sum(widths[1:-1])


def test_one_unit_by_hand():
    """y = 5 relu(2 x + 3): the edges 2 x and 5 relu(z), or 2 x and a bend at -3."""
    net = network((1, 1, 1))
    for parameter, number in zip(net.parameters(), [2.0, 3.0, 5.0, 0.0], strict=True):
        nn.init.constant_(parameter, number)
    first, second = kan_layers(relu_to_kan(net, "shifted"))
    assert first.edge(0, 0).slopes.tolist() == [2, 2]
    assert second.edge(0, 0).knots.tolist() == [-3]
    assert second.edge(0, 0).slopes.tolist() == [0, 5]


def test_modules_that_chain_their_parts_are_read_in_the_order_in_which_they_run():
    torch.manual_seed(0)
    ffn = T5DenseActDense(T5Config(d_model=6, d_ff=10, dense_act_fn="relu", dropout_rate=0.1)).train()
    kan, x = relu_to_kan(ffn), torch.randn(20, 6)
    assert ffn.training and ffn.dropout.training
    assert torch.equal(kan(x), ffn.eval()(x))


@pytest.mark.parametrize("form", ["fused", "alternating"])
def test_activations_at_both_ends_stay(form: str):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Hardtanh(), nn.Linear(4, 3), nn.LeakyReLU(), nn.ReLU6()).double()
    torch.testing.assert_close(relu_to_kan(net, form)(points()), net(points()), rtol=0, atol=1e-12)


def test_an_activation_that_works_in_place_is_read_too():
    net = nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(4, 2)).double()
    assert torch.equal(relu_to_kan(net)(points()), net(points()))


def test_layers_without_bias_are_read_too():
    net = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)).double()
    torch.testing.assert_close(relu_to_kan(net, "shifted")(points()), net(points()), rtol=0, atol=1e-12)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Hardswish()), "Hardswish is not a piecewise linear activation"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm is not supported as an activation"),
        (nn.Sequential(nn.Linear(4, 4), nn.PReLU()), "its slope is trained"),
        (nn.Sequential(nn.ReLU()), "There is no Linear layer in this Sequential"),
        (Residual(), "Residual gives other outputs than Linear one after the other, so it is no chain"),
        (Functional(), "Functional gives other outputs than Linear, Linear one after the other"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)), "Sequential cannot run on a batch of 4 numbers"),
    ],
)
def test_what_is_no_chain_is_refused(net: nn.Module, message: str):
    with pytest.raises(TranslationError, match=message):
        relu_to_kan(net)


def test_infinite_weights_are_refused():
    net = network()
    nn.init.constant_(net[0].weight, float("inf"))
    with pytest.raises(TranslationError, match="Weights must be finite numbers, but `0.weight`"):
        relu_to_kan(net)


def test_weights_of_several_dtypes_are_refused():
    net = network()
    net[0].float()
    with pytest.raises(TranslationError, match=r"must have one dtype, got \['torch.float32', 'torch.float64'\]"):
        relu_to_kan(net)


def test_unknown_forms_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # to see what a user sees
    with pytest.raises(ConfigError, match="one of fused, shifted, alternating; got 'twisted'"):
        relu_to_kan(network(), "twisted")  # pyright: ignore[reportArgumentType]


def test_regions_of_one_layer_are_boxes():
    """Two knots on each of two inputs cut the plane into three times three boxes."""
    knots = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    layer = PiecewiseLinearKANLayer(knots, torch.rand(1, 2, 2), torch.rand(1, 2), torch.rand(1, 2))
    assert region_bound(layer) == 9


def test_the_region_bound_of_a_relu_network_is_that_of_hyperplanes():
    """Three lines cut the plane into at most 1 + 3 + 3 regions, and four more each of them into 1 + 4 + 6."""
    assert region_bound(relu_to_kan(network((2, 3, 4, 1)))) == 7 * 11
