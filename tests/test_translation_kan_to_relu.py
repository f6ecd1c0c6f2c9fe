"""Piecewise linear KANs written as ReLU networks, and back."""

import pytest
import torch
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.kan_to_relu import FanOut, kan_to_relu
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan


def random_layer(inputs: int, outputs: int, knots: int, own_knots: bool = False) -> PiecewiseLinearKANLayer:
    spacing = torch.rand(outputs if own_knots else 1, inputs, knots) + 0.5
    edges = torch.randn(outputs, inputs, knots), torch.randn(outputs, inputs), torch.randn(outputs, inputs)
    parts = (part.double() / inputs**0.5 for part in edges)
    return PiecewiseLinearKANLayer(spacing.cumsum(-1).double() - 3, *parts, torch.randn(outputs).double())


def random_kan(widths: tuple[int, ...], knots: int, own_knots: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(random_layer(n, m, knots, own_knots) for n, m in pairs))


def points(width: int) -> Tensor:
    return 3 * torch.randn(1000, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same_function(one: nn.Module, other: nn.Module, width: int) -> None:
    torch.testing.assert_close(one(points(width)), other(points(width)), rtol=1e-12, atol=1e-12)


SIZES = [((3, 4, 2), 1), ((3, 5, 4, 2), 4), ((2, 3, 1), 2), ((6, 8, 8, 3), 7)]


@pytest.mark.parametrize(("widths", "knots"), SIZES)
@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("own_knots", [True, False])
def test_the_network_is_the_same_function(widths: tuple[int, ...], knots: int, factored: bool, own_knots: bool):
    kan = random_kan(widths, knots, own_knots)
    assert_same_function(kan, kan_to_relu(kan, factored), widths[0])


@pytest.mark.parametrize(("widths", "knots"), SIZES)
def test_multiplied_out_it_is_a_multilayer_perceptron_of_k_times_the_widths(widths: tuple[int, ...], knots: int):
    network = kan_to_relu(random_kan(widths, knots), factored=False)
    assert [type(module) for module in network] == [nn.Linear, nn.ReLU] * (len(widths) - 1) + [nn.Linear]
    hidden = [module.out_features for module in network if isinstance(module, nn.Linear)][:-1]
    assert hidden == [(knots + 1) * width for width in widths[:-1]]


@pytest.mark.parametrize(("widths", "knots"), SIZES)
def test_factored_it_has_the_parameters_that_the_formula_says(widths: tuple[int, ...], knots: int):
    network, segments = kan_to_relu(random_kan(widths, knots)), knots + 1
    formula = sum(segments * n * m + 2 * segments * n + m for n, m in zip(widths, widths[1:], strict=False))
    assert sum(parameter.numel() for parameter in network.parameters()) == formula


def test_an_edge_of_k_segments_costs_k_neurons():
    network = kan_to_relu(random_layer(1, 1, knots=5))
    assert network(torch.zeros(1, 1, dtype=torch.float64)).shape == (1, 1)
    assert network[2].in_features == 6


@pytest.mark.parametrize("form", ["fused", "shifted", "alternating"])
@pytest.mark.parametrize("factored", [True, False])
def test_a_network_that_went_to_a_kan_and_back_is_the_same(form: str, factored: bool):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    assert_same_function(network, kan_to_relu(relu_to_kan(network, form), factored), 4)


def test_a_fused_kan_goes_back_to_its_network_to_the_last_bit():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2))
    back, x = kan_to_relu(relu_to_kan(network)), points(4).float()
    assert [type(module) for module in back] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(back(x), network(x))


def test_a_kan_that_went_to_a_network_and_back_is_the_same():
    kan = random_kan((3, 5, 2), knots=4)
    assert_same_function(kan, relu_to_kan(kan_to_relu(kan, factored=False)), 3)


def test_the_network_does_not_share_parameters_with_the_kan():
    kan = random_kan((3, 2), knots=2)
    before = kan(points(3))
    for parameter in kan_to_relu(kan).parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(kan(points(3)), before)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.Hardtanh()], ids=repr)
def test_other_piecewise_linear_activations_become_relus(activation: nn.Module):
    torch.manual_seed(0)
    kan = ActivationKANLayer(nn.Linear(4, 3).double(), activation)
    network = kan_to_relu(kan)
    assert {type(module) for module in network} == {FanOut, nn.ReLU, nn.Linear}
    assert_same_function(kan, network, 4)


def test_the_neurons_of_a_bump_by_hand():
    """Knots 0 and 1, values 4 and 6, slopes 1, 2, -3: three neurons with the output weights -1, 2, -5."""
    bump = PiecewiseLinearKANLayer(
        torch.tensor([[[0.0, 1.0]]]),
        torch.tensor([[[4.0, 6.0]]]),
        torch.tensor([[1.0]]),
        torch.tensor([[-3.0]]),
    )
    fan, _, out = kan_to_relu(bump)
    assert fan.weight.flatten().tolist() == [-1, 1, 1] and fan.bias.flatten().tolist() == [0, 0, -1]
    assert out.weight.tolist() == [[-1, 2, -5]] and out.bias.tolist() == [4]


def test_smooth_edges_are_refused_by_name():
    with pytest.raises(TranslationError, match="GELU is not a piecewise linear activation"):
        kan_to_relu(ActivationKANLayer(nn.Linear(2, 2), nn.GELU()))
