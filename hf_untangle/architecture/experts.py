"""Mixtures of experts whose weights lie in one tensor for all experts, run one expert at a time.

transformers lets such modules choose how they are computed (`config._experts_implementation`). A function that is registered
there sees what no hook sees: the neurons of every expert, between the projection that computes and the one that reads them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from hf_untangle.architecture.projections import matrix_of

READS = "down_proj"
"""What experts call the parameter that reads their neurons."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Activations that an output projection is about to read."""

    values: Float[Tensor, "*token neuron"]
    """The activations."""
    neurons: slice
    """Which neurons of the group they are: all of them, or those of one expert."""
    tokens: Int[Tensor, " row"] | None
    """Which tokens, counted through the batch, the rows belong to; None when they are all tokens in their order."""


Interceptor = Callable[[Reading], Tensor | None]
"""Called with what is about to be read; what it returns, if anything, is read instead."""


def is_experts(module: nn.Module) -> bool:
    """Tell whether a module holds the projections of all its experts in one tensor each, and lets us compute them.

    Args:
        module: Any module.

    Returns:
        True for fused experts.
    """
    reads = getattr(module, READS, None)
    return hasattr(module, "is_transposed") and isinstance(reads, nn.Parameter) and reads.ndim == 3


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
    return module._apply_gate(projected) if module.has_gate else module.act_fn(projected)


def producer_of(experts: nn.Module) -> str:
    """The parameter whose rows compute the neurons.

    Args:
        experts: The module that holds the experts.

    Returns:
        Its name in the module.
    """
    return "gate_up_proj" if cast(Any, experts).has_gate else "up_proj"


@contextmanager
def intercepted_experts(interceptors: Mapping[nn.Module, Interceptor]) -> Iterator[None]:
    """Show the neurons of experts to a function each, inside the `with` block.

    Args:
        interceptors: What to call, by the module that holds the experts.

    Yields:
        Nothing.
    """
    configs = {id(experts.config): experts.config for experts in interceptors}
    with ExitStack() as switched:
        for config in configs.values():
            switched.enter_context(_implementation(config, interceptors))
        yield


@contextmanager
def _implementation(config: Any, interceptors: Mapping[nn.Module, Interceptor]) -> Iterator[None]:
    """Have the experts of one configuration computed by `_run`, and whoever intercepted before us stay in front."""
    before = config._experts_implementation
    outer = ALL_EXPERTS_FUNCTIONS.get(before)
    earlier = outer.args[0] if isinstance(outer, partial) and outer.func is _run else ()
    name = f"hf_untangle_{len(earlier)}_{id(interceptors)}"
    ALL_EXPERTS_FUNCTIONS[name] = partial(_run, (*earlier, interceptors))
    config._experts_implementation_internal = name
    try:
        yield
    finally:
        config._experts_implementation_internal = before
        del ALL_EXPERTS_FUNCTIONS[name]


def _run(
    interceptors: tuple[Mapping[nn.Module, Interceptor], ...],
    experts: nn.Module,
    hidden_states: Float[Tensor, "token width"],
    top_k_index: Int[Tensor, "token choice"],
    top_k_weights: Float[Tensor, "token choice"],
) -> Float[Tensor, "token width"]:
    """Compute a layer of experts, one after the other, and show their neurons on the way."""
    called = [by_module[experts] for by_module in interceptors if experts in by_module]
    computes, reads = (matrix_of(experts, name) for name in (producer_of(experts), READS))
    number, _, width = reads.weight.shape
    chosen = top_k_index.flatten()
    slots = chosen.argsort(stable=True).split(chosen.bincount(minlength=number).tolist())
    output = torch.zeros_like(hidden_states)
    # What is chosen beyond the last expert belongs to another device.
    for expert, slot in enumerate(slots[:number]):
        if not len(slot):
            continue
        tokens = slot // top_k_index.shape[-1]
        neurons = activated(experts, _project(hidden_states[tokens], computes.weight[expert], computes.bias, expert))
        for intercept in called:
            answer = intercept(Reading(neurons, slice(expert * width, (expert + 1) * width), tokens))
            neurons = neurons if answer is None else answer
        written = _project(neurons, reads.weight[expert], reads.bias, expert)
        if cast(Any, experts).has_post_expert_norm:
            written = cast(Any, experts).post_expert_norm(written)
        output.index_add_(0, tokens, (written * top_k_weights.flatten()[slot, None]).to(output.dtype))
    return output


def _project(states: Tensor, weight: Tensor, biases: Tensor | None, expert: int) -> Tensor:
    """Multiply by the weight of one expert, and add its bias if there is one."""
    return nn.functional.linear(states, weight, None if biases is None else biases[expert])
