"""How widely attention heads look: the entropy of their attention weights, token by token."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.accumulators import Observer
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import finished, results, run_over
from hf_untangle.statistics.moments import MomentAccumulator


@checked_arguments
def collect_head_entropy(
    model: PreTrainedModel | ModelName,
    blocks: TokenBlocks,
    *,
    groups: Sequence[NeuronGroup] | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> ActivationStatistics:
    """Sum up the entropy of every head's attention weights: H = -sum_j a_j log2 a_j over the positions j that a token sees.

    H is 0 bits for a head that looks at one position, and log2 t where it looks at t positions evenly. Heads stand instead
    of neurons: `total / count` is a head's mean entropy, `square` gives its spread over tokens. The pass is that of `collect`,
    with the model's eager attention, the only one that has weights to show; a layer's weights are gone when the next one runs.

    Args:
        model: The model, which is left as it was. A name or path is loaded.
        blocks: The tokens.
        groups: Attention groups; all of the model's when None.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        One entry an attention group, with one number a query head; the record says so under `bit`.

    Raises:
        StatisticsError: An attention layer does not show its weights, or they are not finite.
    """
    model = opened(model)
    found = neuron_groups(model) if groups is None else groups
    attention = [group for group in found if group.heads is not None]
    sums: dict[str, MomentAccumulator] = {}

    def add(group: NeuronGroup, entropy: Tensor, _: slice) -> None:
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(entropy.shape[1], entropy.device)
        sums[group.name].update(entropy)

    with eager_attention(model):
        run_over(model, blocks, attention, add, batch_size=batch_size, progress=progress, watch=observed_heads)
    return finished(model, blocks, attention, results(sums, blocks.tokens))


@contextmanager
def observed_heads(model: nn.Module, groups: Sequence[NeuronGroup], observer: Observer) -> Iterator[nn.Module]:
    """Show the entropy of attention weights, of shape [block, position, head], to an observer inside the `with` block.

    Args:
        model: The model, which must run eager attention.
        groups: Attention groups.
        observer: Called with a group and its entropies in bits, each time the attention runs.

    Yields:
        The same model.
    """

    def show(group: NeuronGroup, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        entropy = head_entropy(_weights(group, output)).transpose(1, 2)
        observer(group, Reading(entropy, slice(None), None))

    with ExitStack() as hooks:
        for group in groups:
            attention = model.get_submodule(group.name.rpartition(".")[0])
            hooks.callback(attention.register_forward_hook(partial(show, group)).remove)
        yield model


def head_entropy(weights: Float[Tensor, "block head query key"]) -> Float[Tensor, "block head query"]:
    """Entropy of attention weights over the positions that are looked at.

    Args:
        weights: They sum to 1 over keys.

    Returns:
        Bits, from 0.
    """
    known = weights.float()
    return -torch.xlogy(known, known).sum(-1) / math.log(2)


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute attention weights inside the `with` block, and give its own attention back afterwards.

    Args:
        model: The model to switch.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        undo.callback(model.set_attn_implementation, str(model.config._attn_implementation))
        model.set_attn_implementation("eager")
        yield


def _weights(group: NeuronGroup, output: Any) -> Float[Tensor, "block head query key"]:
    """Find the attention weights in what an attention layer gives."""
    parts = output if isinstance(output, tuple) else ()
    for part in parts:
        if isinstance(part, Tensor) and part.ndim == 4 and part.shape[1] == group.heads:
            return part
    raise StatisticsError(
        f"Attention must show its weights for their entropy, but the layer of `{group.name}` gives none with eager attention. "
        "Leave it out with `groups=`."
    )
