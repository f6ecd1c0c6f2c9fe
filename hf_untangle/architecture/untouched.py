"""Calls that leave no trace in a model: no hook, mode, flag, module or patched method, and no random number drawn."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from hf_untangle.architecture.commit import undone_on_failure
from hf_untangle.architecture.wrappers import unwrapped
from hf_untangle.interrupts import sigterm_as_interrupt, sigterm_kept
from hf_untangle.randomness import random_state_kept

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def all_or_nothing(call: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function leave the model of its first argument exactly as it was when it fails or is interrupted.

    The function also runs outside of inference mode, gets the module below wrappers such as `DataParallel`, leaves the random
    number generators in their own state, and is interrupted by SIGTERM as by Ctrl+C.

    Args:
        call: A function of a model, or of a result that has one as `model`.

    Returns:
        The same function, as a whole or not at all.
    """
    name = next(iter(signature(call).parameters))

    @wraps(call)
    def complete(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        first: Any = args[0] if args else kwargs.get(name)
        subject = unwrapped(first) if isinstance(first, nn.Module) else first
        model = subject if isinstance(subject, nn.Module) else getattr(subject, "model", None)
        arguments: Any = (subject, *args[1:]) if args else ()
        named: Any = kwargs | {name: subject} if name in kwargs else kwargs
        # The result is returned inside, as the call can be interrupted until it has ended.
        # An interrupt while the handler of SIGTERM is taken away still finds the net below.
        net = untouched_on_failure(model if isinstance(model, nn.Module) else nn.Module())
        with net, sigterm_kept(), sigterm_as_interrupt():
            return cast(Any, call)(*arguments, **named)

    return complete


@contextmanager
def untouched_on_failure(model: nn.Module) -> Iterator[None]:
    """Leave a model exactly as it was when the `with` block fails: a net below every cleanup, which may be interrupted too.

    Weights are covered by the commits inside the block, see `commit`.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    with undone_on_failure() as undo, random_state_kept(), ordinary_mode():
        for parameter in model.parameters():
            undo.callback(_set_flags, parameter, parameter.requires_grad, parameter.grad)
        for owner in [*model.modules(), *_configurations(model)]:
            undo.callback(_set_attributes, owner, dict(vars(owner)), _copies(vars(owner)))
        yield


@contextmanager
def ordinary_mode() -> Iterator[None]:
    """Leave inference mode inside the `with` block, where nothing can be differentiated and no weight written to.

    Yields:
        Nothing.
    """
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
            modes.enter_context(torch.no_grad())
        yield


def _configurations(model: nn.Module) -> list[Any]:
    """The configurations that modules read, each once."""
    found = {id(one): one for module in model.modules() if hasattr(one := vars(module).get("config"), "__dict__")}
    return list(found.values())


def _copies(attributes: dict[str, Any]) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """The dictionaries among some attributes, such as those of hooks and submodules, with what they hold."""
    return [(value, dict(value)) for value in attributes.values() if isinstance(value, dict)]


def _set_attributes(owner: Any, attributes: dict[str, Any], copies: list[tuple[dict[Any, Any], dict[Any, Any]]]) -> None:
    """Give an object its own attributes back, and what the dictionaries among them held."""
    vars(owner).clear()
    vars(owner).update(attributes)
    for own, content in copies:
        own.clear()
        own.update(content)


def _set_flags(parameter: Tensor, requires_grad: bool, gradient: Tensor | None) -> None:
    """Give a parameter its own flag and gradient back."""
    # Of a tensor from inference mode not even the flag that it has can be set.
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
    parameter.grad = gradient
