"""Trying out what a model does without some experts: its routers cannot choose them inside a `with` block."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hf_untangle.architecture.inference_mode import forward_replaced
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.routers import beside_experts, routed_groups, router_of
from hf_untangle.arguments import checked_arguments
from hf_untangle.masks.mask import NeuronMask

PROJECTIONS = (nn.functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__)
"""What a router scores experts with."""


def experts_kept(group: NeuronGroup, mask: Mapping[str, Tensor]) -> Bool[Tensor, " expert"]:
    """Tell which experts keep a neuron.

    Args:
        group: The neurons of the experts of a layer.
        mask: Which neurons stay.

    Returns:
        False where all neurons of an expert are removed.
    """
    return mask[group.name].view(group.experts or 1, -1).any(1)


@checked_arguments
@contextmanager
def unrouted(model: nn.Module, groups: tuple[NeuronGroup, ...], mask: NeuronMask) -> Iterator[nn.Module]:
    """Let no router choose an expert all of whose neurons are removed; its score is minus infinity.

    Tokens go to the best of the other experts instead. To silence an expert without choosing another one is what
    `masked` does. No weight is written to, so leaving the block restores the model exactly.

    Args:
        model: The model.
        groups: Its neuron groups.
        mask: Which neurons stay.

    Yields:
        The same model.
    """
    with ExitStack() as undo:
        for group in routed_groups(model, groups):
            kept = experts_kept(group, mask)
            if kept.all():
                continue
            path = router_of(model, group)
            for name, one in beside_experts(model, group):
                # A bias that is added for the choice alone would let experts be chosen whose score is nothing.
                if one.ndim == 1:
                    _replace(model, name, one.detach().masked_fill(~kept.to(one.device), -torch.inf), undo)
            router = model.get_submodule(path)
            undo.enter_context(forward_replaced(router, partial(_without, router.forward, ~kept)))
        yield model


def _without(forward: Any, gone: Bool[Tensor, " expert"], *args: Any, **kwargs: Any) -> Any:
    """Run a router whose projection gives minus infinity for some experts."""
    with _Silenced(gone):
        return forward(*args, **kwargs)


def _replace(model: nn.Module, name: str, value: Tensor, undo: ExitStack) -> None:
    """Give a module another tensor until the block is left."""
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    table: dict[str, Any] = module._parameters if own in module._parameters else module._buffers
    undo.callback(table.__setitem__, own, table[own])
    table[own] = nn.Parameter(value, requires_grad=False) if table is module._parameters else value


class _Silenced(TorchFunctionMode):
    """Products of one column per expert lose some of these columns."""

    def __init__(self, gone: Bool[Tensor, " expert"]) -> None:
        super().__init__()
        self.gone = gone

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute what is asked for, and silence experts where they are scored."""
        output = func(*args, **(kwargs or {}))
        if func in PROJECTIONS and output.shape[-1] == len(self.gone):
            return output.masked_fill(self.gone.to(output.device), -torch.inf)
        return output
