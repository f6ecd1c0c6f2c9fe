"""Every part of a model's parameters that belongs to removed neurons, those of an adapter included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.adapters import model_below
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import bias_of, input_axis, weight_of
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask


@dataclass(frozen=True, eq=False)
class Slice:
    """Some rows, columns or entries of one parameter."""

    parameter: Tensor
    """The parameter itself."""
    axis: int
    """The axis that is cut."""
    index: Int[Tensor, " entry"]
    """Where along that axis, on the parameter's device."""


def removed_slices(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> list[Slice]:
    """List everything that belongs to removed neurons: the columns that read them, the rows and biases that compute them.

    A low-rank adapter (LoRA, arXiv:2106.09685) adds B A to a weight, with A of shape [rank, input] and B of shape
    [output, rank]. A column of the sum is zero when that column of A is, and a row when that row of B is, whatever the other
    factor holds; so these belong to a removed neuron too.

    Args:
        model: The model, with an adapter of peft or without.
        mask: Which neurons stay.
        groups: The neuron groups of the model below the adapter.

    Returns:
        The slices, which hold the parameters themselves.

    Raises:
        MaskError: The mask is not this model's, or an adapter is of another kind than LoRA.
    """
    below = model_below(model)
    mask.check_fits(groups, str(below.name_or_path))
    by_name = {group.name: group for group in groups}
    slices: list[Slice] = []
    for name, kept in mask.items():
        if not kept.all():
            slices += _columns(below.get_submodule(name), name, (~kept).nonzero().flatten())
            for producer in by_name[name].producers:
                slices += _rows(below.get_submodule(producer.name), producer.name, producer.rows_needed_by_none(kept))
    return slices


@torch.no_grad()
def zero_weights_(slices: Sequence[Slice]) -> None:
    """Set some slices to zero.

    Args:
        slices: The slices, whose parameters are changed in place.
    """
    for each in slices:
        each.parameter.index_fill_(each.axis, each.index, 0)


@torch.no_grad()
def zero_gradients_(slices: Sequence[Slice]) -> None:
    """Set the gradients of some slices to zero, where there are any.

    Args:
        slices: The slices, the gradients of whose parameters are changed in place.
    """
    for each in slices:
        if each.parameter.grad is not None:
            each.parameter.grad.index_fill_(each.axis, each.index, 0)


def _columns(projection: nn.Module, name: str, neurons: Int[Tensor, " entry"]) -> Iterator[Slice]:
    """What reads some neurons."""
    plain = getattr(projection, "base_layer", projection)
    yield _slice(weight_of(plain), input_axis(plain), neurons)
    for factor in _factors(projection, "lora_A", name):
        yield _slice(weight_of(factor), 1, neurons)


def _rows(projection: nn.Module, name: str, rows: Int[Tensor, " entry"]) -> Iterator[Slice]:
    """What computes some outputs."""
    plain = getattr(projection, "base_layer", projection)
    yield _slice(weight_of(plain), 1 - input_axis(plain), rows)
    for layer in (plain, *_factors(projection, "lora_B", name)):
        if layer is not plain:
            yield _slice(weight_of(layer), 0, rows)
        if (bias := bias_of(layer)) is not None:
            yield _slice(bias, 0, rows)


def _factors(projection: nn.Module, which: str, name: str) -> list[nn.Module]:
    """One factor of every low-rank adapter on a projection."""
    if not hasattr(projection, "base_layer"):
        return []
    # DoRA divides each row by its norm, and that of a removed row is zero.
    if not hasattr(projection, which) or len(getattr(projection, "lora_magnitude_vector", {})):
        raise MaskError(
            f"Removed neurons can be held at zero under LoRA adapters alone, but `{name}` carries a "
            f"{type(projection).__module__.split('.')[-2]} layer of another form. Use `LoraConfig` without DoRA."
        )
    return list(cast(Any, getattr(projection, which)).values())


def _slice(parameter: Tensor, axis: int, index: Int[Tensor, " entry"]) -> Slice:
    """Put a slice together, its index on the parameter's device."""
    return Slice(parameter, axis, index.to(parameter.device))
