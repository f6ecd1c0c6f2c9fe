"""Arithmetic over the extended reals keeps its rules."""

import itertools
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_untangle.errors import TranslationError
from hf_untangle.translation.three_layers.extended_network import (
    ExtendedLinear,
    TwoSidedLinear,
    extended_linear,
    extended_product,
)

VALUES = [-math.inf, -2.0, 0.0, 3.0, math.inf]


def product(a: float, b: float) -> float:
    """The rule for one product."""
    return 0.0 if a == 0 or b == 0 else a * b


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_finite_maps_are_ordinary_maps():
    torch.manual_seed(0)
    a, weight, bias = torch.randn(7, 4), torch.randn(3, 4), torch.randn(3)
    assert torch.equal(extended_linear(a, weight, bias), torch.nn.functional.linear(a, weight, bias))


def test_every_sum_of_two_products_follows_the_rules():
    for a, b, c, d in itertools.product(VALUES, repeat=4):
        expected = product(a, c) + product(b, d)
        if math.isnan(expected):
            with pytest.raises(TranslationError, match="inf and -inf meet in output 0 at point 0"):
                extended_linear(vector(a, b)[None], vector(c, d)[None], vector(0.0))
        else:
            result = extended_linear(vector(a, b)[None], vector(c, d)[None], vector(0.0))
            assert result.item() == expected, (a, b, c, d)


def test_an_infinite_bias_decides():
    a, weight = vector(1.0)[None], vector(2.0)[None]
    assert extended_linear(a, weight, vector(-math.inf)).item() == -math.inf
    with pytest.raises(TranslationError, match="inf and -inf meet"):
        extended_linear(a, weight * math.inf, vector(-math.inf))


def test_nan_is_passed_on():
    assert extended_linear(vector(math.nan, 1.0)[None], vector(1.0, 1.0)[None], vector(0.0)).isnan().all()


def test_a_gain_multiplies_the_finished_sum():
    gain, h = vector(-math.inf, -math.inf, -math.inf, -1.0), vector(2.0, 0.0, -2.0, 5.0)[None]
    assert extended_product(gain, h).tolist() == [[-math.inf, 0.0, math.inf, -5.0]]


def test_gradients_pass_through_finite_gains_and_stop_at_infinite_ones():
    h = vector(2.0, 0.0, 5.0)[None].requires_grad_()
    extended_product(vector(-math.inf, -math.inf, -3.0), h).sum().backward()
    assert h.grad is not None and h.grad.tolist() == [[0.0, 0.0, -3.0]]


def test_two_sides_of_one_row_by_hand():
    layer = TwoSidedLinear(2, 2)
    layer.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    layer.gain.copy_(vector(-1.0, -math.inf))
    layer.offset.copy_(vector(0.0, 1.0))
    x = torch.tensor([[3.0, 1.0], [2.0, -2.0], [-1.0, -1.0]], dtype=torch.float64)
    assert layer(x).tolist() == [[2, 4, -2, -math.inf], [4, 0, -4, 1], [0, -2, 0, math.inf]]


def test_infinite_weights_survive_safetensors(tmp_path):
    layer, other = ExtendedLinear(2, 2), ExtendedLinear(2, 2)
    layer.weight.copy_(torch.tensor([[-math.inf, 1.0], [0.0, math.inf]]))
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    other.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert torch.equal(layer.weight, other.weight)


def test_infinite_weights_are_not_trained():
    assert not any(p.requires_grad for p in [*ExtendedLinear(2, 2).parameters(), *TwoSidedLinear(2, 2).parameters()])
