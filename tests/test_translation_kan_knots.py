"""Knots put in, taken out and shared, and the hinge form: other ways to write the same layer."""

import pytest
import torch
from torch import Tensor

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.kan_to_relu import hinge_form
from hf_untangle.translation.kan.knots import insert_knots, merge_knots, share_knots
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer


def layer_with(knots: int, own_knots: bool = False) -> PiecewiseLinearKANLayer:
    """A random layer of 4 input nodes and 3 output nodes."""
    torch.manual_seed(knots)
    shape = (3 if own_knots else 1, 4, knots)
    parts = torch.randn(shape).sort().values, torch.randn(3, 4, knots), torch.randn(3, 4), torch.randn(3, 4)
    return PiecewiseLinearKANLayer(*(part.double() for part in parts), bias=torch.randn(3).double())


def assert_same_function(layer: PiecewiseLinearKANLayer, other: PiecewiseLinearKANLayer) -> None:
    x = 4 * torch.randn(500, 4, dtype=torch.float64)
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("own_knots", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 4, 2), (3, 4, 2)])
def test_inserted_knots_change_nothing(own_knots: bool, shape: tuple[int, ...]):
    layer = layer_with(3, own_knots)
    more = insert_knots(layer, torch.randn(shape))
    assert more.knots.shape == (3 if own_knots or shape[0] == 3 else 1, 4, 3 + shape[2])
    assert_same_function(layer, more)


@pytest.mark.parametrize("own_knots", [False, True])
def test_merging_takes_out_exactly_what_was_inserted(own_knots: bool):
    layer = layer_with(3, own_knots)
    merged = merge_knots(insert_knots(layer, torch.tensor([[[-3.0, 0.2, 5.0]]])))
    assert torch.equal(merged.knots, layer.knots)
    assert torch.equal(merged.values, layer.values)


def test_a_straight_line_keeps_one_knot():
    slopes = torch.tensor([[2.0]])
    line = PiecewiseLinearKANLayer(torch.arange(4.0)[None, None], 2 * torch.arange(4.0)[None, None], slopes, slopes)
    assert merge_knots(line).knots.shape == (1, 1, 1)


def test_a_bend_goes_only_if_the_tolerance_allows_it():
    knots, values = torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0.0, 0.3, 0.0]]])
    flat = torch.zeros(1, 1)
    bump = PiecewiseLinearKANLayer(knots, values, flat, flat)  # without the middle knot it moves by 0.3
    assert merge_knots(bump, tolerance=0.29).knots.shape[-1] == 3
    assert merge_knots(bump, tolerance=0.31).knots.shape[-1] == 1


def test_merging_moves_a_smooth_edge_by_at_most_the_tolerance_for_each_knot():
    knots = torch.linspace(-3, 3, 61, dtype=torch.float64)[None, None]
    flat = torch.zeros(1, 1, dtype=torch.float64)
    wave = PiecewiseLinearKANLayer(knots, knots.sin(), flat, flat)
    merged = merge_knots(wave, tolerance=0.02)
    x = torch.linspace(-4, 4, 2001, dtype=torch.float64)[:, None]
    gone = 61 - merged.knots.shape[-1]
    assert gone > 30
    assert (merged(x) - wave(x)).abs().max() <= gone * 0.02


def test_sharing_knots_changes_nothing():
    layer = layer_with(3, own_knots=True)
    shared = share_knots(layer)
    assert shared.knots.shape == (1, 4, 9)
    assert_same_function(layer, shared)


def test_sharing_finds_the_knots_that_edges_have_in_common():
    """Node 0 has the knots 0, 1, 2 in all and node 1 only 0 and 5: a third is put where nothing bends."""
    knots = torch.tensor([[[0.0, 1], [0, 5]], [[0, 2], [0, 5]]])
    shared = share_knots(PiecewiseLinearKANLayer(knots, torch.ones(2, 2, 2), torch.zeros(2, 2), torch.ones(2, 2)))
    assert shared.knots[0].tolist() == [[0, 1, 2], [0, 5, 11]]
    assert shared.values[0, 1].tolist() == [1, 1, 7]


@pytest.mark.parametrize("knots", [1, 2, 7])
def test_the_hinge_form_is_the_same_function(knots: int):
    layer = layer_with(knots)
    x = 4 * torch.randn(500, 4, dtype=torch.float64)
    torch.testing.assert_close(hinge_form(layer)(x), layer(x), rtol=0, atol=1e-11)


def test_the_hinges_of_a_bump_by_hand():
    """Slopes 1, 2, -3: one hinge to the left, one to the right, and a bend of -5 at the second knot."""
    layer = PiecewiseLinearKANLayer(
        torch.tensor([[[0.0, 1.0]]]),
        torch.tensor([[[4.0, 6.0]]]),
        torch.tensor([[1.0]]),
        torch.tensor([[-3.0]]),
    )
    form = hinge_form(layer)
    assert form.weights.flatten().tolist() == [-1, 2, -5]
    assert form.constants.tolist() == [4]


def test_values_stay_accurate_where_hinges_cancel():
    """256 knots, slopes 255 up and down: the hinge form loses in float32 what values keep."""
    zigzag = (torch.arange(256, dtype=torch.float64) % 2)[None, None]
    flat = torch.zeros(1, 1, dtype=torch.float64)
    layer = PiecewiseLinearKANLayer(torch.linspace(0, 1, 256).double()[None, None], zigzag, flat, flat)
    x = torch.linspace(0, 1, 4001, dtype=torch.float32)[:, None]
    truth = layer(x.double())
    single = layer.float()
    by_values, by_hinges = ((form(x) - truth).abs().max() for form in (single, hinge_form(single)))
    assert by_values < 1e-4 < 1e-3 < by_hinges


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([float("inf")], "cannot be inserted. Knots must be finite"),
        ([7.0, 7.0], "cannot be inserted. Knots must increase strictly"),
    ],
)
def test_bad_knots_are_refused(new: list[float], message: str):
    with pytest.raises(TranslationError, match=message):
        insert_knots(layer_with(3), torch.tensor(new).reshape(1, 1, -1))


def test_own_knots_have_no_hinge_form():
    with pytest.raises(TranslationError, match="every edge has its own. Pass share_knots"):
        hinge_form(layer_with(2, own_knots=True))


def test_gradients_flow_through_the_hinge_form():
    layer = layer_with(3)
    loss: Tensor = hinge_form(layer)(torch.randn(5, 4, dtype=torch.float64)).sum()
    loss.backward()
    assert layer.values.grad is not None and layer.values.grad.abs().sum() > 0
