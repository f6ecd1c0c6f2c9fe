"""Gradients of the neurons of a mask alone, for training loops that are not ours."""

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods.writes import WRITES, Permission, mask_targets


def localize_(model: PreTrainedModel, neurons: NeuronMask) -> None:
    """Let gradients reach what reads and computes some neurons, and nothing else.

    Adam and SGD without weight decay leave an entry without gradient exactly as it is.

    Args:
        model: The model: parameters without such neurons need no gradient any more, others have a hook.
        neurons: A mask that removes the neurons which may be written.
    """
    groups = neuron_groups(model)
    with ExitStack() as nothing:
        written = WRITES["neurons"](model, Permission(groups, neurons=neurons), nothing)
    model.requires_grad_(False)
    for part in written.parts:
        part.parameter.requires_grad_(True)
        if part.entries is not None:
            part.parameter.register_hook(_only(part.entries))


def _only(entries: Bool[Tensor, "..."]) -> Any:
    """Zero the gradient of all other entries."""

    def masked(gradient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.where(entries.to(gradient.device), gradient, 0)

    return masked


def check_targets(model: PreTrainedModel, neurons: NeuronMask, peft_config: Any, weight_decay: float) -> None:
    """Refuse an adapter on modules that a mask does not name, and weight decay, which writes to all weights.

    Args:
        model: The model below the adapter.
        neurons: A mask that removes the neurons which may be written.
        peft_config: The adapter's configuration, where there is one.
        weight_decay: Of the optimizer.

    Raises:
        ConfigError: Something else than the neurons would be written to.
    """
    groups = neuron_groups(model)
    neurons.check_fits(groups, str(model.name_or_path))
    if weight_decay:
        raise ConfigError(
            f"With `neurons`, weight_decay must be 0, got {weight_decay:g}, which writes to all weights. Leave it out."
        )
    if peft_config is None:
        return
    targets = peft_config.target_modules
    if not isinstance(targets, list | set | tuple):
        raise ConfigError(f"With `neurons`, an adapter must name its modules, got target_modules={targets!r}. Name them.")
    list(mask_targets(model, Permission(groups, neurons=neurons, modules=tuple(targets))))
