"""No input that is nearer than the counterfactual has the wanted outcome."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.counterfactuals import (
    class_is,
    nearest_counterfactual,
    output_between,
    shortest_step,
)
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.homogeneous import unit


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def ball(center: torch.Tensor, radius: float, count: int = 20_000) -> torch.Tensor:
    """Seeded points of a ball."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(count, len(center), dtype=torch.float64, generator=generator)
    length = torch.rand(count, 1, dtype=torch.float64, generator=generator) ** (1 / len(center))
    return center + radius * length * direction / direction.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("inputs", [2, 3])
def test_no_nearer_point_is_of_the_wanted_class_and_the_point_itself_is(inputs):
    module = mlp(inputs, 8, 8, 3)
    regions = enumerate_regions(module, (-3, 3))
    for x in regions.box.sample(6, seed=1):
        for label in {0, 1, 2} - {int(module(x).argmax())}:
            found = nearest_counterfactual(regions, x, class_is(label, 3))
            assert found is not None and found.searched <= len(regions)
            others = found.output[[other for other in range(3) if other != label]]
            assert found.output[label] >= others.max() - 1e-9
            assert (found.point - x).norm().item() == pytest.approx(found.distance)
            nearer = ball(x, found.distance * (1 - 1e-6))
            nearer = nearer[((nearer >= -3) & (nearer <= 3)).all(1)]
            assert not (module(nearer).argmax(1) == label).any()


def test_a_point_that_has_the_outcome_is_its_own_counterfactual():
    module = mlp(2, 6, 3)
    regions = enumerate_regions(module, (-3, 3))
    x = regions.box.sample(1)[0]
    found = nearest_counterfactual(regions, x, class_is(int(module(x).argmax()), 3))
    assert found is not None and found.distance == pytest.approx(0, abs=1e-9)


def test_a_counterfactual_by_hand():
    module = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    module[0].weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    module[0].bias.data.zero_()
    regions = enumerate_regions(module, (-5, 5))
    found = nearest_counterfactual(regions, torch.tensor([0.0, -1.25]), output_between(10.0, torch.inf))
    assert found is not None and found.distance == pytest.approx(3)  # from 3x + 4y = -5 to 10, |a| = 5
    assert found.point.tolist() == pytest.approx([1.8, 1.15]) and found.output.tolist() == pytest.approx([10])


def test_a_margin_is_kept():
    regions = enumerate_regions(mlp(2, 6, 2), (-3, 3))
    found = nearest_counterfactual(regions, torch.zeros(2), class_is(1, 2, margin=0.5))
    assert found is not None and found.output[1] - found.output[0] >= 0.5 - 1e-9


def test_an_outcome_that_never_happens_has_no_counterfactual():
    regions = enumerate_regions(nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double(), (-3, 3))
    assert nearest_counterfactual(regions, torch.zeros(2), output_between(-9.0, -1.0, output=1, outputs=3)) is None


def test_the_shortest_step_is_the_one_of_a_general_solver():
    random = np.random.default_rng(0)
    for _ in range(10):
        rows = unit(np.c_[random.normal(size=(5, 3)), random.uniform(0.1, 1, 5)])
        start = np.append(random.normal(size=3) * 3, 1.0)
        conditions = {
            "type": "ineq",
            "fun": lambda d, rows=rows, start=start: rows[:, :-1] @ d + rows @ start,
        }
        reference = minimize(lambda d: d @ d, np.zeros(3), constraints=conditions, tol=1e-12)
        step = shortest_step(rows, start, longest=100.0)
        assert step is not None and np.linalg.norm(step) == pytest.approx(np.sqrt(reference.fun), abs=1e-6)
        assert (rows[:, :-1] @ step + rows @ start > -1e-9).all()


def test_there_is_no_step_into_an_empty_polytope():
    rows = np.array([[1.0, 0.0, -2.0], [-1.0, 0.0, 1.0]])  # x >= 2 and x <= 1
    assert shortest_step(rows, np.array([0.0, 0.0, 1.0]), longest=10.0) is None


def test_conditions_on_outputs_by_hand():
    assert class_is(1, 3, margin=0.5).tolist() == [[-1, 1, 0, -0.5], [0, 1, -1, -0.5]]
    assert output_between(1.0, 2.0).tolist() == [[1, -1], [-1, 2]]
    assert output_between(-torch.inf, 2.0, output=1, outputs=2).tolist() == [[0, -1, 2]]


def test_regions_that_do_not_cover_the_box_are_refused():
    part = enumerate_regions(mlp(2, 6, 2), (-3, 3), max_regions=2)
    with pytest.raises(ConfigError, match="stopped at max_regions, so the nearest point cannot be known"):
        nearest_counterfactual(part, torch.zeros(2), class_is(0, 2))


def test_conditions_of_another_network_are_refused():
    with pytest.raises(ConfigError, match="must have 3 numbers, one for each output and a constant, got 4"):
        nearest_counterfactual(enumerate_regions(mlp(2, 3, 2), (-1, 1)), torch.zeros(2), class_is(0, 3))
