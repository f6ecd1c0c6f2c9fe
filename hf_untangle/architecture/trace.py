"""One forward pass on dummy inputs in which every projection writes what we say.

Two things are done to the pass, and together they answer every question without a table per model:

*   Every block's input and every projection's output is cut out of the autograd graph and made a leaf. The gradient of a
    projection's input then ends at its nearest ancestors, so it tells exactly which projections compute it.
*   Every projection's output is replaced, and every vector of a block that is no projection's, such as the weight of a norm
    of queries and keys, is one. So weights play no part, and the answer is the same for a trained, a fresh or a broken model.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from transformers import masking_utils

from hf_untangle.architecture.fused import Owned, fused_refused
from hf_untangle.architecture.moe import READS, is_experts
from hf_untangle.architecture.projections import is_projection, weight_of

PACKED = "find_packed_sequence_indices"
"""What tells packed sequences in transformers by their positions, where nothing else masks attention."""
Writer = Callable[[str, Tensor], Tensor]
"""Called with a projection's path and what it would write; what it returns is written instead."""


@dataclass(eq=False)
class Block:
    """One layer of a stack, as the pass went through it."""

    stack: str
    layer: int
    residual: Float[Tensor, "..."] | None = None
    """The block's input, a leaf of the graph; None until the block ran."""

    @property
    def name(self) -> str:
        """Path of the layer in the model."""
        return f"{self.stack}.{self.layer}"


@dataclass(frozen=True, eq=False)
class Call:
    """The first call of a linear projection, or of a module that holds experts, inside a block."""

    name: str
    block: Block
    neurons: Float[Tensor, "..."]
    """What it read, attached to the graph; for experts the hidden states that they are to work on."""
    output: Float[Tensor, "..."] | None
    """What it wrote, a leaf of the graph; None for experts."""
    written: Float[Tensor, "..."] | None
    """The copy of it that the model continues with."""

    def neurons_at(self, position: int, sequences: int = 1) -> Float[Tensor, "sequence neuron"]:
        """What was read at one position.

        Args:
            position: Which one; negative numbers count from the end.
            sequences: How many sequences the pass had.

        Returns:
            One row a sequence.
        """
        return self.neurons.reshape(sequences, -1, self.neurons.shape[-1])[:, position]


@dataclass(eq=False)
class Trace:
    """What happened in a pass, in the order in which it happened."""

    calls: list[Call] = field(default_factory=list)
    gradients: bool = field(default_factory=torch.is_grad_enabled)
    """Whether the pass keeps gradients. Some models warm up without them, which then does not count."""

    @property
    def is_on(self) -> bool:
        """Whether what happens right now counts."""
        return torch.is_grad_enabled() == self.gradients

    def named(self) -> dict[str, Call]:
        """The calls by the path of their projection."""
        return {call.name: call for call in self.calls}


def find_blocks(model: nn.Module) -> list[Block]:
    """List the layers of every outermost stack (`ModuleList`) that holds projections.

    Args:
        model: Any model.

    Returns:
        The blocks, before any of them has run.
    """
    stacks: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{stack}.") for stack in stacks)
        if isinstance(module, nn.ModuleList) and not inside and _holds_layers(module):
            stacks.append(name)
    return [Block(stack, layer) for stack in stacks for layer in range(len(model.get_submodule(stack)._modules))]


def _holds_layers(modules: nn.ModuleList) -> bool:
    """Tell whether modules have projections inside them, and are not projections themselves."""
    return any(map(is_projection, modules.modules())) and not any(map(is_projection, modules))


def trace(model: nn.Module, inputs: dict[str, Any], write: Writer) -> Trace:
    """Run the model once.

    Args:
        model: The model, in evaluation mode.
        inputs: What the model is called with.
        write: What projections are to write.

    Returns:
        The first call of every projection.

    Raises:
        ArchitectureError: A module ran without any of its projections, as fused kernels do.
    """
    record = Trace()
    hooked: set[nn.Module | Tensor] = set()
    with ExitStack() as hooks:
        hooks.enter_context(_one_sequence())
        hooks.enter_context(fused_refused(_owners(model)))
        for block in find_blocks(model):
            module = model.get_submodule(block.name)
            hooks.enter_context(_cut_residual(module, block, record))
            for name, part in module.named_modules(prefix=block.name):
                # A module or a weight that several layers share belongs to the first of them.
                if part in hooked:
                    continue
                hooked.add(part)
                if is_projection(part):
                    into = Trace() if weight_of(part) in hooked else record
                    hooked.add(weight_of(part))
                    hooks.enter_context(_replaced_output(part, name, block, into, write))
                elif is_experts(part):
                    hooks.enter_context(_noted_experts(part, name, block, record))
        functional_call(model, _plain_vectors(model), kwargs=inputs)
    return record


@contextmanager
def _one_sequence() -> Iterator[None]:
    """Keep transformers from taking dummy tokens, which have one and the same position, for packed sequences of one token."""
    found = getattr(masking_utils, PACKED, None)
    if found is None:
        yield
        return
    setattr(masking_utils, PACKED, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(masking_utils, PACKED, found)


def _owners(model: nn.Module) -> Iterator[Owned]:
    """The modules in the blocks that have projections of their own, one of which they may leave out."""
    for block in find_blocks(model):
        for name, module in model.get_submodule(block.name).named_modules(prefix=block.name):
            projections = [part for part in module.children() if is_projection(part)]
            if len(projections) > 1:
                yield name, module, projections


def _plain_vectors(model: nn.Module) -> dict[str, Float[Tensor, " width"]]:
    """Ones instead of the vectors in the blocks that no projection owns."""
    blocks = tuple(f"{block.name}." for block in find_blocks(model))
    return {
        name: torch.ones_like(parameter)
        for name, parameter in model.named_parameters()
        if parameter.ndim == 1 and name.startswith(blocks) and not is_projection(model.get_submodule(name.rpartition(".")[0]))
    }


@contextmanager
def _cut_residual(module: nn.Module, block: Block, record: Trace) -> Iterator[None]:
    """Make the hidden state that enters a block a leaf of the graph."""
    with ExitStack() as hooks:
        hooks.callback(module.register_forward_pre_hook(partial(_cut, block, record), with_kwargs=True).remove)
        yield


def _cut(
    block: Block, record: Trace, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a block, with its hidden state as a leaf."""
    given = dict(enumerate(args)) | kwargs
    key = next((key for key, value in given.items() if isinstance(value, Tensor) and value.is_floating_point()), None)
    if key is None:
        return args, kwargs
    leaf = given[key].detach().requires_grad_(torch.is_grad_enabled())
    if block.residual is None and record.is_on:
        block.residual = leaf
    # Some blocks add in place, which a leaf forbids, so they get a copy that the gradient passes through.
    given[key] = leaf.clone()
    return tuple(given[index] for index in range(len(args))), {name: given[name] for name in kwargs}


@dataclass(frozen=True, eq=False)
class _Watched:
    """A projection, or the experts of a layer, as the pass goes through them."""

    name: str
    block: Block
    record: Trace
    read: list[Tensor] = field(default_factory=list)
    """What it has read last."""
    called: list[Call] = field(default_factory=list)
    """Its first call."""


@contextmanager
def _replaced_output(module: nn.Module, name: str, block: Block, record: Trace, write: Writer) -> Iterator[None]:
    """Record what a projection reads when it runs first, and replace what it writes."""
    watched = _Watched(name, block, record)
    with ExitStack() as hooks:
        # First of all hooks, so that a mask that is being tried hides no neuron.
        hooks.callback(module.register_forward_pre_hook(partial(_remember, watched), prepend=True).remove)
        hooks.callback(module.register_forward_hook(partial(_replace, watched, write)).remove)
        yield


def _remember(watched: _Watched, _: nn.Module, args: tuple[Any, ...]) -> None:
    """Note what a projection is about to read."""
    watched.read[:] = args[:1]


def _replace(watched: _Watched, write: Writer, _: nn.Module, __: tuple[Any, ...], output: Any) -> Tensor | None:
    """What a projection writes instead of its output, and a record of its first call."""
    # Some routers are linear projections that return more than what they project.
    if not isinstance(output, Tensor):
        return None
    leaf = write(watched.name, output).requires_grad_(torch.is_grad_enabled())
    written = leaf.clone()
    if watched.record.is_on and not watched.called:
        watched.called.append(Call(watched.name, watched.block, watched.read[0], leaf, written))
        watched.record.calls.append(watched.called[0])
    return written


@contextmanager
def _noted_experts(module: nn.Module, name: str, block: Block, record: Trace) -> Iterator[None]:
    """Record when the experts of a layer run first."""
    watched = _Watched(f"{name}.{READS}", block, record)
    with ExitStack() as hooks:
        hooks.callback(module.register_forward_pre_hook(partial(_note_experts, watched), with_kwargs=True).remove)
        yield


def _note_experts(watched: _Watched, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record the first call of experts."""
    if not watched.called:
        watched.called.append(Call(watched.name, watched.block, args[0] if args else kwargs["hidden_states"], None, None))
        watched.record.calls.append(watched.called[0])
