"""Neurons that never change sign in a box are taken out, and nothing changes there."""

import itertools

import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.constant_neurons import (
    constant_by_bounds,
    constant_in_regions,
    without_constant_neurons,
)
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.network import activation_pattern
from hf_untangle.translation.three_layers.read_network import read_network

BOX = (-0.4, 0.6)


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()


class Skip(nn.Module):
    """A network whose later layers read earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.a(x).relu()
        return self.c(torch.cat([x, (hidden + self.b(hidden)).relu()], dim=1))


@pytest.mark.parametrize("module", [mlp(2, 12, 12, 3), mlp(3, 8, 8, 8, 1), Skip().double()])
@pytest.mark.parametrize("how", ["bounds", "regions"])
def test_a_network_without_its_constant_neurons_is_the_same_in_the_box(module, how):
    regions = enumerate_regions(module, BOX)
    constant = constant_by_bounds(module, BOX) if how == "bounds" else constant_in_regions(regions)
    smaller = without_constant_neurons(module, constant)
    gone = int((constant.always_on | constant.always_off).sum())
    assert smaller.neurons == regions.network.neurons - gone and gone > 0
    x = regions.box.sample(1000)
    torch.testing.assert_close(smaller(x), module(x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("widths", [(2, 12, 12, 3), (3, 8, 8, 8, 1)])
def test_constant_neurons_keep_their_sign_and_bounds_find_some_of_them(widths):
    regions = enumerate_regions(mlp(*widths), BOX)
    every, some = constant_in_regions(regions), constant_by_bounds(regions.network, BOX)
    assert not (some.always_on & ~every.always_on).any() and not (some.always_off & ~every.always_off).any()
    pattern = activation_pattern(regions.network, regions.box.sample(2000))
    assert pattern[:, every.always_on].all() and not pattern[:, every.always_off].any()
    changing = ~(every.always_on | every.always_off)
    assert (regions.patterns[:, changing].any(0) & ~regions.patterns[:, changing].all(0)).all()


def test_a_folded_network_has_the_regions_of_the_original():
    regions = enumerate_regions(mlp(2, 12, 12, 3), BOX)
    smaller = without_constant_neurons(regions.network, constant_in_regions(regions))
    assert len(enumerate_regions(smaller, BOX)) == len(regions)


def test_folding_by_hand():
    module = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    module[0].weight.data.copy_(torch.tensor([[1.0], [1.0], [1.0]]))
    module[0].bias.data.copy_(torch.tensor([2.0, 0.0, -2.0]))  # always on, changing, always off
    module[2].weight.data.copy_(torch.tensor([[5.0, 7.0, 9.0]]))
    module[2].bias.data.fill_(1.0)
    constant = constant_by_bounds(module, (-1, 1))
    assert constant.always_on.tolist() == [True, False, False]
    assert constant.always_off.tolist() == [False, False, True]
    smaller = without_constant_neurons(module, constant)
    assert [weights[0].tolist() for weights in smaller.layers] == [[[1, 0]]]
    assert smaller.output[0].tolist() == [[5, 11]] and smaller.output[1].tolist() == [[7]]


def test_a_network_without_changing_neurons_becomes_affine():
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    module[0].bias.data.fill_(10.0)
    smaller = without_constant_neurons(module, constant_by_bounds(module, (-1, 1)))
    assert smaller.layers == () and read_network(smaller) is smaller


def test_regions_that_do_not_cover_the_box_are_refused():
    with pytest.raises(ConfigError, match="Use constant_by_bounds, or raise the limit"):
        constant_in_regions(enumerate_regions(mlp(2, 12, 3), (-3, 3), max_regions=2))
