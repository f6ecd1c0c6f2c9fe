"""How many query heads an attention block has, as its own module states."""

from typing import Any

from torch import nn

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_q_heads")
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
        for owner in (module, getattr(module, "config", None)):
            for name in COUNTS:
                count = _attribute(owner, name)
                if isinstance(count, int):
                    return count
    return None


def _attribute(owner: Any, name: str) -> Any:
    """An attribute, or None where there is none, or where layers differ in it."""
    try:
        return getattr(owner, name, None)
    except AttributeError:
        return None
