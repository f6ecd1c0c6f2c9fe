"""Scaling neurons down instead of removing them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.commit import commit, keep_values
from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import matrix_of, neurons_read
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.errors import MaskError
from hf_untangle.masks.removal import check_in_memory

Factors = Mapping[str, Float[Tensor, " neuron"]]
"""What each neuron is multiplied by, by the name of its group."""


@checked_arguments
@contextmanager
def dampened(model: nn.Module, factors: Factors) -> Iterator[nn.Module]:
    """Multiply neurons by factors inside the `with` block; no weight is written to.

    Args:
        model: The model.
        factors: One factor per neuron; groups that are left out stay as they are.

    Yields:
        The same model.

    Raises:
        MaskError: The factors are not this model's.
    """
    _check(model, factors)
    with intercepted(model, {name: partial(_scale, values) for name, values in factors.items()}):
        yield model


@checked_arguments
@all_or_nothing
@torch.no_grad()
def dampen_(model: nn.Module | ModelName, factors: Factors, groups: tuple[NeuronGroup, ...]) -> nn.Module:
    """Multiply the columns that read neurons by factors. A dampened neuron is still computed, and can grow back.

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to. A name or path is loaded.
        factors: One factor per neuron; groups that are left out stay as they are.
        groups: The neuron groups of this model.

    Returns:
        The same model.

    Raises:
        MaskError: The factors are not this model's, or its weights cannot be edited.
    """
    model = opened(model)
    _check(model, factors)
    check_in_memory(model, groups)
    with commit() as undo:
        keep_values(undo, (matrix_of(model, name).parameter for name in factors))
        for name, values in factors.items():
            weight = matrix_of(model, name).weight
            weight.mul_(values.to(weight).view(len(weight), 1, -1))
        return model


def _check(model: nn.Module, factors: Factors) -> None:
    """Refuse factors of another model."""
    for name, values in factors.items():
        try:
            width = neurons_read(model, name)
        except AttributeError as error:
            raise MaskError(
                f"The factors have a group `{name}`, but this {type(model).__name__} has no such projection."
            ) from error
        if width != len(values):
            raise MaskError(f"There are {len(values)} factors for `{name}`, but this model has {width} neurons there.")


def _scale(factors: Float[Tensor, " neuron"], reading: Reading) -> Tensor:
    """Multiply the neurons that are about to be read."""
    return reading.values * factors[reading.neurons].to(reading.values)
