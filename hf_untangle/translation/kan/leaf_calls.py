"""Which parts of a network run, in which order, and what goes in and out: one forward pass with hooks."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import evaluation_mode

Output = TypeVar("Output")


@dataclass(frozen=True)
class LeafCall:
    """One run of a part of a network that has no parts itself."""

    name: str
    """Its name in the network."""
    module: nn.Module
    """The part."""
    input: Tensor
    """The tensor that went in: no copy, so that one can see whether it came out of an earlier call."""
    output: Tensor
    """The tensor that came out."""
    autocast: torch.dtype | None = None
    """The dtype of the autocast that the part ran under; None when it ran under none."""

    def replay(self) -> torch.autocast:
        """Run things as the part ran, inside the `with` block: tensors made under autocast fit no weights outside of it.

        Returns:
            The same autocast, or none.
        """
        kind = self.output.device.type
        return torch.autocast(kind, dtype=self.autocast or torch.get_autocast_dtype(kind), enabled=self.autocast is not None)


@torch.no_grad()
def trace_calls(model: nn.Module, run: Callable[[], Output]) -> tuple[list[LeafCall], Output]:
    """Record the calls of all leaf modules that map one tensor to one tensor.

    Args:
        model: The model to watch, in evaluation mode while it runs.
        run: What runs the model.

    Returns:
        The calls in the order in which they ended, and what `run` returned.
    """
    calls: list[LeafCall] = []
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        for name, module in model.named_modules():
            if not list(module.children()):
                stack.enter_context(module.register_forward_hook(partial(_record, calls, name)))
        return calls, run()


def _record(calls: list[LeafCall], name: str, module: nn.Module, inputs: tuple, output: object) -> None:
    """Note one call, if it maps one tensor to one tensor."""
    if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
        kind = output.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        calls.append(LeafCall(name, module, inputs[0], output, autocast))
