"""What modules and configurations state about themselves: how many heads there are, and how wide the residual stream is."""

from collections.abc import Iterable
from typing import Any

from torch import nn

HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_q_heads")
"""What modules and configurations call the number of query heads."""


def stated_heads(model: nn.Module, projection: str) -> int | None:
    """Look for the number of heads in the modules around an output projection, the innermost first.

    Args:
        model: The model.
        projection: Path of the attention output projection.

    Returns:
        The number of query heads; None where nothing states it.
    """
    path = projection
    while path:
        path = path.rpartition(".")[0]
        module: Any = model.get_submodule(path)
        found = _first_number((module, getattr(module, "config", None)), HEADS)
        if found is not None:
            return found
    return None


def stated_width(model: nn.Module, block: str) -> int | None:
    """Look for the width of the hidden states of a layer in the configurations that its modules keep.

    Args:
        model: The model.
        block: Path of the layer.

    Returns:
        The width; None where nothing states it.
    """
    configs = (getattr(module, "config", None) for module in model.get_submodule(block).modules())
    return _first_number(configs, ("hidden_size",))


def _first_number(owners: Iterable[Any], names: Iterable[str]) -> int | None:
    """The first whole number that one of the names has anywhere."""
    for owner in owners:
        for name in names:
            found = _attribute(owner, name)
            if isinstance(found, int):
                return found
    return None


def _attribute(owner: Any, name: str) -> Any:
    """An attribute; None where there is none, or where the layers of a configuration differ in it."""
    try:
        return getattr(owner, name, None)
    except AttributeError:
        return None
