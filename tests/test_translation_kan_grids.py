"""Layers of spline KANs read as piecewise linear layers, and written as such."""

from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from hf_untangle.errors import ConfigError, TranslationError
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer
from hf_untangle.translation.kan.spline_import import export_grid, import_spline_layer
from hf_untangle.translation.kan.spline_kans import b_splines, read_spline_layer

INPUTS, OUTPUTS, INTERVALS = 3, 2, 5


def grid_of(order: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    nodes = torch.arange(-order, INTERVALS + order + 1, dtype=torch.float64) * (high - low) / INTERVALS + low
    return nodes.expand(INPUTS, -1).contiguous()


def efficient_kan(order: int, base: object, scaler: bool = True) -> SimpleNamespace:
    """A stand-in with the attributes of a KANLinear."""
    torch.manual_seed(order)
    layer = SimpleNamespace(grid=grid_of(order), spline_order=order, base_activation=base)
    layer.spline_weight = torch.randn(OUTPUTS, INPUTS, INTERVALS + order, dtype=torch.float64)
    layer.base_weight = torch.randn(OUTPUTS, INPUTS, dtype=torch.float64)
    if scaler:
        layer.spline_scaler = torch.randn(OUTPUTS, INPUTS, dtype=torch.float64)
    return layer


def pykan(order: int, base: object) -> SimpleNamespace:
    """A stand-in with the attributes of a KANLayer."""
    torch.manual_seed(order)
    layer = SimpleNamespace(grid=grid_of(order), k=order, base_fun=base)
    layer.coef = torch.randn(INPUTS, OUTPUTS, INTERVALS + order, dtype=torch.float64)
    layer.scale_base, layer.scale_sp = torch.randn(2, INPUTS, OUTPUTS, dtype=torch.float64)
    layer.mask = torch.tensor([[1.0, 0.0]] * INPUTS, dtype=torch.float64)
    return layer


def de_boor(x: float, b: int, order: int, grid: list[float]) -> float:
    """One B-spline at one point, straight from its definition."""
    if order == 0:
        return float(grid[b] <= x < grid[b + 1])
    fade_in = (x - grid[b]) / (grid[b + order] - grid[b])
    fade_out = (grid[b + order + 1] - x) / (grid[b + order + 1] - grid[b + 1])
    return fade_in * de_boor(x, b, order - 1, grid) + fade_out * de_boor(x, b + 1, order - 1, grid)


def edge_of_efficient_kan(layer: SimpleNamespace, j: int, i: int, x: Tensor) -> Tensor:
    scale = layer.spline_scaler[j, i] if hasattr(layer, "spline_scaler") else 1
    splines = b_splines(x[None], layer.grid[i : i + 1], layer.spline_order)[0] @ layer.spline_weight[j, i]
    return scale * splines + layer.base_weight[j, i] * layer.base_activation(x)


def inside(order: int) -> Tensor:
    grid = grid_of(order)[0]
    return torch.linspace(grid[0].item(), grid[-1].item() - 1e-9, 301, dtype=torch.float64)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_b_splines_are_those_of_the_definition(order: int):
    grid, x = (
        torch.randn(1, 9, dtype=torch.float64).sort().values,
        torch.linspace(-2, 2, 21, dtype=torch.float64),
    )
    basis = b_splines(x[None], grid, order)[0]
    expected = [[de_boor(p, b, order, grid[0].tolist()) for b in range(8 - order)] for p in x.tolist()]
    torch.testing.assert_close(basis, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("base", [nn.Identity(), nn.ReLU(), torch.zeros_like], ids=["identity", "relu", "zeros"])
@pytest.mark.parametrize("scaler", [True, False])
def test_order_one_with_a_straight_base_is_read_exactly(base: object, scaler: bool):
    spline = efficient_kan(1, base, scaler)
    imported = import_spline_layer(spline)
    x = torch.linspace(-5, 5, 401, dtype=torch.float64)  # beyond the grid, too
    expected = edge_of_efficient_kan(spline, 1, 2, x)
    torch.testing.assert_close(imported.layer.edge(1, 2)(x), expected, rtol=0, atol=1e-12)
    assert not imported.error_bound.any()


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("base", [nn.SiLU(), nn.GELU(), torch.tanh, nn.ReLU()], ids=["SiLU", "GELU", "tanh", "ReLU"])
def test_curves_are_sampled_within_the_bound(order: int, base: object):
    spline, x = efficient_kan(order, base), inside(order)
    imported = import_spline_layer(spline, pieces=4)
    for j in range(OUTPUTS):
        for i in range(INPUTS):
            error = (imported.layer.edge(j, i)(x) - edge_of_efficient_kan(spline, j, i, x)).abs().max()
            assert error <= imported.error_bound[j, i] + 1e-12


def test_the_bound_is_not_far_off():
    """The error of a cubic spline is a good part of its bound, which falls with the square of the pieces."""
    spline, x = efficient_kan(3, nn.SiLU()), inside(3)
    coarse, fine = (import_spline_layer(spline, pieces) for pieces in (8, 16))
    error = (coarse.layer.edge(0, 0)(x) - edge_of_efficient_kan(spline, 0, 0, x)).abs().max()
    assert error > coarse.error_bound[0, 0] / 10
    torch.testing.assert_close(fine.error_bound * 4, coarse.error_bound)


def test_a_layer_of_pykan_is_read_with_its_scales_and_its_mask():
    spline = pykan(1, lambda x: x)
    layer = import_spline_layer(spline).layer
    x = torch.linspace(-0.9, 0.9, 50, dtype=torch.float64)
    hats = b_splines(x.expand(INPUTS, -1), spline.grid, 1)[2]
    expected = spline.scale_sp[2, 0] * (hats @ spline.coef[2, 0]) + spline.scale_base[2, 0] * x
    torch.testing.assert_close(layer.edge(0, 2)(x), expected)
    assert not layer.edge(1, 2)(x).any()


def test_a_kink_on_a_node_that_float32_rounds_is_not_doubled():
    spline = efficient_kan(1, nn.ReLU())
    spline.grid = spline.grid.float().double() + 1e-9
    spline.grid[:, 3] = 1e-9
    assert import_spline_layer(spline).layer.knots.shape[-1] == INTERVALS + 3


@pytest.mark.parametrize("library", ["pykan", "efficient-kan"])
@pytest.mark.parametrize("bias", [True, False])
def test_an_exported_layer_is_the_same_within_its_range(library: str, bias: bool):
    torch.manual_seed(0)
    layer = random_kan_layer(INPUTS, OUTPUTS, torch.tensor([-1.0, 0.2, 0.9, 2.0]).double())
    if bias:
        nn.init.normal_(layer.bias)
    else:
        layer.register_parameter("bias", None)
    state = export_grid(layer, -3.0, 4.0, library)
    names = {"spline_order": 1, "k": 1, "base_activation": nn.SiLU(), "base_fun": nn.SiLU()}
    spline = read_spline_layer(SimpleNamespace(**state, **names))
    x = torch.linspace(-3, 4, 200, dtype=torch.float64)
    sums = spline(x.expand(INPUTS, -1)).sum(1).T
    torch.testing.assert_close(sums, layer(x.unsqueeze(-1).expand(-1, INPUTS)), rtol=0, atol=1e-12)


def test_an_exported_layer_comes_back():
    torch.manual_seed(0)
    layer = random_kan_layer(INPUTS, OUTPUTS, torch.tensor([-1.0, 0.2, 0.9]).double())
    state = export_grid(layer, -3.0, 4.0, "efficient-kan")
    spline = SimpleNamespace(**state, spline_order=1, base_activation=nn.SiLU())
    x = torch.rand(100, INPUTS, dtype=torch.float64) * 7 - 3
    torch.testing.assert_close(import_spline_layer(spline).layer(x), layer(x), rtol=0, atol=1e-12)


def test_an_exported_grid_has_the_shapes_of_its_library():
    layer = random_kan_layer(INPUTS, OUTPUTS, torch.arange(4.0))
    intervals = 4 + 2 - 1
    shapes = {name: tuple(part.shape) for name, part in export_grid(layer, -1.0, 9.0, "pykan").items()}
    edges = (INPUTS, OUTPUTS)
    assert shapes == {
        "grid": (INPUTS, intervals + 3),
        "coef": (*edges, intervals + 1),
        "scale_sp": edges,
        "scale_base": edges,
        "mask": edges,
    }


def changed(**parts: object) -> SimpleNamespace:
    layer = efficient_kan(1, nn.Identity())
    for name, part in parts.items():
        setattr(layer, name, part)
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(2, 2), "Linear is no spline layer: it should have grid, spline_weight"),
        (changed(base_activation=torch.sin), "The base function .* is not among zero, identity"),
        (changed(grid=grid_of(1).flip(-1)), "The grid of a spline layer must increase strictly"),
        (changed(spline_order=0), "A spline of order 0 jumps at its nodes"),
    ],
)
def test_what_cannot_be_read_is_refused(layer: object, message: str):
    with pytest.raises(TranslationError, match=message):
        import_spline_layer(layer)


def test_no_pieces_are_refused():
    with pytest.raises(ConfigError, match="at least 1 straight piece between two nodes, got pieces=0"):
        import_spline_layer(efficient_kan(3, nn.SiLU()), pieces=0)


def test_a_range_that_cuts_knots_off_is_refused():
    with pytest.raises(ConfigError, match="must hold all knots, from 0 to 3; got -1 to 2"):
        export_grid(random_kan_layer(2, 2, torch.arange(4.0)), -1.0, 2.0, "pykan")


def test_unknown_libraries_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # to see what a user sees
    with pytest.raises(ConfigError, match="exported to pykan, efficient-kan; got 'kanvas'"):
        export_grid(random_kan_layer(2, 2, torch.arange(4.0)), -1.0, 9.0, "kanvas")  # pyright: ignore[reportArgumentType]
