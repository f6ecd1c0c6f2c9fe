"""Mixtures of experts whose weights lie in one tensor for all experts: what they are, and how one expert computes."""

from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

READS = "down_proj"
"""What experts call the parameter that reads their neurons."""
UNREGISTERED = ("LongcatFlashExperts", "Step3p7Experts", "Llama4TextExperts")
"""Classes of experts that transformers' interface for experts does not know, but that are built the same."""


def is_experts(module: nn.Module) -> bool:
    """Tell whether a module holds the projections of all its experts in one tensor each, and lets us compute them.

    Args:
        module: Any module.

    Returns:
        True for fused experts.
    """
    reads = getattr(module, READS, None)
    return (
        isinstance(reads, nn.Parameter) and reads.ndim == 3 and (is_registered(module) or type(module).__name__ in UNREGISTERED)
    )


def is_registered(module: nn.Module) -> bool:
    """Tell whether transformers lets the model's configuration choose how these experts are computed.

    Args:
        module: A module that may hold experts.

    Returns:
        True when its interface for experts knows the module.
    """
    return hasattr(module, "is_transposed")


def experts_of(model: nn.Module, name: str) -> nn.Module | None:
    """Find the experts that a neuron group's name speaks of.

    Args:
        model: The model.
        name: Path of an output projection.

    Returns:
        The module that holds the experts; None when the name is that of an ordinary projection.

    Raises:
        AttributeError: The model has nothing of that name.
    """
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    if leaf == READS and is_experts(module):
        return module
    model.get_submodule(name)
    return None


def activated(experts: nn.Module, projected: Float[Tensor, "token row"]) -> Float[Tensor, "token neuron"]:
    """Compute neurons from the rows of the projection before them.

    Args:
        experts: The module that holds the experts.
        projected: What the gate and up projections, or the up projection alone, of one expert wrote.

    Returns:
        The expert's neurons.
    """
    module = cast(Any, experts)
    if hasattr(module, "_apply_gate") and getattr(module, "has_gate", True):
        return module._apply_gate(projected)
    if not hasattr(module, "gate_up_proj"):
        return module.act_fn(projected)
    gate, up = projected.chunk(2, dim=-1)
    return module.act_fn(gate) * up


def producer_of(experts: nn.Module) -> str:
    """The parameter whose rows compute the neurons.

    Args:
        experts: The module that holds the experts.

    Returns:
        Its name in the module.
    """
    return "gate_up_proj" if hasattr(experts, "gate_up_proj") else "up_proj"
