"""What a record says about where its numbers come from."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version

import torch
from torch import nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.unlearning import GroupCount


def counts(groups: Iterable[NeuronGroup], mask: NeuronMask) -> tuple[GroupCount, ...]:
    """Count the removed neurons of every group.

    Args:
        groups: The neuron groups of a model.
        mask: Which neurons stay.

    Returns:
        A count for each group.
    """
    return tuple(
        GroupCount(
            name=group.name,
            kind=group.kind,
            layer=group.layer,
            removed=int((~mask[group.name]).sum()),
            neurons=group.size,
        )
        for group in groups
    )


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    packages = ("torch", "transformers", "datasets", "hf-untangle")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def device_name(model: nn.Module) -> str:
    """What a model runs on, in words.

    Args:
        model: The model.

    Returns:
        The GPU, or the processor with its threads.
    """
    device = input_device(model)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
