"""Pictures of KANs."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.pictures import plot_edges, plot_network
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer


def kan() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(random_kan_layer(3, 2, torch.linspace(-1, 1, 5)), ActivationKANLayer(nn.Linear(2, 1), nn.GELU()))


def test_small_multiples_have_a_plot_for_every_edge():
    figure = plot_edges(kan()[0], torch.randn(50, 3), outputs=[1], inputs=[0, 2])
    plots = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_xlabel() for axes in plots] == ["input 0", "input 2"]
    assert plots[0].get_ylabel() == "output 1"


def test_a_drawn_edge_is_the_function():
    layer, x = kan()[0], torch.randn(50, 3)
    plot = next(axes for axes in plot_edges(layer, x, [1], [2]).axes if axes.lines)
    knots, curve = plot.lines
    for line in (knots, curve):
        points, heights = (torch.tensor(line.get_data()[axis]).float() for axis in (0, 1))
        torch.testing.assert_close(layer.edge(1, 2)(points), heights)
    assert len(knots.get_xdata()) == 5
    assert curve.get_xdata()[0] == pytest.approx(x[:, 2].min().item())


def test_a_network_has_a_box_for_every_edge():
    figure = plot_network(kan(), torch.randn(50, 3))
    assert len(figure.axes[0].child_axes) == 3 * 2 + 2 * 1


def test_the_strongest_edge_is_the_darkest():
    layer = ActivationKANLayer(nn.Linear(2, 1), nn.Identity())
    layer.weight.data = torch.tensor([[0.0, 1.0]])
    shades = [line.get_color() for line in plot_network(layer, torch.randn(50, 2)).axes[0].lines]
    assert shades == ["0.85", "0.0"]


def test_pictures_can_be_saved(tmp_path: Path):
    plot_edges(kan()[0], torch.randn(9, 3), [0, 1], [0, 1, 2]).savefig(tmp_path / "edges.png", dpi=40)
    assert (tmp_path / "edges.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("outputs", [[], [0] * 401])
def test_too_many_edges_are_refused(outputs: list[int]):
    with pytest.raises(ConfigError, match=f"A picture shows 1 to 400 edges, got {len(outputs)}. Choose the strong"):
        plot_edges(kan()[0], torch.randn(9, 3), outputs, [0])
    with pytest.raises(ConfigError, match="got 1000"):
        plot_network(ActivationKANLayer(nn.Linear(100, 10), nn.ReLU()), torch.randn(9, 100))
