"""Giving projections a bias where the model's own configuration knows one, so that any library loads it again."""

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.commit import commit
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.architecture.quantized import has_codes
from hf_untangle.architecture.sharding import comes_and_goes
from hf_untangle.errors import ArchitectureError


def check_biases(model: nn.Module, names: Collection[str]) -> None:
    """Refuse projections that have no bias and cannot have one.

    Args:
        model: The model.
        names: Paths of the projections.

    Raises:
        ArchitectureError: One of them has no bias, and no switch of the configuration would give it one, or the model
            is offloaded, sharded or quantized.
    """
    missing = _without_bias(model, names)
    impossible = sorted(missing - _new_biases(model, _switches(model, missing)))
    if impossible:
        raise ArchitectureError(
            f"`{impossible[0]}` must have a bias to hold the mean of removed neurons, but {type(model).__name__} has none "
            "there and its configuration knows no switch for one. Use ablation='zero', or "
            "the mask alone with `masked(..., constants=)`."
        )
    if missing and (comes_and_goes(model) or any(map(has_codes, model.parameters()))):
        raise ArchitectureError(
            f"`{min(missing)}` must have a bias to hold the mean of removed neurons, but no bias can be made in a model that "
            "is offloaded, sharded or quantized. Use ablation='zero', or load the model whole."
        )


@torch.no_grad()
def add_biases_(model: nn.Module, names: Collection[str]) -> None:
    """Give projections a bias of zeros where they have none, and switch it on in the configuration.

    A switch such as `mlp_bias` gives a bias to other projections too: they get zeros, which change nothing.

    Args:
        model: The model, changed in place; what it computes stays the same.
        names: Paths of the projections.
    """
    check_biases(model, names)
    switches = _switches(model, _without_bias(model, names))
    new = sorted(_new_biases(model, switches))
    with commit() as undo:
        for name in new:
            weight = matrix_of(model, name).parameter
            zeros = weight.new_zeros(matrix_of(model, name).weight.shape[1])
            undo.callback(setattr, model.get_submodule(name), "bias", None)
            model.get_submodule(name).bias = nn.Parameter(zeros, requires_grad=weight.requires_grad)
        for switch in switches:
            undo.callback(setattr, model.config, switch, getattr(model.config, switch))
            setattr(model.config, switch, True)


def _without_bias(model: nn.Module, names: Collection[str]) -> set[str]:
    """The projections that have no bias."""
    return {name for name in names if matrix_of(model, name).bias is None}


def _switches(model: nn.Module, wanted: Collection[str]) -> list[str]:
    """The settings that are off and would give any of these projections a bias, and nothing but biases to the model."""
    if not wanted or not isinstance(model, PreTrainedModel):
        return []
    off = [name for name, value in model.config.to_dict().items() if "bias" in name and value is False]
    return [name for name in off if _new_biases(model, [name]) & set(wanted)]


def _new_biases(model: nn.Module, switches: Collection[str]) -> set[str]:
    """The projections that a model without weights has a bias at once some settings are switched on; none if more changes."""
    if not switches:
        return set()
    config = deepcopy(model.config)
    for switch in switches:
        setattr(config, switch, True)
    with torch.device("meta"):
        twin = type(model)(config)
    own, other = dict(model.named_parameters()), dict(twin.named_parameters())
    new = other.keys() - own.keys()
    same = all(name in other and other[name].shape == own[name].shape for name in own)
    return {name.removesuffix(".bias") for name in new} if same and all(name.endswith(".bias") for name in new) else set()
