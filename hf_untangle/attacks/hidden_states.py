"""The residual stream of a model: reading what every block leaves, and writing something else instead."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.trace import find_blocks
from hf_untangle.data.batches import TokenBlocks

MOST_LAYERS = 6
"""Layers that an attack looks at, at equal distances."""
States = Float[Tensor, "token hidden"]


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """List the blocks of a model, from the first on.

    Args:
        model: The model.

    Returns:
        Its transformer layers.
    """
    return [model.get_submodule(block.name) for block in find_blocks(model)]


def chosen_layers(model: PreTrainedModel, *, last: bool) -> list[int]:
    """Choose a few layers at equal distances.

    Args:
        model: The model.
        last: Whether the last one may be among them.

    Returns:
        Their numbers from 0 on, in order; at most `MOST_LAYERS`.
    """
    count = len(blocks_of(model)) - (not last)
    some = min(count, MOST_LAYERS)
    return sorted({round((number + 1) * count / some) - 1 for number in range(some)})


@contextmanager
def rewritten(model: PreTrainedModel, layers: list[int], write: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Let blocks leave something else inside the `with` block.

    Args:
        model: The model.
        layers: The numbers of the blocks.
        write: Makes of the number of a block and the states that it leaves those that it is to leave.

    Yields:
        Nothing.
    """

    def hook(layer: int) -> Callable[..., Any]:
        def leave(_: nn.Module, __: object, output: Any) -> Any:
            if isinstance(output, tuple):
                return (write(layer, output[0]), *output[1:])
            return write(layer, output)

        return leave

    blocks = blocks_of(model)
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(blocks[layer].register_forward_hook(hook(layer)).remove)
        yield


def states_of(model: PreTrainedModel, blocks: TokenBlocks, layers: list[int], batch_size: int) -> dict[int, States]:
    """Read what some blocks leave, and what the head reads, at every position whose next token is predicted.

    Args:
        model: The model.
        blocks: The text.
        layers: The numbers of the blocks.
        batch_size: Blocks of text in a pass.

    Returns:
        States in float32 by layer; those that the head reads are under -1.
    """
    found: dict[int, list[Tensor]] = {layer: [] for layer in (*layers, -1)}
    with evaluation_mode(model), torch.inference_mode():
        for batch in blocks.batches(batch_size):
            where = batch.queries()[0].to(model.device)
            for layer, states in _pass(model, batch, layers).items():
                found[layer].append(states[where].float())
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def whole_states(model: PreTrainedModel, batch: TokenBlocks, layer: int) -> Float[Tensor, "block position hidden"]:
    """Read what one block leaves at every position of a batch.

    Args:
        model: The model.
        batch: The text of one pass.
        layer: The number of the block.

    Returns:
        The states.
    """
    with evaluation_mode(model), torch.inference_mode():
        return _pass(model, batch, [layer])[layer]


def _pass(model: PreTrainedModel, batch: TokenBlocks, layers: list[int]) -> dict[int, Tensor]:
    """Run the body of a model once, and keep what some blocks leave."""
    seen: dict[int, Tensor] = {}

    def keep(layer: int, states: Tensor) -> Tensor:
        seen[layer] = states
        return states

    with rewritten(model, layers, keep):
        seen[-1] = model.base_model(**batch.inputs(model.device), **uncached(model)).last_hidden_state
    return seen
