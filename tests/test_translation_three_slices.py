"""On a line or a plane, a network is what it is in space."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.boxes import box_of
from hf_untangle.translation.three_layers.cells import Polygon, Prober
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.network import activation_pattern
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.region_tree import RegionTree
from hf_untangle.translation.three_layers.restrictions import polygons, restrict, segment


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def points(*shape: int) -> torch.Tensor:
    """Seeded points."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def area(corners: torch.Tensor) -> float:
    """The area of a polygon, by the shoelace formula."""
    x, y = corners[:, 0], corners[:, 1]
    return abs(float(x @ y.roll(-1) - y @ x.roll(-1))) / 2


def test_a_restricted_network_is_the_network_on_the_slice():
    module, t = mlp(5, 8, 8, 3), points(100, 2)
    origin, directions = points(5), points(2, 5)
    plane = restrict(module, origin, directions)
    torch.testing.assert_close(plane(t), module(origin + t @ directions).detach())


def test_a_segment_is_linear_between_its_breakpoints():
    module = mlp(5, 16, 16, 3)
    start, end = points(2, 5) * 3
    pieces = segment(module, start, end)
    assert pieces.breakpoints[0] == 0 and pieces.breakpoints[-1] == 1 and len(pieces.lengths) > 10
    for share in (0.01, 0.5, 0.99):
        t = pieces.breakpoints[:-1] + share * pieces.lengths
        y = torch.einsum("poc,pc->po", pieces.models, torch.stack([t, torch.ones_like(t)], dim=1))
        torch.testing.assert_close(y, module(start + t[:, None] * (end - start)).detach())


def test_a_segment_has_the_patterns_of_the_network_and_changes_them_at_each_breakpoint():
    network = read_network(mlp(5, 16, 16, 3))
    start, end = points(2, 5) * 3
    pieces = segment(network, start, end)
    x = start + pieces.middles[:, None] * (end - start)
    assert torch.equal(activation_pattern(network, x), pieces.patterns)
    assert (pieces.patterns[1:] != pieces.patterns[:-1]).any(1).all()


def test_a_segment_by_hand():
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    module[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    module[0].bias.data.copy_(torch.tensor([-1.0, 0.0]))
    module[2].weight.data.copy_(torch.tensor([[2.0, 3.0]]))
    module[2].bias.data.zero_()
    pieces = segment(module, torch.tensor([-2.0]), torch.tensor([2.0]))  # x = -2 + 4 t
    assert pieces.breakpoints.tolist() == [0, 0.5, 0.75, 1]
    assert pieces.models[:, 0].tolist() == [[-12, 6], [0, 0], [8, -6]]


def test_a_segment_through_an_affine_network_is_one_piece():
    pieces = segment(nn.Linear(2, 1), torch.zeros(2), torch.ones(2))
    assert pieces.breakpoints.tolist() == [0, 1] and pieces.patterns.shape == (1, 0)


def test_a_segment_has_the_regions_that_a_search_finds():
    module = mlp(3, 10, 10, 1)
    start, end = points(2, 3) * 2
    line = restrict(module, start, (end - start)[None])
    assert len(enumerate_regions(line, box=(0, 1))) == len(segment(module, start, end).lengths)


def test_polygons_tile_the_box():
    plane = restrict(mlp(5, 12, 12, 1), points(5), points(2, 5))
    regions = enumerate_regions(plane, box=(-3, 3))
    areas = [area(corners) for corners in polygons(regions)]
    assert min(areas) > 0 and sum(areas) == pytest.approx(36, abs=1e-9)


def test_points_lie_in_the_polygon_of_their_region():
    regions = enumerate_regions(mlp(2, 6, 6, 1), box=(-3, 3))
    shapes, x = polygons(regions), regions.box.sample(300)
    for point, region in zip(x, regions.locate(x), strict=True):
        edges = shapes[region].roll(-1, 0) - shapes[region]
        towards = point - shapes[region]
        assert (edges[:, 0] * towards[:, 1] - edges[:, 1] * towards[:, 0] > 0).all()


@pytest.mark.parametrize("widths", [(2, 8, 1), (2, 6, 6, 2), (2, 10, 10, 1), (2, 4, 4, 4, 1)])
def test_corners_find_the_regions_that_linear_programs_find(widths):
    network = read_network(mlp(*widths))
    regions = enumerate_regions(network, box=(-3, 3))
    box = box_of(network, (-3, 3))
    maps = [{source: weight.numpy() for source, weight in weights.items()} for weights in network.layers]
    output = {source: weight.numpy() for source, weight in network.output.items()}
    tree = RegionTree(tuple(maps), output, box.lower.numpy(), box.upper.numpy())
    tree.prober = Prober(-np.ones(2), np.ones(2))  # the box, in its own units
    patterns = np.stack([leaf.pattern for leaf in tree.leaves(tree.root())])
    assert np.array_equal(patterns, regions.patterns.numpy())


def test_a_square_is_cut_in_two():
    square = Polygon(np.array([[0.0, 0, 1], [2, 0, 1], [2, 2, 1], [0, 2, 1]]))
    right = square.part(np.array([1.0, 0.0, -1.5]))
    assert right.corners.tolist() == [[1.5, 0, 1], [2, 0, 1], [2, 2, 1], [1.5, 2, 1]]
    assert area(torch.from_numpy(right.corners)) == 1 and right.point.tolist() == [1.75, 1, 1]
    assert square.part(np.array([1.0, 1.0, -2.0])).corners.tolist() == [[2, 0, 1], [2, 2, 1], [0, 2, 1]]


def test_slices_have_the_shape_of_inputs():
    with pytest.raises(ConfigError, match=r"must have the shape \(5,\) of an input, got \(4,\)"):
        restrict(mlp(5, 3, 1), torch.zeros(4), torch.zeros(2, 5))


def test_polygons_need_two_inputs():
    with pytest.raises(ConfigError, match="got one with 3. Take a slice"):
        polygons(enumerate_regions(mlp(3, 3, 1), box=(-1, 1)))
