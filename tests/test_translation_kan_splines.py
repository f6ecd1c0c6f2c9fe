"""The layer of a KAN with piecewise linear edges."""

import jaxtyping
import pytest
import torch
from torch import Tensor

from hf_untangle.errors import ArgumentError, TranslationError
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer, random_kan_layer


def layer_with(own_knots: bool = False, dtype: torch.dtype = torch.float64) -> PiecewiseLinearKANLayer:
    """A random layer of 4 input nodes, 3 output nodes and 6 knots."""
    torch.manual_seed(0)
    knots = torch.randn(3 if own_knots else 1, 4, 6).sort().values
    parts = knots, torch.randn(3, 4, 6), torch.randn(3, 4), torch.randn(3, 4), torch.randn(3)
    return PiecewiseLinearKANLayer(*(part.to(dtype) for part in parts))


def points(dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("own_knots", [False, True])
def test_an_output_node_is_the_sum_of_its_edges(own_knots: bool):
    layer, x = layer_with(own_knots), points()
    by_edge = [sum(layer.edge(j, i)(x[..., i]) for i in range(4)) + layer.bias[j] for j in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(by_edge, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("own_knots", [False, True])
def test_edge_outputs_are_the_edges(own_knots: bool):
    layer, x = layer_with(own_knots), points()
    torch.testing.assert_close(layer.edge_outputs(x)[..., 2, 1], layer.edge(2, 1)(x[..., 1]))


def test_shared_knots_equal_own_knots_that_are_the_same():
    shared, x = layer_with(), points()
    own = PiecewiseLinearKANLayer(shared.knots.expand(3, -1, -1), *shared.parameters())
    torch.testing.assert_close(own(x), shared(x), rtol=0, atol=1e-12)


def test_two_edges_by_hand():
    layer = PiecewiseLinearKANLayer(
        knots=torch.tensor([[[0.0, 1.0], [0.0, 2.0]]]),
        values=torch.tensor([[[0.0, 5.0], [1.0, 1.0]]]),  # 0 to 5 over one unit; constant 1 over two units
        left_slopes=torch.tensor([[0.0, -1.0]]),
        right_slopes=torch.tensor([[10.0, 0.0]]),
        bias=torch.tensor([100.0]),
    )
    x = torch.tensor([[0.5, 1.0], [2.0, 9.0], [-1.0, -3.0]])
    assert layer(x).flatten().tolist() == [2.5 + 1 + 100, 15 + 1 + 100, 0 + 4 + 100]


def test_slopes_are_those_of_the_edges():
    layer = layer_with(own_knots=True)
    torch.testing.assert_close(layer.slopes[1, 3], layer.edge(1, 3).slopes)


def test_gradients_are_right():
    layer, x = layer_with(), points()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *parameters: layer(x), (x, *layer.parameters()))


def test_a_layer_learns_the_absolute_value_of_a_sum_of_squares():
    torch.manual_seed(0)
    layer = random_kan_layer(2, 1, torch.linspace(-1, 1, 9))
    x = torch.rand(512, 2) * 2 - 1
    y = (x**2).sum(-1, keepdim=True)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3 < y.var().item() / 100


def test_knots_are_not_trained():
    assert [name for name, _ in layer_with().named_parameters()] == [
        "values",
        "left_slopes",
        "right_slopes",
        "bias",
    ]


def test_a_state_dict_brings_a_layer_back():
    layer, x = layer_with(), points()
    other = random_kan_layer(4, 3, torch.arange(6, dtype=torch.float64))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
def test_lower_precisions_compute_the_same_function(dtype: torch.dtype, tolerance: float):
    layer, x = layer_with(dtype=dtype), points(dtype)
    assert layer(x).dtype == dtype
    torch.testing.assert_close(layer(x).double(), layer.double()(x.double()), rtol=tolerance, atol=tolerance)


def test_a_layer_without_bias_adds_nothing():
    layer = layer_with()
    plain = PiecewiseLinearKANLayer(layer.knots, layer.values, layer.left_slopes, layer.right_slopes)
    torch.testing.assert_close(plain(points()) + layer.bias, layer(points()))


def test_random_layers_repeat_with_their_generator():
    make = lambda: random_kan_layer(5, 2, torch.arange(3.0), torch.Generator().manual_seed(4))  # noqa: E731
    assert torch.equal(make().values, make().values)


COMPILED = """
import torch
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer
layer, x = random_kan_layer(4, 3, torch.arange(5.0)), torch.randn(7, 4)
compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
assert torch.equal(compiled(x), layer(x))
compiled(x).sum().backward()
assert layer.values.grad is not None
"""


def test_a_layer_compiles_without_graph_breaks(forked, tmp_path):
    """In a process of its own, because the shape checks of this test run cannot be traced."""
    (tmp_path / "compiled.py").write_text(COMPILED)
    done = forked(tmp_path, "compiled.py")
    assert done.returncode == 0, done.stderr


def refused(message: str, **changed: Tensor) -> None:
    layer = layer_with()
    parts = dict(layer.named_parameters()) | {"knots": layer.knots} | changed
    with pytest.raises((TranslationError, ArgumentError), match=message):
        PiecewiseLinearKANLayer(**parts)


def test_bad_parts_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # to see what a user sees
    layer = layer_with()
    refused("must increase strictly", knots=layer.knots.flip(-1))
    refused(
        r"`knots` .* must be a tensor of .* \[output, input, knot\], got a tensor of float64 \[4, 6\]", knots=layer.knots[0]
    )
    refused(r"`left_slopes` .* whose `output` is 3, as it is in `values`, got .* \[4, 3\]", left_slopes=layer.left_slopes.T)
    refused(r"need bias of shape \(3,\), got \(4,\)|`bias` .* whose `output` is 3, .* got .* \[4\]", bias=torch.zeros(4))
    refused("one dtype, got torch.float32, torch.float64", values=layer.values.float())
    refused("right_slopes hold an infinity or a NaN|`right_slopes` .* NaN", right_slopes=layer.right_slopes / 0)
