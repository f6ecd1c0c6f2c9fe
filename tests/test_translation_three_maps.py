"""Pictures and tables of regions show what is there."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.network import activation_pattern
from hf_untangle.translation.three_layers.region_maps import plot_regions, slope_colors
from hf_untangle.translation.three_layers.restrictions import restrict
from hf_untangle.translation.three_layers.rules import decision_rules, rules_table


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def test_a_map_shows_every_region_in_its_place(tmp_path):
    regions = enumerate_regions(mlp(2, 6, 6, 1), (-3, 3))
    axes = plot_regions(regions, names=("left", "up"))
    (collection,) = axes.collections
    assert len(collection.get_paths()) == len(regions)
    for path, point in zip(collection.get_paths(), regions.points.numpy(), strict=True):
        assert path.contains_point(point)
    assert axes.get_xlabel() == "left" and axes.get_ylim() == (-3, 3)
    assert axes.get_title().startswith(f"{len(regions)} linear regions")
    axes.figure.savefig(tmp_path / "map.png")


def test_equal_slopes_have_equal_colors_and_flat_regions_are_nearly_white():
    colors = slope_colors(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    assert np.array_equal(colors[0], colors[1]) and not np.array_equal(colors[0], colors[2])
    assert colors[3] == pytest.approx([0.97] * 3)
    assert slope_colors(torch.zeros(2, 2)) == pytest.approx(0.97)


def test_data_is_drawn_by_class_on_axes_that_are_given():
    regions = enumerate_regions(mlp(2, 4, 1), (-3, 3))
    data = regions.box.sample(30)
    figure, axes = plt.subplots()
    assert plot_regions(regions, data, torch.arange(30) % 3, axes=axes) is axes
    assert [len(points.get_offsets()) for points in axes.collections[1:]] == [10, 10, 10]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 0", "class 1", "class 2"]
    plt.close(figure)


def test_data_without_classes_has_no_legend():
    axes = plot_regions(enumerate_regions(mlp(2, 4, 1), (-3, 3)), torch.zeros(5, 2))
    assert len(axes.collections) == 2 and axes.get_legend() is None


def test_a_slice_of_a_larger_network_is_drawn():
    plane = restrict(mlp(5, 8, 1), torch.zeros(5), torch.eye(5)[:2])
    assert plot_regions(enumerate_regions(plane, (-2, 2))).collections


def test_only_planes_are_drawn():
    with pytest.raises(ConfigError, match="Take a slice"):
        plot_regions(enumerate_regions(mlp(3, 4, 1), (-1, 1)))


def test_rules_are_sorted_by_the_data_they_decide_about():
    regions = enumerate_regions(mlp(2, 6, 6, 2), (-3, 3))
    data = torch.cat([regions.box.sample(300), torch.full((1, 2), 50.0)])
    rules = decision_rules(regions, data, most=5)
    counts = [rule.points for rule in rules]
    patterns = activation_pattern(regions.network, data)
    assert counts == sorted(counts, reverse=True) and len(rules) == 5
    for row in rules:
        assert row.points == (patterns == regions.patterns[row.region]).all(1).sum()
        torch.testing.assert_close(row.rule.model, regions.models[row.region], rtol=1e-12, atol=1e-14)


def test_without_data_all_regions_have_a_rule():
    regions = enumerate_regions(mlp(2, 3, 1), (-3, 3))
    rules = decision_rules(regions)
    assert [row.region for row in rules] == list(range(len(regions)))
    assert all(row.points is None for row in rules)


def test_a_table_by_hand():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    module[0].weight.data.fill_(2.0)
    regions = enumerate_regions(module, (-1, 1))
    table = rules_table(decision_rules(regions, torch.tensor([[0.5], [-0.5], [0.1]])), ["dose"], ["effect"])
    assert table.splitlines() == [
        "| region | points | while | the network computes |",
        "|---:|---:|---|---|",
        "| 0 | 2 | 2 dose > 0 | effect = 2 dose |",
        "| 1 | 1 | 2 dose <= 0 | effect = 0 |",
    ]
    assert "| 0 |  | always | y0 = " in rules_table(decision_rules(enumerate_regions(nn.Linear(1, 1), (0, 1))))
