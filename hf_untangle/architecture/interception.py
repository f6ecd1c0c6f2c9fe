"""The one place where neurons are seen and replaced while a model runs."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from hf_untangle.architecture.experts import Interceptor, Reading, experts_of, intercepted_experts


@contextmanager
def intercepted(model: nn.Module, interceptors: Mapping[str, Interceptor]) -> Iterator[nn.Module]:
    """Call a function with the neurons of each group, whenever they are about to be read, inside the `with` block.

    When calls are nested, the outer ones see and replace first.

    Args:
        model: The model.
        interceptors: What to call, by the path of the group's output projection.

    Yields:
        The same model.
    """
    of_experts: dict[nn.Module, Interceptor] = {}
    with ExitStack() as hooks:
        for name, interceptor in interceptors.items():
            experts = experts_of(model, name)
            if experts is None:
                hook = partial(_intercept, interceptor)
                hooks.callback(model.get_submodule(name).register_forward_pre_hook(hook).remove)
            else:
                of_experts[experts] = interceptor
        hooks.enter_context(intercepted_experts(of_experts))
        yield model


def _intercept(interceptor: Interceptor, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Hand the input of an ordinary projection over."""
    neurons, *rest = args
    answer = interceptor(Reading(neurons, slice(None), None))
    return None if answer is None else (answer, *rest)
