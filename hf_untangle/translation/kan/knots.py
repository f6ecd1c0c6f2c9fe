"""More knots, fewer knots, common knots: other ways to write down the same functions.

A knot where the slope does not change says nothing, so it can be put in or taken out as one likes: put in, it
is a new degree of freedom for training; taken out, it is one neuron less in the ReLU network that the layer
translates to.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.piecewise_linear import fault_of_knots, hat_basis
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer


@checked_arguments
@torch.no_grad()
def insert_knots(layer: PiecewiseLinearKANLayer, new: Float[Tensor, "#output #input new"]) -> PiecewiseLinearKANLayer:
    """Add knots without changing a function: each takes the value that its edge has there.

    Args:
        layer: The layer to refine.
        new: Where to put knots, in any order; a first or second axis of size 1 means everywhere the same.

    Returns:
        A new layer. Its knots are shared if they were, and the first axis of `new` has size 1.

    Raises:
        TranslationError: If a new knot is not finite, or there is one at the same place already.
    """
    owners = max(len(layer.knots), len(new))
    old = layer.knots.expand(owners, -1, -1)
    knots = torch.cat([old, new.to(old).expand(owners, layer.in_features, -1)], -1).sort().values
    if fault := fault_of_knots(knots):
        raise TranslationError(f"These knots cannot be inserted. {fault}")
    return _rewritten(layer, knots)


@checked_arguments
@torch.no_grad()
def merge_knots(layer: PiecewiseLinearKANLayer, tolerance: float | None = None) -> PiecewiseLinearKANLayer:
    """Take out knots where next to nothing bends.

    One by one, the knot goes whose removal moves an edge least, as long as that is at most `tolerance`: with
    the bend d = s_m - s_(m-1) and the gaps g and h to its neighbors, |d| g h / (g + h), or |d| g for the
    first and the last knot. All input nodes (all edges, when knots are not shared) keep equally many knots,
    so all must have one to spare. What stays keeps its value, and the end slopes stay.

    Args:
        layer: The layer to simplify.
        tolerance: How far an edge may move, at most, with every knot taken out; the default is the rounding
            level of the values.

    Returns:
        A new layer with at least one knot.
    """
    if tolerance is None:
        tolerance = 16 * torch.finfo(layer.values.dtype).eps * layer.values.abs().max().item()
    while layer.knots.shape[-1] > 1:
        harm, least = _harm_of_removal(layer).min(-1)
        if harm.max() > tolerance:
            break
        layer = _without(layer, least)
    return layer


@checked_arguments
@torch.no_grad()
def share_knots(layer: PiecewiseLinearKANLayer) -> PiecewiseLinearKANLayer:
    """Give all edges that leave one input node the same knots: the union of their own.

    The layer grows to at most `output` times as many knots. In exchange, a forward pass is made of matrix
    products, and the layer translates to a ReLU network with one set of neurons for each input node.

    Args:
        layer: The layer, with knots of any kind.

    Returns:
        A layer with shared knots; the same one if they are shared already.
    """
    if layer.knots_are_shared:
        return layer
    unions = [layer.knots[:, i].unique() for i in range(layer.in_features)]
    return _rewritten(layer, pad_knots(unions).unsqueeze(0))


def pad_knots(rows: list[Float[Tensor, " _"]]) -> Float[Tensor, "row knot"]:
    """Make rows of knots equally long, with knots behind the last one, where nothing bends.

    Args:
        rows: Increasing knots, a row for every input node.

    Returns:
        The rows; the added knots are apart by 1 plus the size of the last, so that any precision tells them
        apart.
    """
    longest = max(len(row) for row in rows)
    return torch.stack([_padded(row, longest) for row in rows])


def _rewritten(layer: PiecewiseLinearKANLayer, knots: Tensor) -> PiecewiseLinearKANLayer:
    """The same functions on other knots, which must include all places where they bend."""
    below, hats, above = hat_basis(knots.movedim(-1, 0), layer.knots)
    values = below * layer.left_slopes + (hats * layer.values).sum(-1) + above * layer.right_slopes
    values = values.movedim(0, -1)
    return PiecewiseLinearKANLayer(knots, values, layer.left_slopes, layer.right_slopes, layer.bias)


def _harm_of_removal(layer: PiecewiseLinearKANLayer) -> Float[Tensor, "#output input knot"]:
    """How far the removal of each knot would move the function (of all edges that share it, the worst)."""
    gaps = layer.knots.diff()
    left, right = gaps[..., :-1], gaps[..., 1:]
    reach = torch.cat([gaps[..., :1], left * right / (left + right), gaps[..., -1:]], -1)
    harm = layer.slopes.diff().abs() * reach
    return harm.amax(0, keepdim=True) if layer.knots_are_shared else harm


def _without(layer: PiecewiseLinearKANLayer, gone: Tensor) -> PiecewiseLinearKANLayer:
    """The layer without one knot of every edge, whose index is `gone` (1 or output, input)."""
    kept = torch.ones_like(layer.knots, dtype=torch.bool).scatter(-1, gone.unsqueeze(-1), False)
    knots = layer.knots[kept].reshape(*layer.knots.shape[:2], -1)
    values = layer.values[kept.expand_as(layer.values)].reshape(*layer.values.shape[:2], -1)
    return PiecewiseLinearKANLayer(knots, values, layer.left_slopes, layer.right_slopes, layer.bias)


def _padded(row: Tensor, length: int) -> Tensor:
    """One row of knots, prolonged."""
    behind = torch.arange(1, length - len(row) + 1).to(row)
    return torch.cat([row, row[-1] + (1 + row[-1].abs()) * behind])
