"""Running a model without leaving a trace in it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.sharding import comes_and_goes
from hf_untangle.errors import ArchitectureError

REPACKS = "support_avx512bf16_for_cpu"
"""By this attribute bitsandbytes knows that it may repack 4-bit weights on this CPU: for good, and with scales rounded."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Switch dropout off inside the `with` block, and give every module its own mode back afterwards.

    Quantized weights stay as they are too: bitsandbytes would repack those of 4 bits in the first pass, see REPACKS.

    Args:
        model: The model to switch.

    Yields:
        The same model.
    """
    # An interrupt may come between any two lines, so that what undoes a change is registered before it is made.
    with ExitStack() as undo:
        for module in model.modules():
            if module.training:
                undo.callback(setattr, module, "training", True)
            if getattr(module, REPACKS, False):
                undo.callback(setattr, module, REPACKS, True)
                setattr(module, REPACKS, False)
        model.eval()
        yield model


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradient of any parameter inside the `with` block, so that a graph keeps a third less for its backward pass.

    Args:
        model: The model; one whose parameters come and go while it runs is left alone.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        for parameter in () if comes_and_goes(model) else model.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_)
                parameter.requires_grad_(False)
        yield


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module run another function inside the `with` block.

    Args:
        module: The module.
        forward: What it is to run.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        own = vars(module).get("forward")
        if own is None:
            undo.callback(vars(module).pop, "forward", None)
        else:
            undo.callback(setattr, module, "forward", own)
        setattr(module, "forward", forward)  # noqa: B010 (a type checker takes methods for constants)
        yield


def check_ordinary(model: nn.Module) -> None:
    """Refuse a model whose weights were made in inference mode: nothing can be differentiated by them, or written to them.

    Args:
        model: Any model.

    Raises:
        ArchitectureError: They were.
    """
    name = next((name for name, parameter in model.named_parameters() if parameter.is_inference()), None)
    if name is not None:
        raise ArchitectureError(
            f"Weights must be ordinary tensors, but `{name}` was made in inference mode. Load the model outside of "
            "`torch.inference_mode()`."
        )


def without_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """Run a model without an autograd graph inside the `with` block.

    Args:
        model: Any model.

    Returns:
        Inference mode, or less than that where parameters come and go while the model runs: those that come back would be
        inference tensors for good, which nothing can train.
    """
    return torch.no_grad() if comes_and_goes(model) else torch.inference_mode()


def uncached(model: PreTrainedModel) -> dict[str, bool]:
    """What to call a model with so that it keeps no keys and values, where it knows of any.

    Args:
        model: A model from transformers.

    Returns:
        `use_cache=False` for a model that generates, and nothing for an encoder or a classifier.
    """
    return {"use_cache": False} if model.can_generate() else {}
