"""Holding removed neurons at zero while weights change, those of an adapter included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.adapters import low_rank_factors, model_below
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import bias_of, matrix_of, weight_of
from hf_untangle.masks.mask import NeuronMask

EVERYTHING = slice(None)


@dataclass(frozen=True, eq=False)
class Held:
    """Those entries of one parameter that belong to removed neurons."""

    parameter: Tensor
    """The parameter itself."""
    entries: tuple[Any, ...]
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
    by_name = {group.name: group for group in groups}
    held: list[Held] = []
    for name, kept in mask.items():
        if not kept.all():
            held += _columns(below, name, (~kept).nonzero().flatten())
            for producer in by_name[name].producers:
                held += _rows(below, producer.name, producer.rows_needed_by_none(kept))
    return held


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


def _columns(model: nn.Module, name: str, neurons: Int[Tensor, " n"]) -> Iterator[Held]:
    """What reads some neurons."""
    matrix = matrix_of(model, name)
    expert, column = _split(neurons, matrix.parameter, width=matrix.weight.shape[2])
    entries = (expert, column, EVERYTHING) if matrix.transposed else (expert, EVERYTHING, column)
    yield Held(matrix.parameter, entries[3 - matrix.parameter.ndim :])
    for factor in low_rank_factors(model, name, "lora_A"):
        yield Held(weight_of(factor), (EVERYTHING, neurons.to(weight_of(factor).device)))


def _rows(model: nn.Module, name: str, rows: Int[Tensor, " n"]) -> Iterator[Held]:
    """What computes some outputs."""
    matrix = matrix_of(model, name)
    expert, row = _split(rows, matrix.parameter, width=matrix.weight.shape[1])
    entries = (expert, EVERYTHING, row) if matrix.transposed else (expert, row, EVERYTHING)
    yield Held(matrix.parameter, entries[3 - matrix.parameter.ndim :])
    if matrix.bias_parameter is not None:
        yield Held(matrix.bias_parameter, (expert, row)[2 - matrix.bias_parameter.ndim :])
    for factor in low_rank_factors(model, name, "lora_B"):
        yield Held(weight_of(factor), (rows.to(weight_of(factor).device),))
        if (bias := bias_of(factor)) is not None:
            yield Held(bias, (rows.to(bias.device),))


def _split(numbers: Int[Tensor, " n"], parameter: Tensor, *, width: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Split numbers that count through all experts into the expert and the number in it."""
    numbers = numbers.to(parameter.device)
    return numbers // width, numbers % width
