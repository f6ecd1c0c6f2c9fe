"""Holding removed neurons at zero while weights change, those of an adapter included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_untangle.architecture.adapters import low_rank_factors, model_below
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import Index
from hf_untangle.architecture.projections import bias_of, weight_of
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of


@dataclass(frozen=True, eq=False)
class Held:
    """Those entries of one parameter that belong to removed neurons."""

    parameter: Tensor
    """The parameter itself."""
    entries: Index
    """What to index it with."""


def held_parameters(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> list[Held]:
    """List everything that belongs to removed neurons: in the weights, and in a low-rank adapter on them.

    LoRA (arXiv:2106.09685) adds B A to a weight, with A of shape [rank, input] and B of shape [output, rank]. A column of the
    sum is zero when that column of A is, and a row when that row of B is, whatever the other factor holds; so these belong
    to a removed neuron too.

    Args:
        model: The model, with an adapter of peft or without.
        mask: Which neurons stay.
        groups: The neuron groups of the model below the adapter.

    Returns:
        The entries, with the parameters themselves.

    Raises:
        MaskError: The mask is not this model's, or an adapter is of another kind than LoRA.
    """
    below = model_below(model)
    mask.check_fits(groups, str(getattr(below, "name_or_path", type(below).__name__)))
    weights = [Held(below.get_parameter(name), index) for name, index in zeros_of(below, mask, groups)]
    return [*weights, *_factors(below, mask, groups)]


@torch.no_grad()
def zero_weights_(held: Sequence[Held]) -> None:
    """Set some entries to zero.

    Args:
        held: The entries, whose parameters are changed in place.
    """
    for each in held:
        each.parameter[each.entries] = 0


@torch.no_grad()
def zero_gradients_(held: Sequence[Held]) -> None:
    """Set the gradients of some entries to zero, where there are any.

    Args:
        held: The entries, the gradients of whose parameters are changed in place.
    """
    for each in held:
        if each.parameter.grad is not None:
            each.parameter.grad[each.entries] = 0


def all_zero(held: Sequence[Held]) -> bool:
    """Tell whether some entries are exactly zero.

    Args:
        held: The entries.

    Returns:
        True when every one is.
    """
    return not any(bool(each.parameter[each.entries].any()) for each in held)


def _factors(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> Iterator[Held]:
    """What adapters have of removed neurons: columns of A where they are read, rows of B where they are computed."""
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        if kept.all():
            continue
        for reads in low_rank_factors(model, name, "lora_A"):
            yield Held(weight_of(reads), (slice(None), (~kept).nonzero().flatten()))
        for producer in by_name[name].producers:
            rows = producer.rows_needed_by_none(kept)
            for writes in low_rank_factors(model, producer.name, "lora_B"):
                yield Held(weight_of(writes), (rows,))
                if (bias := bias_of(writes)) is not None:
                    yield Held(bias, (rows,))
