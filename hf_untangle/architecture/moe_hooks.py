"""Experts computed one at a time, so that their neurons can be seen and replaced on the way.

transformers lets modules of experts choose how they are computed (`config._experts_implementation`). A function that is
registered there sees what no hook sees: what lies between the projection that computes neurons and the one that reads them.
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

from hf_untangle.architecture.inference_mode import forward_replaced
from hf_untangle.architecture.moe import READS, activated, is_registered, producer_of
from hf_untangle.architecture.projections import matrix_of


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
Interceptors = tuple[Mapping[nn.Module, Interceptor], ...]
"""Those of every `with` block around the pass, the outermost first."""


@contextmanager
def intercepted_experts(interceptors: Mapping[nn.Module, Interceptor]) -> Iterator[None]:
    """Show the neurons of experts to a function each, inside the `with` block.

    Args:
        interceptors: What to call, by the module that holds the experts.

    Yields:
        Nothing.
    """
    configs = {id(experts.config): experts.config for experts in interceptors if is_registered(experts)}
    with ExitStack() as switched:
        for config in configs.values():
            switched.enter_context(_implementation(config, interceptors))
        for experts in interceptors:
            if not is_registered(experts):
                switched.enter_context(_own_forward(experts, interceptors))
        yield


@contextmanager
def _implementation(config: Any, interceptors: Mapping[nn.Module, Interceptor]) -> Iterator[None]:
    """Have the experts of one configuration computed here, after whatever intercepts them already."""
    before = config._experts_implementation
    run = _extended(ALL_EXPERTS_FUNCTIONS.get(before), _run_routed, interceptors)
    name = f"hf_untangle_{id(run)}"
    with ExitStack() as undo:
        undo.callback(ALL_EXPERTS_FUNCTIONS.pop, name, None)
        ALL_EXPERTS_FUNCTIONS[name] = run
        undo.callback(setattr, config, "_experts_implementation_internal", before)
        config._experts_implementation_internal = name
        yield


@contextmanager
def _own_forward(experts: nn.Module, interceptors: Mapping[nn.Module, Interceptor]) -> Iterator[None]:
    """Have experts that no configuration speaks of computed here."""
    before = vars(experts).get("forward")
    run = _run_sorted if type(experts).__name__ == "Llama4TextExperts" else _run_routed
    outer = before.func if isinstance(before, partial) else None
    with forward_replaced(experts, partial(_extended(outer, run, interceptors), experts)):
        yield


def _extended(outer: Any, run: Callable[..., Tensor], interceptors: Mapping[nn.Module, Interceptor]) -> Callable[..., Tensor]:
    """Let interceptors follow those of the blocks around."""
    earlier: Interceptors = outer.interceptors if isinstance(outer, _Runner) else ()
    return _Runner(run, (*earlier, interceptors))


@dataclass(frozen=True, eq=False)
class _Runner:
    """A way to compute experts, and the functions that are shown their neurons."""

    run: Callable[..., Tensor]
    interceptors: Interceptors

    def __call__(self, experts: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the experts of one layer."""
        called = [by_module[experts] for by_module in self.interceptors if experts in by_module]
        return self.run(called, experts, *args, **kwargs)


def _run_routed(
    called: list[Interceptor],
    experts: nn.Module,
    hidden_states: Float[Tensor, "token width"],
    top_k_index: Int[Tensor, "token choice"],
    top_k_weights: Float[Tensor, "token choice"],
) -> Float[Tensor, "token width"]:
    """Compute experts that are told which tokens are theirs."""
    number = matrix_of(experts, READS).weight.shape[0]
    chosen = top_k_index.flatten()
    slots = chosen.argsort(stable=True).split(chosen.bincount(minlength=number).tolist())
    output = torch.zeros_like(hidden_states)
    for expert, slot in enumerate(slots):
        tokens = slot // top_k_index.shape[-1]
        if expert < number:
            written = _run_one(called, experts, expert, hidden_states[tokens], tokens) if len(slot) else None
        else:
            # What is chosen beyond the last expert passes unchanged, or belongs to another device.
            written = hidden_states[tokens] if hasattr(experts, "identity_expert") else None
        if written is not None:
            output.index_add_(0, tokens, (written * top_k_weights.flatten()[slot, None]).to(output.dtype))
    return output


def _run_sorted(
    called: list[Interceptor], experts: nn.Module, hidden_states: Float[Tensor, "row width"]
) -> Float[Tensor, "row width"]:
    """Compute experts that get all tokens, one expert after the other, with zeros for those that are not theirs."""
    by_expert = hidden_states.view(matrix_of(experts, READS).weight.shape[0], -1, hidden_states.shape[-1])
    output = torch.zeros_like(by_expert)
    for expert, states in enumerate(by_expert):
        tokens = states.any(-1).nonzero().flatten()
        if len(tokens):
            output[expert, tokens] = _run_one(called, experts, expert, states[tokens], tokens).to(output.dtype)
    return output.flatten(0, 1)


def _run_one(
    called: list[Interceptor],
    experts: nn.Module,
    expert: int,
    states: Float[Tensor, "row width"],
    tokens: Int[Tensor, " row"],
) -> Float[Tensor, "row width"]:
    """Compute one expert, and show its neurons on the way."""
    computes, reads = (matrix_of(experts, name) for name in (producer_of(experts), READS))
    width = reads.weight.shape[2]
    neurons = activated(experts, _project(states, computes.weight[expert], computes.bias, expert))
    for intercept in called:
        answer = intercept(Reading(neurons, slice(expert * width, (expert + 1) * width), tokens))
        neurons = neurons if answer is None else answer
    written = _project(neurons, reads.weight[expert], reads.bias, expert)
    return cast(Any, experts).post_expert_norm(written) if getattr(experts, "has_post_expert_norm", False) else written


def _project(states: Tensor, weight: Tensor, biases: Tensor | None, expert: int) -> Tensor:
    """Multiply by the weight of one expert, and add its bias if there is one."""
    return nn.functional.linear(states, weight, None if biases is None else biases[expert])
