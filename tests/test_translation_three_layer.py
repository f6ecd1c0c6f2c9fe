"""Three layers over the extended reals are the network they were made from."""

import itertools
from inspect import unwrap

import pytest
import torch
from torch import nn

from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.translation.three_layers import enumeration
from hf_untangle.translation.three_layers import three_layer as forms
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.extended_network import ThreeLayerNetwork
from hf_untangle.translation.three_layers.gated_network import GatedNetwork
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.three_layer import as_three_layers, three_layer

BOX = (-3, 3)


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64, with larger weights than PyTorch's own."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for parameter in module.parameters():
        parameter.data.mul_(2)
    return module


def lattice_net() -> nn.Sequential:
    """A network of whole numbers: its boundaries run through whole-numbered points."""
    module = mlp(2, 4, 4, 2)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randint(-2, 3, parameter.shape))
    return module


def lattice() -> torch.Tensor:
    """All points of the box with whole-numbered coordinates."""
    return torch.tensor(list(itertools.product(range(-3, 4), repeat=2)), dtype=torch.float64)


def inside(count: int = 2000, inputs: int = 2) -> torch.Tensor:
    """Seeded points of the box."""
    return torch.rand(count, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 6 - 3


@pytest.mark.parametrize("form", ["halfopen", "closed", "gate"])
@pytest.mark.parametrize("widths", [(2, 7, 1), (2, 5, 5, 2), (3, 5, 4, 2), (2, 3, 3, 3, 1)])
def test_every_form_is_the_network(form, widths):
    module, x = mlp(*widths), inside(inputs=widths[0])
    shallow = three_layer(module, box=BOX, form=form)
    torch.testing.assert_close(shallow(x), module(x).detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", ["halfopen", "gate"])
def test_a_network_of_whole_numbers_is_reproduced_without_error_on_its_boundaries(form):
    module = lattice_net()
    assert torch.equal(three_layer(module, box=BOX, form=form)(lattice()), module(lattice()).detach())


def test_on_a_boundary_the_closed_form_counts_every_region_that_touches():
    module = lattice_net()
    closed = three_layer(module, box=BOX, form="closed")
    assert isinstance(closed, ThreeLayerNetwork)
    multiplicity = closed.multiplicity(lattice())
    assert multiplicity.max() > 2 and (multiplicity == 1).any()
    assert torch.equal(closed(lattice()), multiplicity[:, None] * module(lattice()).detach())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_exactly_one_region_fires_at_every_point(dtype):
    regions = enumerate_regions(mlp(2, 6, 6, 1), BOX)
    halfopen = as_three_layers(regions).to(dtype)
    assert isinstance(halfopen, ThreeLayerNetwork)
    on_boundaries = _points_on_boundaries(regions)
    for x in (inside(), lattice(), on_boundaries, inside() * 5):
        assert (halfopen.multiplicity(x) == 1).all()


def _points_on_boundaries(regions) -> torch.Tensor:
    """Points of the box moved onto the nearest boundary, as nearly as rounding allows."""
    x = inside(300)
    a, c = regions.boundaries[:, :-1], regions.boundaries[:, -1]
    distance = (x @ a.T + c) / a.square().sum(1)
    nearest = distance.abs().argmin(1)
    return x - distance.gather(1, nearest[:, None]) * a[nearest]


def test_the_forms_agree_on_the_region():
    regions = enumerate_regions(mlp(2, 6, 6, 2), BOX)
    x = inside()
    halfopen, gate = as_three_layers(regions), as_three_layers(regions, form="gate")
    assert isinstance(halfopen, ThreeLayerNetwork) and isinstance(gate, GatedNetwork)
    units = halfopen.units(x)
    assert torch.equal(units.flatten(2).sum(2).argmax(1), gate.region(x))
    assert torch.equal(gate.region(x), regions.locate(x))


@pytest.mark.parametrize("form", ["halfopen", "closed", "gate"])
def test_the_gradient_is_the_slope_of_the_network(form):
    module, x = mlp(2, 6, 6, 2), inside(50)
    shallow = three_layer(module, box=BOX, form=form)
    gradients = [torch.func.vmap(torch.func.jacrev(module))(x).detach()]
    for output in range(2):
        point = x.clone().requires_grad_()
        shallow(point)[:, output].sum().backward()
        torch.testing.assert_close(point.grad, gradients[0][:, output])


def test_three_layers_by_hand():
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU()).double()  # relu(x), so h = x
    module[0].weight.data.fill_(1.0)
    module[0].bias.data.zero_()
    shallow = three_layer(module, box=(-1, 1))
    assert isinstance(shallow, ThreeLayerNetwork)
    inf = torch.inf
    assert shallow.first.weight.tolist() == [[1], [1]]
    assert shallow.first.gain.tolist() == [-1, -inf] and shallow.first.offset.tolist() == [0, 1]
    # inputs of the second layer: relu(x), relu(h), relu(-x), relu(1 - inf h); regions: x > 0, then x <= 0
    assert shallow.second.weight.tolist() == [
        [1, 0, -1, -inf],
        [-1, 0, 1, -inf],
        [0, -inf, 0, 0],
        [0, -inf, 0, 0],
    ]
    assert shallow.third.weight.tolist() == [[1, -1, 1, -1]]
    assert shallow(torch.tensor([[-2.0], [0.0], [0.5]])).tolist() == [[0], [0], [0.5]]


@pytest.mark.parametrize("form", ["halfopen", "closed", "gate"])
def test_every_weight_has_exactly_one_role(form):
    shallow = three_layer(mlp(3, 4, 3, 2), box=BOX, form=form)
    covered = {name: torch.zeros(parameter.shape) for name, parameter in shallow.named_parameters()}
    for role in shallow.roles():
        block = (role.rows, role.columns)[: covered[role.parameter].ndim]
        covered[role.parameter][block] += 1
        assert role.meaning
    assert all((count == 1).all() for count in covered.values())


def test_only_membership_weights_of_the_second_layer_are_infinite():
    shallow = three_layer(mlp(3, 4, 3, 2), box=BOX)
    for role in shallow.roles():
        block = shallow.get_parameter(role.parameter)[(role.rows, role.columns)[: 1 + ("weight" in role.parameter)]]
        if role.parameter.startswith("second"):
            assert set(block.unique().tolist()) == {-torch.inf, 0.0} if role.role == "membership" else block.isfinite().all()


@pytest.mark.parametrize("form", ["halfopen", "closed", "gate"])
def test_three_layers_are_saved_and_loaded(form, tmp_path):
    module, x = mlp(2, 5, 3, 2), inside(100)
    shallow = three_layer(module, box=BOX, form=form)
    shallow.save_pretrained(tmp_path)
    loaded = type(shallow).from_pretrained(tmp_path)
    assert torch.equal(loaded(x), shallow(x))
    assert {path.name for path in tmp_path.iterdir()} >= {"model.safetensors", "config.json"}


@pytest.mark.slow
def test_two_processes_translate_to_the_same_weights():
    one, two = (three_layer(mlp(3, 6, 1), (-2, 2), processes=count).state_dict() for count in (1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one | two)


def test_shapes_of_inputs_and_outputs_are_kept():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU()).double()
    from_image = read_network(module, (1, 2, 3))
    x = torch.rand(5, 1, 2, 3, dtype=torch.float64) - 0.5
    for form in ("halfopen", "gate"):
        y = three_layer(from_image, box=(-1, 1), form=form)(x)
        torch.testing.assert_close(y, module(x).detach())


def test_a_network_without_regions_to_tell_apart_is_one_affine_map():
    module, x = nn.Linear(2, 3).double(), inside(10)
    for form in ("halfopen", "closed", "gate"):
        torch.testing.assert_close(three_layer(module, box=BOX, form=form)(x), module(x).detach())


def test_too_many_regions_are_refused_with_an_estimate():
    with pytest.raises(BudgetError, match=r"The search stopped at max_regions. About 13\d linear regions are expected"):
        three_layer(mlp(2, 8, 8, 1), box=BOX, max_regions=20)


def test_hopelessly_many_regions_are_refused_before_the_search(monkeypatch):
    monkeypatch.setattr(enumeration, "enumerate_regions", lambda *_, **__: pytest.fail("the search was started"))
    with pytest.raises(BudgetError, match=r"linear regions are expected in this box; max_regions is 1\."):
        three_layer(mlp(3, 12, 12, 1), box=BOX, max_regions=1)


def test_regions_that_do_not_cover_the_box_are_refused():
    part = enumerate_regions(mlp(2, 6, 1), BOX, max_regions=3)
    with pytest.raises(ConfigError, match="stopped at max_regions, so they do not cover the box"):
        as_three_layers(part)


def test_a_second_layer_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(forms, "MAX_WEIGHTS", 100)
    with pytest.raises(BudgetError, match="Use form='gate'"):
        three_layer(mlp(2, 6, 1), box=BOX)
    assert isinstance(three_layer(mlp(2, 6, 1), box=BOX, form="gate"), GatedNetwork)


def test_an_unknown_form_is_refused():
    untyped = unwrap(three_layer)  # the tests check types too
    with pytest.raises(ConfigError, match="form must be one of halfopen, closed, gate, got 'open'"):
        untyped(mlp(2, 3, 1), box=BOX, form="open")
