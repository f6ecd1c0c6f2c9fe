"""The one place where neurons are seen and replaced while a model runs."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from hf_untangle.architecture.compiled import eagerly
from hf_untangle.architecture.fused import Owned, fused_refused, owner_of
from hf_untangle.architecture.moe import experts_of
from hf_untangle.architecture.moe_hooks import Interceptor, Reading, intercepted_experts
from hf_untangle.architecture.projections import projects, weight_of
from hf_untangle.architecture.wrappers import adapter_layers, model_below


@contextmanager
def intercepted(model: nn.Module, interceptors: Mapping[str, Interceptor]) -> Iterator[nn.Module]:
    """Call a function with the neurons of each group, whenever they are about to be read, inside the `with` block.

    When calls are nested, the outer ones see and replace first. What was compiled runs uncompiled inside the block, as
    compiled code calls no hook that it was not compiled with.

    Args:
        model: The model.
        interceptors: What to call, by the path of the group's output projection.

    Yields:
        The same model.

    Raises:
        ArchitectureError: A fused kernel ran instead of a projection, so that nothing was intercepted.
    """
    model = model_below(model)
    of_experts: dict[nn.Module, Interceptor] = {}
    twins = _by_weight(model)
    owners: list[Owned] = []
    with ExitStack() as hooks:
        for name, interceptor in interceptors.items():
            experts = experts_of(model, name)
            if experts is None:
                projections = twins[_identity(model.get_submodule(name))]
                owners.append((name, owner_of(model, name), projections))
                for projection in projections:
                    hooks.callback(projection.register_forward_pre_hook(partial(_intercept, interceptor)).remove)
            else:
                of_experts[experts] = interceptor
        hooks.enter_context(fused_refused(owners))
        hooks.enter_context(intercepted_experts(of_experts))
        hooks.enter_context(eagerly())
        yield model


def _by_weight(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The projections of a model by their weight: where layers share one, a neuron is the same in all of them."""
    twins: dict[int, list[nn.Module]] = {}
    # A neuron is read by the adapter of its projection too, so that it is intercepted before both.
    inside = {layer.base_layer for layer in adapter_layers(model)}
    for module in model.modules():
        if projects(module) and module not in inside:
            twins.setdefault(_identity(module), []).append(module)
    return twins


def _identity(projection: nn.Module) -> int:
    """Tell projections apart by their weight, or by themselves where it is computed anew whenever it is read."""
    weight = weight_of(projection)
    return id(weight if isinstance(weight, nn.Parameter) else projection)


def _intercept(interceptor: Interceptor, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Hand the input of an ordinary projection over."""
    neurons, *rest = args
    answer = interceptor(Reading(neurons, slice(None), None))
    return None if answer is None else (answer, *rest)
