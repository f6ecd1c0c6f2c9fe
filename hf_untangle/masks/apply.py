"""Trying a mask out: neurons are silenced by hooks, and no weight is written to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.architecture.projections import input_width
from hf_untangle.errors import MaskError
from hf_untangle.masks.fill import Constants
from hf_untangle.masks.mask import NeuronMask


@contextmanager
def masked(model: nn.Module, mask: NeuronMask, *, fill: Constants | None = None) -> Iterator[nn.Module]:
    """Silence the masked-out neurons of a model inside the `with` block, or hold each of them at a constant.

    The weights are never written to, so leaving the block restores the model exactly.

    Args:
        model: The model to mask.
        mask: Which neurons stay.
        fill: The value that each neuron reads while it is masked out, by group; zero when None.

    Yields:
        The same model.

    Raises:
        MaskError: The mask was made for another model.
    """
    with ExitStack() as hooks:
        for name, kept in mask.items():
            projection = output_projection(model, name, kept, mask.model)
            if not kept.all():
                values = None if fill is None else fill[name]
                hooks.callback(projection.register_forward_pre_hook(partial(_silence, kept, values)).remove)
        yield model


def output_projection(model: nn.Module, name: str, kept: Bool[Tensor, " neuron"], made_for: str) -> nn.Module:
    """Find the projection that reads a group of neurons, and check that it is as wide as the mask says.

    Args:
        model: The model.
        name: Path of the projection.
        kept: The mask's vector for it.
        made_for: The model that the mask was made for, for the message.

    Returns:
        The projection.

    Raises:
        MaskError: There is no such projection, or it has another width.
    """
    try:
        projection = model.get_submodule(name)
    except AttributeError as error:
        raise MaskError(
            f"The mask was made for `{made_for}`, but this {type(model).__name__} has no projection `{name}`. "
            "Use the mask with its own model."
        ) from error
    width = input_width(projection)
    if width != len(kept):
        raise MaskError(
            f"The mask has {len(kept)} neurons for `{name}`, but this model has {width}. Was it made for another size of "
            "the model?"
        )
    return projection


def _silence(
    kept: Bool[Tensor, " neuron"], values: Float[Tensor, " neuron"] | None, _: nn.Module, args: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Set the neurons that do not stay to zero, or to their values."""
    neurons, *rest = args
    if values is None:
        return (neurons.masked_fill(~kept.to(neurons.device), 0), *rest)
    return (torch.where(kept.to(neurons.device), neurons, values.to(neurons)), *rest)
