"""One forward pass on dummy tokens that shows which projections compute which neurons.

Three things are done to the pass, and together they answer every question without a table per model:

*   Every block's input and every projection's output is cut out of the autograd graph and made a leaf. The gradient of a
    projection's input then ends at its nearest ancestors, so it tells exactly which projections compute it.
*   Every projection's output is replaced by a code that spells out the number of each row. Attention averages values that
    are the same at all positions, so the code of a value row arrives unchanged at the neuron that the row computes.
*   Every vector of a block that is no projection's, such as the weight of a norm of queries and keys, is replaced by ones.

So weights play no part in it, and the answer is the same for a trained, a fresh or a broken model.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from hf_untangle.architecture.projections import is_projection

BASE = 16
"""Codes are digits below this number, small enough to survive the rounding of bfloat16."""
DIGITS = 5
"""Digits of a code: enough for projections of 16 ** 5, a million, rows."""
POSITIONS = 2
"""Dummy tokens in a sequence: two, so that what mixes positions can be told from what does not."""
NEUTRAL = 0.5
"""Output of every row in the first sequence, where no common activation function is flat."""


@dataclass(frozen=True, eq=False)
class Projection:
    """One call of a linear projection inside a block."""

    name: str
    neurons: Float[Tensor, "..."]
    """What it read, attached to the graph: [1 + DIGITS, POSITIONS, width], or the same with flattened tokens."""
    output: Float[Tensor, "..."]
    """What it wrote, replaced by the code: a leaf of the graph."""


@dataclass(eq=False)
class Block:
    """One layer of a stack, as the pass went through it."""

    name: str
    layer: int
    residual: Float[Tensor, "..."] | None = None
    """The block's input, a leaf of the graph; None until the block ran."""
    projections: list[Projection] = field(default_factory=list)


def find_blocks(model: nn.Module) -> list[Block]:
    """List the layers of every outermost stack (`ModuleList`) that holds projections.

    Args:
        model: Any model.

    Returns:
        The blocks, none of which has run yet.
    """
    stacks: list[str] = []
    blocks: list[Block] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{stack}.") for stack in stacks)
        if inside or not isinstance(module, nn.ModuleList) or not any(map(is_projection, module.modules())):
            continue
        stacks.append(name)
        blocks += [Block(f"{name}.{index}", index) for index in range(len(module))]
    return blocks


def trace(model: nn.Module, blocks: list[Block], inputs: dict[str, Any]) -> None:
    """Run the model once and fill the blocks that it goes through.

    Args:
        model: The model, in evaluation mode, with gradients switched on.
        blocks: The blocks to fill, from `find_blocks`.
        inputs: What the model is called with: 1 + DIGITS sequences of POSITIONS tokens.
    """
    with ExitStack() as hooks:
        for block in blocks:
            module = model.get_submodule(block.name)
            hooks.enter_context(_cut_residual(module, block))
            for name, projection in module.named_modules(prefix=block.name):
                if is_projection(projection):
                    hooks.enter_context(_code_output(projection, name, block))
        functional_call(model, _plain_vectors(model, blocks), kwargs=inputs)


def _plain_vectors(model: nn.Module, blocks: list[Block]) -> dict[str, Float[Tensor, " width"]]:
    """Ones in place of the vectors in the blocks that no projection owns."""
    return {
        f"{name}.{key}": torch.ones_like(parameter)
        for block in blocks
        for name, module in model.get_submodule(block.name).named_modules(prefix=block.name)
        for key, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 1 and not is_projection(module)
    }


@contextmanager
def _cut_residual(module: nn.Module, block: Block) -> Iterator[None]:
    """Make the hidden state that enters a block a leaf of the graph."""

    def cut(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        state = args[0] if args else kwargs["hidden_states"]
        block.residual = leaf = state.detach().requires_grad_()
        # Some blocks add in place, which a leaf forbids, so they get a copy that the gradient passes through.
        if args:
            return (leaf.clone(), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": leaf.clone()}

    handle = module.register_forward_pre_hook(cut, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _code_output(module: nn.Module, name: str, block: Block) -> Iterator[None]:
    """Record what a projection reads, and replace what it writes by the code."""
    read: list[Tensor] = []

    def record(_: nn.Module, args: tuple[Any, ...]) -> None:
        read.append(args[0])

    def replace(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        leaf = _code_like(output).requires_grad_()
        block.projections.append(Projection(name, read.pop(), leaf))
        return leaf.clone()

    with ExitStack() as hooks:
        # First of all hooks, so that a mask that is being tried hides no neuron.
        hooks.callback(module.register_forward_pre_hook(record, prepend=True).remove)
        hooks.callback(module.register_forward_hook(replace).remove)
        yield


def _code_like(output: Tensor) -> Tensor:
    """Write NEUTRAL in the first sequence, and digit d of the row's number in sequence 1 + d."""
    digits = digits_of(torch.arange(output.shape[-1], device=output.device)).to(output.dtype)
    code = torch.cat([torch.full_like(digits[:1], NEUTRAL), digits])
    if output.numel() != code.numel() * POSITIONS:
        return torch.full_like(output, NEUTRAL)
    return code.repeat_interleave(POSITIONS, 0).view(output.shape).clone()


def digits_of(numbers: Int[Tensor, " n"]) -> Int[Tensor, "digit n"]:
    """Spell numbers out in base BASE, lowest digit first.

    Args:
        numbers: Non-negative numbers below BASE ** DIGITS.

    Returns:
        Digits from 0 to BASE - 1.
    """
    return torch.stack([numbers // BASE**digit % BASE for digit in range(DIGITS)])
