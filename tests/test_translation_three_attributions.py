"""Attributions add up, and agree with their definitions."""

import itertools
import math

import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers import attributions
from hf_untangle.translation.three_layers.attributions import integrated_gradients, shapley_values


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def two_points(inputs: int) -> torch.Tensor:
    """A point and a baseline."""
    return torch.randn(2, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def shapley_by_definition(module, x, z, output=0) -> torch.Tensor:
    """The mean marginal contribution over all orders."""
    total = torch.zeros_like(x)
    for order in itertools.permutations(range(len(x))):
        mixed = z.clone()
        for i in order:
            before = module(mixed[None])[0, output].item()
            mixed[i] = x[i]
            total[i] += module(mixed[None])[0, output].item() - before
    return total / math.factorial(len(x))


def test_integrated_gradients_add_up_to_the_difference():
    module, (x, z) = mlp(8, 24, 24, 3), two_points(8)
    for output in range(3):
        attribution = integrated_gradients(module, x, z, output)
        difference = (module(x[None]) - module(z[None]))[0, output].item()
        assert attribution.sum().item() == pytest.approx(difference, abs=1e-12)


def test_inputs_in_single_precision_lose_nothing_more():
    module, (x, z) = mlp(8, 24, 24, 1), two_points(8).float()
    difference = (module(x[None].double()) - module(z[None].double())).item()
    assert integrated_gradients(module, x, z).sum().item() == pytest.approx(difference, abs=1e-12)


def test_integrated_gradients_are_the_limit_of_their_riemann_sums():
    module, (x, z) = mlp(4, 12, 12, 1), two_points(4)
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    along = (z + t[:, None] * (x - z)).requires_grad_()
    module(along).sum().backward()
    riemann = (x - z) * along.grad.mean(0)
    torch.testing.assert_close(integrated_gradients(module, x, z), riemann, atol=1e-3, rtol=0)


def test_integrated_gradients_by_hand():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    module[0].weight.data.fill_(2.0)
    with torch.no_grad():
        assert integrated_gradients(module, torch.tensor([3.0]), torch.tensor([-1.0])).tolist() == [6.0]


def test_shapley_values_are_those_of_the_definition():
    module, (x, z) = mlp(5, 10, 10, 2), two_points(5)
    result = shapley_values(module, x, z, output=1)
    assert result.exactness == "enumerated" and (result.standard_error == 0).all()
    torch.testing.assert_close(result.values, shapley_by_definition(module, x, z, output=1), rtol=1e-12, atol=0)


def test_certified_shapley_values_are_those_of_the_definition():
    module, (x, z) = mlp(5, 10, 10, 1), two_points(5)
    near = x + 1e-3 * z
    result = shapley_values(module, x, near)
    assert result.exactness == "certified"
    torch.testing.assert_close(result.values, shapley_by_definition(module, x, near), rtol=1e-9, atol=1e-12)


def test_one_region_for_both_ends_is_not_enough_for_a_certificate():
    module = nn.Sequential(nn.Linear(2, 1), nn.ReLU()).double()
    module[0].weight.data.fill_(1.0)
    module[0].bias.data.fill_(-0.5)
    x, z = torch.tensor([2.0, -1.0]), torch.tensor([-1.0, 2.0])  # active at both, but not at (-1, -1)
    result = shapley_values(module, x, z)
    assert result.exactness == "enumerated"
    assert result.values.tolist() == [1.75, -1.75]  # the local model alone would say 3 and -3


def test_inputs_that_do_not_differ_have_no_value_and_cost_nothing():
    module, (x, z) = mlp(40, 10, 1), two_points(40)
    z[3:] = x[3:]
    result = shapley_values(module, x, z)
    assert result.exactness == "enumerated" and (result.values[3:] == 0).all()


def test_sampled_shapley_values_come_with_an_error_and_add_up(monkeypatch):
    module, (x, z) = mlp(6, 10, 10, 1), two_points(6)
    exact = shapley_values(module, x, z).values
    monkeypatch.setattr(attributions, "MAX_ENUMERATED", 3)
    result = shapley_values(module, x, z, permutations=300)
    assert result.exactness == "sampled"
    difference = (module(x[None]) - module(z[None])).item()
    assert result.values.sum().item() == pytest.approx(difference, abs=1e-12)
    deviation = (result.values - exact).abs() / result.standard_error
    assert (deviation < 4).all() and (result.standard_error < 0.2 * exact.abs().max()).all()
    assert torch.equal(result.values, shapley_values(module, x, z, permutations=300).values)


def test_attributions_have_the_shape_of_an_input():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    network = attributions.read_network(module, (2, 2))
    x, z = torch.randn(2, 2, 2, dtype=torch.float64)
    total = (module(x[None]) - module(z[None])).item()
    for values in (integrated_gradients(network, x, z), shapley_values(network, x, z).values):
        assert values.shape == (2, 2) and values.sum().item() == pytest.approx(total, abs=1e-12)


def test_a_sample_needs_two_permutations():
    with pytest.raises(ConfigError, match="at least two permutations"):
        shapley_values(mlp(2, 3, 1), *two_points(2), permutations=1)
