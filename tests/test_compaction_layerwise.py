"""Layers of two models, each compared on the input that it has in the first."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from hf_untangle.compaction.compare_layers import distance, led_layers, noted_layers


class Chaos(nn.Module):
    """A layer that makes small differences large."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, states: Tensor) -> tuple[Tensor, str]:
        return torch.sin(20 * self.project(states)), "something else"


class Stack(nn.Module):
    def __init__(self, depth: int):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Chaos() for _ in range(depth))

    def forward(self, states: Tensor) -> Tensor:
        for layer in self.layers:
            states, rest = layer(states)
            assert rest == "something else"
        return states


def compared(one: nn.Module, other: nn.Module) -> tuple[list[float], float]:
    """The distances of layers and end, led, and that of the end alone."""
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with noted_layers(one) as notes:
            expected = one(inputs)
        free = distance(other(inputs), expected)
        with led_layers(other, notes) as distances:
            distances.append(distance(other(inputs), expected))
    return distances, free


def test_rounding_does_not_grow_from_layer_to_layer():
    one = Stack(depth=12)
    other = deepcopy(one)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1 + 1e-5)
    distances, free = compared(one, other)
    assert len(distances) == 13
    assert max(distances) < 1e-3
    assert free > 0.5


def test_a_layer_that_computes_something_else_stands_out_alone():
    one = Stack(depth=4)
    other = deepcopy(one)
    with torch.no_grad():
        other.layers[2].project.bias.add_(1)
    distances, _ = compared(one, other)
    assert [value > 0.1 for value in distances] == [False, False, True, False, False]


def test_no_hook_is_left_where_the_models_do_not_fit():
    one, other = Stack(depth=2), Stack(depth=3)
    with pytest.raises(KeyError):
        compared(one, other)
    assert not any(module._forward_hooks for model in (one, other) for module in model.modules())


def test_the_distance_of_zeros_is_zero():
    assert distance(torch.zeros(3), torch.zeros(3)) == 0.0
    assert distance(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)
