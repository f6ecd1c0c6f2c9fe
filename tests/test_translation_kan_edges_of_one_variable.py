"""A piecewise linear function of one variable: what every edge of a KAN is."""

import numpy as np
import pytest
import torch

from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear, fault_of_knots, hat_basis


def tent() -> PiecewiseLinear:
    """Slope -1 up to 0, up to 3 at 1, down to 0 at 4, flat after."""
    return PiecewiseLinear(torch.tensor([0.0, 1, 4]), torch.tensor([1.0, 3, 0]), torch.tensor(-1.0), torch.tensor(0.0))


def test_the_hats_sum_to_one_everywhere():
    knots = torch.randn(9, dtype=torch.float64).sort().values
    _, hats, _ = hat_basis(torch.linspace(-5, 5, 101, dtype=torch.float64), knots)
    torch.testing.assert_close(hats.sum(-1), torch.ones(101, dtype=torch.float64))


def test_at_most_two_hats_are_not_zero():
    knots = torch.tensor([-1.0, -0.5, 0.25, 2.0])
    _, hats, _ = hat_basis(torch.linspace(-3, 3, 101), knots)
    assert int((hats != 0).sum(-1).max()) == 2


def test_a_function_takes_its_values_at_its_knots_to_the_last_bit():
    knots = torch.randn(20).sort().values
    edge = PiecewiseLinear(knots, torch.randn(20), torch.tensor(0.3), torch.tensor(-2.0))
    assert torch.equal(edge(knots), edge.values)


def test_the_tent_by_hand():
    x = torch.tensor([-2.0, 0, 0.5, 1, 2.5, 4, 9])
    assert tent()(x).tolist() == [3, 1, 2, 3, 1.5, 0, 0]


def test_the_slopes_of_the_tent_by_hand():
    assert tent().slopes.tolist() == [-1, 2, -1, 0]


def test_a_straight_line_has_one_knot_and_one_slope():
    line = PiecewiseLinear(torch.zeros(1), torch.zeros(1), torch.tensor(3.0), torch.tensor(3.0))
    assert line(torch.tensor([-2.0, 5.0])).tolist() == [-6, 15]
    assert line.slopes.tolist() == [3, 3]


def test_between_the_knots_it_is_numpys_interpolation():
    torch.manual_seed(0)
    knots = torch.randn(12, dtype=torch.float64).sort().values
    values = torch.randn(12, dtype=torch.float64)
    edge = PiecewiseLinear(knots, values, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))
    x = torch.linspace(-4, 4, 1001, dtype=torch.float64)
    reference = np.interp(x.numpy(), knots.numpy(), values.numpy())
    np.testing.assert_allclose(edge(x).numpy(), reference, atol=1e-13)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ([], "at least one knot"),
        ([0.0, float("inf")], "must be finite"),
        ([0.0, 0.0], "must increase strictly, but one step here is 0"),
        ([1.0, 0.5], "must increase strictly, but one step here is -0.5"),
    ],
)
def test_knots_that_define_no_segments_are_refused(knots: list[float], message: str):
    assert message in str(fault_of_knots(torch.tensor(knots)))
