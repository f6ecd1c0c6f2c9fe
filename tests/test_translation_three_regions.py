"""The linear regions of a network: all of them, each once, and the right model in each."""

import itertools
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import hf_untangle
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.translation.three_layers.boxes import around
from hf_untangle.translation.three_layers.enumeration import enumerate_regions, estimate_regions
from hf_untangle.translation.three_layers.network import activation_pattern, half_spaces, local_model
from hf_untangle.translation.three_layers.read_network import read_network


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(seed)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def lattice_net() -> nn.Sequential:
    """A network of whole numbers whose boundaries run through the points of a whole-numbered grid."""
    torch.manual_seed(3)
    module = mlp(2, 4, 4, 2)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randint(-2, 3, parameter.shape))
    return module


def grid(low: int, high: int, dimensions: int = 2) -> torch.Tensor:
    """All whole-numbered points of a box."""
    return torch.tensor(list(itertools.product(range(low, high + 1), repeat=dimensions)), dtype=torch.float64)


SHAPES = [(2, 8, 1), (2, 6, 6, 2), (3, 6, 6, 2), (2, 4, 4, 4, 4, 1), (1, 12, 12, 1), (4, 9, 1)]


@pytest.mark.parametrize("widths", SHAPES)
def test_the_local_models_are_the_network(widths):
    module = mlp(*widths)
    regions = enumerate_regions(module, box=(-3, 3))
    x = regions.box.sample(2000)
    model = regions.models[regions.locate(x)]
    y = torch.einsum("poc,pc->po", model, regions.network.homogeneous(x))
    assert regions.complete and regions.explored == 1
    torch.testing.assert_close(y, module(x).detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("widths", SHAPES)
def test_a_point_has_the_pattern_of_its_region(widths):
    regions = enumerate_regions(mlp(*widths), box=(-3, 3))
    x = regions.box.sample(2000)
    assert torch.equal(regions.patterns[regions.locate(x)], activation_pattern(regions.network, x))


@pytest.mark.parametrize("widths", SHAPES)
def test_every_region_is_there_once_and_knows_a_point_inside(widths):
    regions = enumerate_regions(mlp(*widths), box=(-3, 3))
    assert len(regions.patterns.unique(dim=0)) == len(regions)
    assert regions.locate(regions.points).tolist() == list(range(len(regions)))
    assert torch.equal(activation_pattern(regions.network, regions.points), regions.patterns)


def test_boundaries_and_models_are_those_of_the_pattern():
    regions = enumerate_regions(mlp(3, 5, 5, 2), box=(-2, 2))
    offsets = torch.tensor([0, 5])
    for number in range(0, len(regions), 7):
        pattern = regions.patterns[number]
        torch.testing.assert_close(regions.models[number], local_model(regions.network, pattern))
        boundaries, sides = regions.tests_of(number).T
        neurons = offsets[regions.neurons[boundaries, 0]] + regions.neurons[boundaries, 1]
        torch.testing.assert_close(regions.boundaries[boundaries], half_spaces(regions.network, pattern)[neurons])
        assert torch.equal(sides > 0, pattern[neurons])


def test_every_point_in_space_passes_the_tests_of_exactly_one_region():
    regions = enumerate_regions(lattice_net(), box=(-4, 4))
    x = torch.cat([grid(-6, 6), regions.points, regions.box.sample(500) * 3])
    holds = (x.new_ones(len(x), 1) * 0).repeat(1, len(regions)).bool()
    values = regions.network.homogeneous(x) @ regions.boundaries.T
    for number in range(len(regions)):
        boundaries, sides = regions.tests_of(number).T
        holds[:, number] = torch.where(sides > 0, values[:, boundaries] > 0, values[:, boundaries] <= 0).all(1)
    assert holds.sum(1).tolist() == [1] * len(x)
    assert torch.equal(holds.int().argmax(1), regions.locate(x))


def test_a_network_of_whole_numbers_is_reproduced_without_error_on_its_boundaries():
    module = lattice_net()
    regions = enumerate_regions(module, box=(-4, 4))
    x = grid(-4, 4)
    values = regions.network.homogeneous(x) @ regions.boundaries.T
    y = torch.einsum("poc,pc->po", regions.models[regions.locate(x)], regions.network.homogeneous(x))
    assert (values == 0).any(1).sum() > 20
    assert torch.equal(y, module(x).detach())


@pytest.mark.parametrize(("inputs", "neurons"), [(1, 5), (2, 6), (3, 5)])
def test_lines_in_general_position_cut_as_zaslavsky_counts(inputs, neurons):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(inputs, neurons), nn.ReLU(), nn.Linear(neurons, 1)).double()
    regions = enumerate_regions(module, box=(-1e3, 1e3))
    assert len(regions) == sum(math.comb(neurons, i) for i in range(inputs + 1))


def test_an_interval_by_hand():
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    module[0].weight.data.copy_(torch.tensor([[1.0], [1.0]]))
    module[0].bias.data.copy_(torch.tensor([0.0, -1.0]))
    module[2].weight.data.copy_(torch.tensor([[2.0, -3.0]]))
    module[2].bias.data.fill_(5.0)
    regions = enumerate_regions(module, box=(-2, 2))
    pieces = sorted(zip(regions.points[:, 0].tolist(), regions.models[:, 0].tolist(), strict=True))
    assert [model for _, model in pieces] == [[0, 5], [2, 5], [-1, 8]]  # x < 0, 0 < x < 1, 1 < x
    assert sorted(regions.boundaries.tolist()) == [[1, -1], [1, 0]]


def test_an_affine_network_has_one_region():
    regions = enumerate_regions(nn.Linear(2, 3).double(), box=(-1, 1))
    assert len(regions) == 1 and regions.boundaries.shape == (0, 3) and regions.complete
    assert regions.locate(grid(-1, 1)).tolist() == [0] * 9


def test_neurons_with_one_sign_in_the_box_do_not_cut_it():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    module[0].weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]))
    module[0].bias.data.copy_(torch.tensor([0.0, 2.0, 0.0]))
    regions = enumerate_regions(module, box=(-1, 1))
    assert regions.neurons.tolist() == [[0, 2]] and len(regions) == 2


def test_convolutions_pooling_and_residuals_have_regions_too():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1))
    network = read_network(module.double(), (1, 3, 3))
    x = torch.randn(1, 3, 3, dtype=torch.float64)
    regions = enumerate_regions(network, around(x, 0.2))
    points = regions.box.sample(500)
    model = regions.models[regions.locate(points)]
    y = torch.einsum("poc,pc->po", model, network.homogeneous(points))
    assert len(regions) > 5
    torch.testing.assert_close(y, network(points.reshape(-1, 1, 3, 3)))


def test_a_search_that_is_stopped_says_so_and_is_right_as_far_as_it_came():
    module = mlp(2, 8, 8, 1)
    everything = enumerate_regions(module, box=(-3, 3))
    part = enumerate_regions(module, box=(-3, 3), max_regions=10)
    assert len(part) == 10 and not part.complete and part.stopped == "max_regions"
    assert torch.equal(part.patterns, everything.patterns[:10])
    assert 0 < part.explored < 1
    found = part.locate(everything.points)
    assert found[:10].tolist() == list(range(10)) and (found[10:] == -1).all()


def test_regions_say_what_they_are():
    regions = enumerate_regions(mlp(2, 6, 1), box=(-3, 3))
    assert repr(regions) == f"Regions({len(regions)} regions, 6 boundaries, complete)"
    assert repr(regions.network) == "ReluNetwork((2,) -> (1,), widths (6,))"
    part = enumerate_regions(mlp(2, 6, 1), box=(-3, 3), max_regions=1)
    assert repr(part).startswith("Regions(1 regions, ") and "stopped by max_regions after " in repr(part)


def test_a_membership_matrix_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("hf_untangle.translation.three_layers.regions.MAX_MEMBERSHIP", 10)
    with pytest.raises(BudgetError, match="too many to write as one matrix"):
        enumerate_regions(mlp(2, 6, 1), box=(-3, 3)).membership()


def test_a_search_without_any_time_finds_nothing():
    regions = enumerate_regions(mlp(2, 6, 1), box=(-3, 3), max_seconds=1e-9)
    assert len(regions) == 0 and regions.locate(torch.zeros(2, 2)).tolist() == [-1, -1]


def test_a_limit_that_is_just_enough_is_not_a_stop():
    everything = enumerate_regions(mlp(2, 6, 1), box=(-3, 3))
    assert enumerate_regions(mlp(2, 6, 1), box=(-3, 3), max_regions=len(everything)).complete


def test_a_search_ends_when_its_time_is_up():
    regions = enumerate_regions(mlp(6, 30, 30, 1), box=(-3, 3), max_seconds=0.2)
    assert regions.stopped == "max_seconds" and len(regions) > 0


def test_two_processes_find_what_one_finds():
    module = mlp(3, 6, 6, 1)
    one, two = (enumerate_regions(module, box=(-3, 3), processes=count) for count in (1, 2))
    for name in ("patterns", "boundaries", "neurons", "tests", "test_counts", "models"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.slow
def test_two_processes_stop_where_one_stops():
    one, two = (enumerate_regions(mlp(3, 6, 6, 1), (-3, 3), processes=n, max_regions=20) for n in (1, 2))
    assert two.stopped == "max_regions" and torch.equal(one.patterns, two.patterns)
    late = enumerate_regions(mlp(6, 30, 30, 1), (-3, 3), processes=2, max_seconds=1.0)
    assert late.stopped == "max_seconds"


@pytest.mark.slow
def test_processes_do_not_go_on_when_enough_is_found():
    start = time.time()
    enumerate_regions(mlp(6, 60, 60, 1), (-3, 3), processes=2, max_regions=200_000, max_seconds=4.0)
    assert time.time() - start < 12


def test_the_processes_of_a_search_start_without_torch():
    code = "import sys, hf_untangle.translation.three_layers.tree_walk; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


SCRIPT = """
import torch
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
print("the script runs")
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
regions = enumerate_regions(network, (-9, 9), processes=2)
print(regions.complete, __file__.endswith("script.py"))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once_and_keeps_its_name(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": str(Path(hf_untangle.__file__).parents[1])}
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment).stdout
    assert output.splitlines() == ["the script runs", "True True"]


def test_progress_is_shown_when_asked_for(capsys):
    enumerate_regions(mlp(2, 4, 1), box=(-3, 3), progress=True)
    assert capsys.readouterr().err == "regions: 10 found\n"


def test_the_estimate_is_near_the_number_of_regions():
    module = mlp(3, 6, 6, 1)
    count = len(enumerate_regions(module, box=(-3, 3)))
    estimate = estimate_regions(module, box=(-3, 3), dives=100)
    assert abs(estimate.mean - count) < 3 * estimate.standard_error < count
    assert count <= estimate.upper_bound == sum(math.comb(6, i) for i in range(4)) ** 2


def test_the_estimate_of_a_balanced_tree_has_no_error():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    module[0].weight.data.copy_(torch.eye(3))
    module[0].bias.data.zero_()
    estimate = estimate_regions(module, box=(-1, 1))
    assert (estimate.mean, estimate.standard_error, estimate.upper_bound) == (8, 0, 8)


@pytest.mark.parametrize("limits", [{"max_regions": 0}, {"max_seconds": -1.0}, {"processes": 0}])
def test_limits_are_above_zero(limits):
    with pytest.raises(ConfigError, match="must be above 0"):
        enumerate_regions(mlp(2, 3, 1), box=(-1, 1), **limits)


def test_an_estimate_needs_two_dives():
    with pytest.raises(ConfigError, match="at least two dives"):
        estimate_regions(mlp(2, 3, 1), box=(-1, 1), dives=1)
