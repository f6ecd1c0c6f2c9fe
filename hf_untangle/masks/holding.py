"""Holding removed neurons at zero while weights change, those of an adapter included."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.adapters import model_below
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import bias_of, weight_of
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import Slice, removed_slices


def held_slices(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> list[Slice]:
    """List everything that belongs to removed neurons: in the weights, and in a low-rank adapter on them.

    LoRA (arXiv:2106.09685) adds B A to a weight, with A of shape [rank, input] and B of shape [output, rank]. A column of the
    sum is zero when that column of A is, and a row when that row of B is, whatever the other factor holds; so these belong
    to a removed neuron too.

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
    mask.check_fits(groups, str(getattr(below, "name_or_path", type(below).__name__)))
    return [*removed_slices(below, mask, groups), *_adapter_slices(below, mask, groups)]


@torch.no_grad()
def zero_weights_(slices: Sequence[Slice]) -> None:
    """Set some slices to zero.

    Args:
        slices: The slices, whose parameters are changed in place.
    """
    for each in slices:
        each.tensor.index_fill_(each.axis, each.index, 0)


@torch.no_grad()
def zero_gradients_(slices: Sequence[Slice]) -> None:
    """Set the gradients of some slices to zero, where there are any.

    Args:
        slices: The slices, the gradients of whose parameters are changed in place.
    """
    for each in slices:
        if each.tensor.grad is not None:
            each.tensor.grad.index_fill_(each.axis, each.index, 0)


def all_zero(slices: Sequence[Slice]) -> bool:
    """Tell whether some slices are exactly zero.

    Args:
        slices: The slices.

    Returns:
        True when every weight in them is.
    """
    return not any(bool(each.tensor.index_select(each.axis, each.index).any()) for each in slices)


def _adapter_slices(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> Iterator[Slice]:
    """What adapters have of removed neurons: columns of A where they are read, rows of B where they are computed."""
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        if kept.all():
            continue
        for factor in _factors(model.get_submodule(name), "lora_A", name):
            yield _slice(name, weight_of(factor), 1, (~kept).nonzero().flatten())
        for producer in by_name[name].producers:
            rows = producer.rows_needed_by_none(kept)
            for factor in _factors(model.get_submodule(producer.name), "lora_B", producer.name):
                yield _slice(producer.name, weight_of(factor), 0, rows)
                if (bias := bias_of(factor)) is not None:
                    yield _slice(producer.name, bias, 0, rows)


def _factors(projection: nn.Module, which: str, name: str) -> list[nn.Module]:
    """One factor of every low-rank adapter on a projection; none where it carries no adapter."""
    if not hasattr(projection, "base_layer"):
        return []
    # DoRA divides each row by its norm, and that of a removed row is zero.
    if not hasattr(projection, which) or len(getattr(projection, "lora_magnitude_vector", {})):
        raise MaskError(
            f"Removed neurons can be held at zero under LoRA adapters alone, but `{name}` carries a "
            f"{type(projection).__module__.split('.')[-2]} layer of another form. Use `LoraConfig` without DoRA."
        )
    return list(cast(Any, getattr(projection, which)).values())


def _slice(projection: str, tensor: Tensor, axis: int, index: Int[Tensor, " index"]) -> Slice:
    """A part of a factor of the adapter on a projection."""
    return Slice(f"{projection} (adapter)", tensor, axis, index.to(tensor.device))
