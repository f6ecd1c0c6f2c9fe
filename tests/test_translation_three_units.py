"""The same network in other units of its inputs has the same regions, rules and counterfactuals."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from hf_untangle.translation.three_layers.counterfactuals import class_is, nearest_counterfactual
from hf_untangle.translation.three_layers.enumeration import enumerate_regions, estimate_regions
from hf_untangle.translation.three_layers.rules import boundary_distance, rule_at
from hf_untangle.translation.three_layers.three_layer import as_three_layers

UNITS = [1e-8, 1e8, 1e-100, 1e150]


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1]).double().requires_grad_(False)


def in_units(widths: tuple[int, ...], unit: Tensor | float) -> nn.Sequential:
    """The network of inputs that are so many times larger."""
    network = mlp(*widths)
    network[0].weight.div_(unit)
    return network


@pytest.mark.parametrize("widths", [(2, 8, 8, 1), (3, 6, 6, 2)])
@pytest.mark.parametrize("unit", UNITS)
def test_regions_do_not_depend_on_the_unit(widths, unit):
    plain, scaled = (enumerate_regions(in_units(widths, u), (-3 * u, 3 * u)) for u in (1.0, unit))
    assert torch.equal(plain.patterns, scaled.patterns) and scaled.complete
    torch.testing.assert_close(scaled.points / unit, plain.points, rtol=1e-6, atol=1e-9)
    x = plain.box.sample(500)
    y = as_three_layers(scaled, "halfopen")(x * unit)
    torch.testing.assert_close(y, mlp(*widths)(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("widths", [(2, 8, 8, 1), (3, 5, 5, 2)])
def test_every_input_may_have_its_own_unit(widths):
    unit = torch.tensor([1e-9, 1e7, 1.0][: widths[0]], dtype=torch.float64)
    plain, scaled = enumerate_regions(mlp(*widths), (-3, 3)), enumerate_regions(in_units(widths, unit), (-3 * unit, 3 * unit))
    assert torch.equal(plain.patterns, scaled.patterns)
    guesses = [
        estimate_regions(mlp(*widths), (-3, 3), dives=8),
        estimate_regions(in_units(widths, unit), (-3 * unit, 3 * unit), dives=8),
    ]
    assert guesses[0] == guesses[1]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("box", [None, 3.0])
def test_rules_do_not_depend_on_the_unit(unit, box):
    x, widths = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), (3, 12, 8, 1)
    plain, scaled = (rule_at(in_units(widths, u), x * u, None if box is None else (-box * u, box * u)) for u in (1.0, unit))
    assert 0 < len(plain.neurons) < 20
    assert torch.equal(plain.neurons, scaled.neurons)
    assert scaled.distance / unit == pytest.approx(plain.distance)
    assert boundary_distance(in_units(widths, unit), x[None] * unit) / unit == pytest.approx(plain.distance)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_counterfactuals_do_not_depend_on_the_unit(unit):
    x, widths = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), (3, 6, 6, 2)
    regions = [enumerate_regions(in_units(widths, u), (-3 * u, 3 * u)) for u in (1.0, unit)]
    loser = int(mlp(*widths)(x).argmin())
    plain, scaled = (
        nearest_counterfactual(found, x * u, class_is(loser, 2)) for found, u in zip(regions, (1.0, unit), strict=True)
    )
    assert plain is not None and scaled is not None
    torch.testing.assert_close(scaled.point / unit, plain.point, rtol=1e-9, atol=1e-9)
