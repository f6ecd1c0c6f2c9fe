"""The logit lens: what every layer of a model would say if its hidden states were the last.

A hidden state is read through the model's own final norm and head (nostalgebraist 2020, "interpreting GPT: the logit lens";
arXiv:2303.08112 refines it). It shows what is decodable there without any training.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.trace import find_blocks
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import ArchitectureError
from hf_untangle.evaluation.block_sums import sums_of
from hf_untangle.evaluation.next_token import NextTokenMetrics, head_logits, head_runs_alone, metrics_of


def layer_metrics(model: PreTrainedModel, blocks: TokenBlocks, *, batch_size: int = 8) -> tuple[NextTokenMetrics, ...]:
    """Measure how well the hidden states of every layer predict the next token, read through the final norm and the head.

    Args:
        model: A causal language model.
        blocks: The tokens.
        batch_size: Blocks in one forward pass.

    Returns:
        Metrics of the embeddings first, then of each layer; the last are those of the model itself.

    Raises:
        ArchitectureError: The model has no final norm that its last hidden states come from, or its head reads more than them.
        StatisticsError: No block has a second token, or the loss of a layer is NaN.
    """
    device = next(model.parameters()).device
    sums: list[Tensor] = []
    with evaluation_mode(model), torch.inference_mode(), _hidden_states(model) as seen:
        if not head_runs_alone(model, blocks.first(1).inputs(device)):
            raise ArchitectureError(
                f"The logit lens needs a head that reads hidden states alone, but that of {type(model).__name__} does not. "
                "Leave the attack `logit-lens` out for this model."
            )
        norm = final_norm(model, blocks.first(1))
        for batch in blocks.batches(batch_size):
            states = model.base_model(**batch.inputs(device), **uncached(model))
            where, tokens = (one.to(device) for one in batch.queries())
            # What leaves the last layer has been through the norm already.
            hidden = [norm(layer)[where] for layer in seen[:-1]] + [states.last_hidden_state[where]]
            found = [_sums(model, states, layer, tokens) for layer in hidden]
            sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
    return tuple(metrics_of(one, f"{blocks.corpus.name}, layer {layer}") for layer, one in enumerate(sums))


def final_norm(model: PreTrainedModel, block: TokenBlocks) -> nn.Module:
    """Find the module that the last hidden states come out of, by running the model once.

    Args:
        model: A causal language model in evaluation mode.
        block: A few tokens.

    Returns:
        The module whose output the last hidden states are.

    Raises:
        ArchitectureError: No module gives exactly them, as where a projection or a scale follows outside of modules.
    """
    outputs: list[tuple[nn.Module, object]] = []
    leaves = [module for module in model.base_model.modules() if not list(module.children())]
    with ExitStack() as hooks:
        for leaf in leaves:
            hooks.enter_context(leaf.register_forward_hook(lambda module, _, output: outputs.append((module, output))))
        states = model.base_model(**block.inputs(next(model.parameters()).device), **uncached(model))
    last = states.last_hidden_state
    for module, output in outputs:
        # The first that gives these values, as dropout behind it would give them too; GPT-2 reshapes what its norm gives.
        if isinstance(output, Tensor) and output.numel() == last.numel() and torch.equal(output.view_as(last), last):
            return module
    raise ArchitectureError(
        f"The logit lens needs a final norm whose output is the last hidden state, but {type(model).__name__} has none that "
        "could be found. Leave the attack `logit-lens` out for this model."
    )


@contextmanager
def _hidden_states(model: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what enters the first layer and what leaves each, of the last pass inside the `with` block.

    Asking transformers for `output_hidden_states` would leave its hooks on the model for good.
    """
    layers = [model.get_submodule(block.name) for block in find_blocks(model)]
    seen: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[:] = [args[0] if args else kwargs["hidden_states"]]

    def leave(_: nn.Module, __: object, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        hooks.callback(layers[0].register_forward_pre_hook(enter, with_kwargs=True).remove)
        for layer in layers:
            hooks.callback(layer.register_forward_hook(leave).remove)
        yield seen


def _sums(model: PreTrainedModel, states: object, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Sum up how well the hidden states of one layer predict."""
    parts = [sums_of(logits, labels).cpu() for logits, labels in head_logits(model, states, hidden, tokens)]
    return torch.stack(parts).sum(0)
