"""Trying a mask out: neurons are silenced while the model runs, and no weight is written to."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.projections import neurons_read
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.errors import MaskError
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.models import name_and_revision


@checked_arguments
@contextmanager
def masked(model: nn.Module | ModelName, mask: NeuronMask, *, constants: Constants | None = None) -> Iterator[nn.Module]:
    """Silence the masked-out neurons of a model inside the `with` block, or hold each of them at a constant.

    The weights are never written to, so leaving the block restores the model exactly.

    Args:
        model: The model to mask. A name or path is loaded.
        mask: Which neurons stay.
        constants: The value that each neuron reads while it is masked out, by group; zero when None or left
            out. A mask of a run with another ablation than zero must be given them, or `{}`.

    Yields:
        The same model.

    Raises:
        MaskError: The mask was made for another model, or another revision of it, or needs constants.
    """
    model = opened(model)
    below = model_below(model)
    mask.check_revision(*name_and_revision(below))
    mask.check_constants(constants)
    for name, kept in mask.items():
        check_width(below, name, kept, mask.model)
    values = constants or {}
    silencers = {name: partial(_silence, kept, values.get(name)) for name, kept in mask.items() if not kept.all()}
    with intercepted(model, silencers):
        yield model


def check_width(model: nn.Module, name: str, kept: Bool[Tensor, " neuron"], made_for: str) -> None:
    """Check that a model reads as many neurons as a mask has for one of its output projections.

    Args:
        model: The model.
        name: Path of the projection.
        kept: The mask's vector for it.
        made_for: The model that the mask was made for, for the message.

    Raises:
        MaskError: There is no such projection, or it has another width.
    """
    try:
        width = neurons_read(model, name)
    except AttributeError as error:
        raise MaskError(
            f"The mask was made for `{made_for}`, but this {type(model).__name__} has no projection `{name}`. "
            "Use the mask with its own model."
        ) from error
    if width != len(kept):
        raise MaskError(
            f"The mask has {len(kept)} neurons for `{name}`, but this model has {width}. Was it made for another size of "
            "the model?"
        )


def _silence(kept: Bool[Tensor, " neuron"], values: Float[Tensor, " neuron"] | None, reading: Reading) -> Tensor:
    """Set the neurons that do not stay to zero, or to their values."""
    stays = kept[reading.neurons].to(reading.values.device)
    if values is None:
        return reading.values.masked_fill(~stays, 0)
    return torch.where(stays, reading.values, values[reading.neurons].to(reading.values))
