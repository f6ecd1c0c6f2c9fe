"""Any ReLU network as three layers over the extended reals, in which every weight has a known role.

A ReLU network is affine on each of its linear regions: y = slope . x + intercept wherever the region's tests
hold, and each test is the sign of a row h(x) that regions share (`regions.Regions`). Three layers say the
same:

    first   the two sides of every input, relu(x) and relu(-x), and of every row: relu(h), which is above 0
            exactly where h is, and a unit for the opposite side of h;
    second  for each region, output and sign one unit relu(+-(slope . x + intercept) - inf * violated tests),
            which is 0 outside the region;
    third   the sum over the regions of the positive units minus the negative ones.

The unit for the opposite side makes the form. In the closed form it is relu(-h), which is 0 at h = 0: a
point on a boundary belongs to all regions that touch it there, and the output is f(x) times their number.
In the half-open form it is relu(1 - inf h), which is 1 at h = 0: at every point exactly one region fires.

The theorem is in arXiv 2306.11827; this construction of the weights is our own.
"""

import math
from typing import Literal, get_args

import torch
from torch import nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.translation.same_function import check_same_function
from hf_untangle.translation.three_layers.boxes import Bounds
from hf_untangle.translation.three_layers.enumeration import all_regions
from hf_untangle.translation.three_layers.extended_network import ExtendedLinear, ThreeLayerNetwork, TwoSidedLinear
from hf_untangle.translation.three_layers.gated_network import GatedNetwork, gated_network
from hf_untangle.translation.three_layers.network import ReluNetwork
from hf_untangle.translation.three_layers.regions import Regions

Form = Literal["halfopen", "closed", "gate"]

OPPOSITE_SIDE = {"halfopen": (-torch.inf, 1.0), "closed": (-1.0, 0.0)}
"""The unit for the opposite side of a boundary h is relu(offset + gain * h): its gain and its offset."""

SIGNS = torch.tensor([1.0, -1.0], dtype=torch.float64)
"""A value passes a ReLU as its positive part and its negative part."""

MAX_WEIGHTS = 2**28
"""Largest second layer that is made, in weights: 2 GiB in float64."""

POINTS = 8
"""At how many random points of the box the layers are compared with the network."""


@checked_arguments
def three_layer(
    network: nn.Module | ReluNetwork,
    box: Bounds,
    *,
    form: Form = "halfopen",
    max_regions: int = 100_000,
    max_seconds: float = math.inf,
    processes: int = 1,
    progress: bool = False,
) -> ThreeLayerNetwork | GatedNetwork:
    """Translate a ReLU network into three layers that compute the same function in a box.

    Args:
        network: The network, or a module that `read_network` can read.
        box: The lower and the upper corner.
        form: "halfopen" is right at every point, boundaries included; "closed" has finite first weights
            and is right off the boundaries; "gate" has no infinities, is the fastest, and has gradients.
        max_regions: The most regions to translate.
        max_seconds: The longest time to look for regions.
        processes: How many processes look for them.
        progress: Show a progress bar.

    Returns:
        The three layers, in float64. `roles()` says what each weight is for.

    Raises:
        BudgetError: The network has too many regions in the box for these limits.
    """
    _check_form(form)
    regions = all_regions(
        network,
        box,
        max_regions=max_regions,
        max_seconds=max_seconds,
        processes=processes,
        progress=progress,
    )
    return as_three_layers(regions, form)


@checked_arguments
def as_three_layers(regions: Regions, form: Form = "halfopen") -> ThreeLayerNetwork | GatedNetwork:
    """Write known linear regions as three layers.

    Args:
        regions: All regions of a network in a box.
        form: As for `three_layer`.

    Returns:
        The three layers, in float64.

    Raises:
        ConfigError: There is no such form, or the regions do not cover their box.
        TranslationError: At a random point of the box they differ from the network.
    """
    _check_form(form)
    if not regions.complete:
        raise ConfigError(
            f"The search for these {len(regions)} regions stopped at {regions.stopped}, so they do not cover "
            "the box. Raise the limit, or take a smaller box."
        )
    layers = gated_network(regions) if form == "gate" else _extended_network(regions, *OPPOSITE_SIDE[form])
    check_same_function(regions.network, layers, regions.box.sample(POINTS).reshape(POINTS, *regions.network.input_shape))
    return layers


def _extended_network(regions: Regions, gain: float, offset: float) -> ThreeLayerNetwork:
    """Write regions as three layers with a given unit for the opposite side of boundaries."""
    _check_size(regions)
    shapes = list(regions.network.input_shape), list(regions.network.output_shape)
    layers = ThreeLayerNetwork(*shapes, boundaries=len(regions.boundaries), regions=len(regions))
    _fill_first(layers.first, regions, gain, offset)
    _fill_second(layers.second, regions)
    _fill_third(layers.third, regions)
    return layers


def _fill_first(layer: TwoSidedLinear, regions: Regions, gain: float, offset: float) -> None:
    """Look at both sides of the inputs and of the boundaries."""
    inputs, boundaries = regions.network.inputs, len(regions.boundaries)
    layer.weight.copy_(torch.cat([torch.eye(inputs), regions.boundaries[:, :-1]]))
    layer.bias.copy_(torch.cat([torch.zeros(inputs), regions.boundaries[:, -1]]))
    layer.gain.copy_(torch.cat([-torch.ones(inputs), torch.full((boundaries,), gain)]))
    layer.offset.copy_(torch.cat([torch.zeros(inputs), torch.full((boundaries,), offset)]))


def _fill_second(layer: ExtendedLinear, regions: Regions) -> None:
    """Compute each region's local model, and silence it by -inf where one of its tests is violated."""
    models = regions.models[:, :, None] * SIGNS[:, None]  # region, output, sign, coordinate
    slopes, intercepts = models[..., :-1], models[..., -1]
    membership = regions.membership()[:, None, None].expand(*intercepts.shape, -1)
    where_positive = torch.where(membership < 0, -torch.inf, 0.0)
    elsewhere = torch.where(membership > 0, -torch.inf, 0.0)
    layer.weight.copy_(torch.cat([slopes, where_positive, -slopes, elsewhere], dim=-1).flatten(0, 2))
    layer.bias.copy_(intercepts.flatten())


def _fill_third(layer: ExtendedLinear, regions: Regions) -> None:
    """Add up the positive units of each output, and subtract the negative ones."""
    same_output = torch.eye(regions.network.outputs)[:, None, :, None]
    layer.weight.copy_((same_output * SIGNS).expand(-1, len(regions), -1, -1).flatten(1))


def _check_form(form: str) -> None:
    """Refuse an unknown form before anything is searched."""
    if form not in get_args(Form):
        raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}.")


def _check_size(regions: Regions) -> None:
    """Refuse a second layer that would not fit into memory."""
    boundaries = len(regions.boundaries)
    size = 4 * len(regions) * regions.network.outputs * (regions.network.inputs + boundaries)
    if size > MAX_WEIGHTS:
        raise BudgetError(
            f"{len(regions)} regions with {boundaries} boundaries need a second layer of {size:.1e} weights, "
            f"and at most {MAX_WEIGHTS:.1e} are made. Use form='gate' or a smaller box."
        )
