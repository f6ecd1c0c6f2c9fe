"""Routers: what chooses the experts that a token is sent to."""

from collections.abc import Iterator

from torch import Tensor, nn

from hf_untangle.architecture.moe import experts_of
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import ArchitectureError


def routed_groups(model: nn.Module, groups: tuple[NeuronGroup, ...]) -> list[NeuronGroup]:
    """List the groups whose experts lie in one tensor each, so that single ones can be taken out.

    Args:
        model: The model.
        groups: Its neuron groups.

    Returns:
        One group for each layer with such experts.
    """
    return [group for group in groups if (group.experts or 0) > 1 and experts_of(model, group.name) is not None]


def router_of(model: nn.Module, group: NeuronGroup) -> str:
    """Find the module that scores the experts of a layer: beside them, with a matrix of one row per expert.

    Args:
        model: The model.
        group: The neurons of the experts.

    Returns:
        Its path.

    Raises:
        ArchitectureError: There is none, or more than one.
    """
    found = {
        name.rpartition(".")[0]
        for name, one in beside_experts(model, group)
        if isinstance(one, nn.Parameter) and one.ndim == 2 and one.shape[0] == group.experts
    }
    if len(found) != 1:
        raise ArchitectureError(
            f"A layer with experts must have one router, a matrix with a row for each of the {group.experts} experts, but "
            f"beside `{group.name}` are {len(found)}. Take neurons out of its experts instead (unit='neurons')."
        )
    return found.pop()


def beside_experts(model: nn.Module, group: NeuronGroup) -> Iterator[tuple[str, Tensor]]:
    """List what lies beside the experts of a layer and has one number, or one row, per expert.

    Args:
        model: The model.
        group: The neurons of the experts.

    Yields:
        Names and tensors: parameters and buffers.
    """
    experts = group.name.rpartition(".")[0]
    block = experts.rpartition(".")[0]
    for owner in model.get_submodule(block).named_modules(prefix=block):
        path, module = owner
        if path == experts or path.startswith(f"{experts}."):
            continue
        for name, one in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if one.ndim and one.shape[0] == group.experts:
                yield f"{path}.{name}", one
