"""A rule holds exactly where the network is what it says."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.network import activation_pattern
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.rules import boundary_distance, irredundant, rule_at


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def points(count: int, inputs: int) -> torch.Tensor:
    """Seeded points of the box from -3 to 3."""
    return torch.rand(count, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 6 - 3


def follows(rule, network, x) -> torch.Tensor:
    """The points at which all conditions of a rule hold."""
    values = network.homogeneous(x) @ rule.rows.T
    return torch.where(rule.active, values > 0, values <= 0).all(1)


@pytest.mark.parametrize("box", [None, (-3, 3)])
def test_a_rule_holds_at_exactly_the_points_of_its_region(box):
    network, x = read_network(mlp(2, 6, 6, 2)), points(4000, 2)
    patterns = activation_pattern(network, x)
    for number in range(5):
        rule = rule_at(network, x[number], box)
        same = (patterns == patterns[number]).all(1)
        assert torch.equal(follows(rule, network, x), same) and same.sum() > 10
        y = network.homogeneous(x[same]) @ rule.model.T
        torch.testing.assert_close(y, network(x[same]))


def test_no_condition_of_a_rule_can_be_left_out():
    network, x = read_network(mlp(2, 6, 6, 2)), points(20_000, 2)
    rule = rule_at(network, x[0], (-3, 3))
    everywhere = follows(rule, network, x).sum()
    for left_out in range(len(rule.rows)):
        kept = [number for number in range(len(rule.rows)) if number != left_out]
        wider = type(rule)(rule.model, rule.rows[kept], rule.active[kept], rule.neurons[kept], (), 0.0)
        assert follows(wider, network, x).sum() > everywhere


def test_a_rule_needs_at_most_the_tests_of_the_search():
    regions = enumerate_regions(mlp(3, 6, 6, 1), (-3, 3))
    for number in range(0, len(regions), 11):
        rule = rule_at(regions.network, regions.points[number], (-3, 3))
        tested = {tuple(place) for place in regions.neurons[regions.tests_of(number)[:, 0]].tolist()}
        assert {tuple(place) for place in rule.neurons.tolist()} <= tested


def test_redundant_half_spaces_are_left_out_by_hand():
    rows = np.array([[1.0, 0, 0], [0, 2, 0], [1, 0, 5], [1, 1, 1], [1, 0, 0], [0, 0, 3]])
    unbounded = np.full(2, -np.inf), np.full(2, np.inf)
    assert irredundant(rows, *unbounded).tolist() == [1, 4]  # of the two equal ones, the later is kept
    assert irredundant(rows, np.array([1.0, -1.0]), np.array([2.0, 1.0])).tolist() == [1]


def test_the_distance_is_the_way_to_the_nearest_change_of_pattern():
    network, x = read_network(mlp(3, 8, 8, 1)), points(30, 3)
    distance = boundary_distance(network, x)
    pattern = activation_pattern(network, x)
    directions = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = directions / directions.norm(dim=1, keepdim=True)
    near = x[:, None] + 0.999 * distance[:, None, None] * directions
    assert (activation_pattern(network, near.reshape(-1, 3)).reshape(30, 200, -1) == pattern[:, None]).all()
    far = x[:, None] + 1.2 * distance[:, None, None] * directions
    changed = (activation_pattern(network, far.reshape(-1, 3)).reshape(30, 200, -1) != pattern[:, None]).any(2)
    assert changed.any(1).all()


def test_the_rule_knows_the_distance():
    network, x = read_network(mlp(3, 8, 8, 1)), points(3, 3)
    assert [rule_at(network, point).distance for point in x] == pytest.approx(boundary_distance(network, x).tolist())


def test_a_rule_in_words():
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    module[0].weight.data.copy_(torch.tensor([[1.0, -2.0], [0.0, 1.0]]))
    module[0].bias.data.copy_(torch.tensor([0.5, 0.0]))
    module[2].weight.data.copy_(torch.tensor([[3.0, 1.0]]))
    module[2].bias.data.fill_(-1.0)
    rule = rule_at(module, torch.tensor([1.0, -1.0]))
    assert rule.words(inputs=["age", "income"], outputs=["risk"]).splitlines() == [
        "While",
        "  1 age - 2 income + 0.5 > 0    (neuron 0 of `1` (ReLU) is active)",
        "  1 income <= 0    (neuron 1 of `1` (ReLU) is inactive)",
        "the network computes",
        "  risk = 3 age - 6 income + 0.5",
        "The nearest boundary is 1 away.",
    ]


def test_a_rule_with_many_inputs_names_the_largest_terms():
    module = nn.Linear(12, 1, bias=False)
    module.weight.data.copy_(torch.arange(12.0))
    rule = rule_at(module, torch.zeros(12))
    assert rule.words().splitlines() == [
        "Everywhere",
        "  y0 = 4 x4 + 5 x5 + 6 x6 + 7 x7 + 8 x8 + 9 x9 + 10 x10 + 11 x11 + (3 smaller terms)",
    ]
    assert rule.distance == torch.inf and boundary_distance(module, torch.zeros(2, 12)).tolist() == [torch.inf] * 2


def test_an_output_that_is_always_zero_is_written_as_zero():
    module = nn.Linear(1, 1)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    assert rule_at(module, torch.zeros(1)).words() == "Everywhere\n  y0 = 0"
