"""The feed-forward blocks of a model, found by watching where its tensors go.

A block is `project(activation(expand(x)))`. Its parts have other names in every architecture, so names are
not asked: the model runs once, and what goes in and out of its parts tells which Linear layer reads the
output of which activation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.elementwise import is_elementwise
from hf_untangle.translation.kan.leaf_calls import LeafCall, trace_calls


@dataclass(frozen=True)
class FeedForward:
    """The parts of one feed-forward block, by their names in the model."""

    expand: str
    """The Linear layer that computes the neurons."""
    activation: str
    """The elementwise activation of the neurons."""
    project: str
    """The Linear layer that reads them."""


def find_feed_forwards(model: nn.Module, inputs: Mapping[str, Any]) -> list[FeedForward]:
    """Find the feed-forward blocks of a model whose activation maps every neuron on its own.

    Its input must be the very tensor that came out of one Linear layer, and its output the very tensor that
    goes into another; dropout, which does nothing in evaluation, and a change of dtype may stand between.

    Args:
        model: Any model.
        inputs: What to run it on, as keyword arguments.

    Returns:
        The blocks, in the order in which they run.

    Raises:
        TranslationError: If there are none, or the product of the activation with a gate goes into the second Linear
            layer.
    """
    with evaluation_mode(model):
        calls, _ = trace_calls(model, lambda: model(**inputs))
        active = [call for call in calls if is_activation(call.module)]
    linears = [call for call in calls if type(call.module) is nn.Linear]
    blocks = dict.fromkeys(_block(call, linears) for call in active)  # in order, and each only once
    found = [block for block in blocks if block is not None]
    if not found:
        seen = ", ".join(sorted({type(call.module).__name__ for call in active})) or "none"
        raise TranslationError(
            f"No Linear, elementwise activation and Linear in a row were seen in {type(model).__name__} "
            f"(activations seen: {seen}). Conv1D layers, fused experts, and activations that are no modules "
            "cannot be swapped."
        )
    return found


def _block(activation: LeafCall, linears: list[LeafCall]) -> FeedForward | None:
    """The block around an activation, if it stands between two Linear layers."""
    expand = next((linear for linear in linears if _is_same(linear.output, activation.input)), None)
    project = next((linear for linear in linears if _is_same(activation.output, linear.input)), None)
    if expand and project:
        return FeedForward(expand.name, activation.name, project.name)
    if expand and (gated := _reader_of_product(activation, expand, linears)):
        raise TranslationError(
            f"{gated} does not read what comes out of {activation.name} ({type(activation.module).__name__}) "
            "but its product with a gate, which is no sum of functions of one neuron. Translate such a block "
            "alone, with gated_to_kan."
        )
    return None


@torch.no_grad()
def is_activation(module: nn.Module) -> bool:
    """Say whether a module maps every number on its own, and not to itself as a dropout in evaluation does.

    Args:
        module: Any module, in evaluation mode.

    Returns:
        Whether it is an elementwise activation without parameters.
    """
    if next(module.parameters(), None) is not None or not is_elementwise(module):
        return False
    probe = torch.linspace(-3, 3, 64)
    return not torch.equal(module(probe.clone()), probe)


def _is_same(output: Tensor, read: Tensor) -> bool:
    """Whether one tensor is the other, perhaps in another shape or dtype."""
    if output.numel() != read.numel():
        return False
    if output.dtype == read.dtype:
        return output.data_ptr() == read.data_ptr()
    return torch.equal(output.to(read.dtype).flatten(), read.flatten())


def _reader_of_product(activation: LeafCall, expand: LeafCall, linears: list[LeafCall]) -> str | None:
    """The Linear layer that reads the product of an activation with another Linear layer of the same input, if one does."""
    ups = [linear for linear in linears if linear is not expand and _is_same(linear.input, expand.input)]
    for up, down in product(ups, linears):
        if up.output.numel() == activation.output.numel() == down.input.numel():
            gated = activation.output.double().flatten() * up.output.double().flatten()
            rounding = torch.finfo(activation.output.dtype).eps
            if torch.allclose(
                down.input.double().flatten(), gated, rtol=8 * rounding, atol=rounding * gated.abs().max().item()
            ):
                return down.name
    return None
