"""Running the body of a model, also where several processes share it and must run in step."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.dummy_inputs import dummy_inputs
from hf_untangle.architecture.inference_mode import uncached
from hf_untangle.architecture.sharding import is_sharded
from hf_untangle.distributed import together

BACKWARD = 2
"""A backward pass costs as much as this many forward passes (arXiv:2001.08361)."""


@dataclass
class ForwardTokens:
    """The work that a model has done, as a number of tokens in a forward pass."""

    count: int = 0
    """Positions that passed the embedding; three times as many where gradients were on, as a backward pass follows."""


@contextmanager
def forward_tokens(model: PreTrainedModel) -> Iterator[ForwardTokens]:
    """Count what runs through a model inside the `with` block, whatever calls it.

    Args:
        model: The model, which need not have an embedding: what it embeds first is found by itself for images too.

    Yields:
        The count so far, of this process alone.
    """
    spent = ForwardTokens()

    def add(_: nn.Module, __: object, output: Tensor) -> None:
        positions = output.numel() // output.shape[-1]
        spent.count += positions * (1 + BACKWARD if torch.is_grad_enabled() else 1)

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield spent
    finally:
        handle.remove()


def run_body(model: PreTrainedModel, inputs: dict[str, Any]) -> None:
    """Run a model for what happens in its layers.

    Args:
        model: The model. Its head does not run, except where it is sharded: then weights are gathered by the outermost module
            alone, and the head runs on as few positions as it can.
        inputs: What the model is called with.
    """
    if not is_sharded(model):
        model.base_model(**inputs, **uncached(model))
        return
    few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    model(**inputs | few | uncached(model))


@contextmanager
def in_step(
    model: PreTrainedModel, batches: Iterable[object], run: Callable[[PreTrainedModel, dict[str, Any]], object]
) -> Iterator[None]:
    """Pad with dummy forward passes after the `with` block, so that all ranks run the same number.

    Args:
        model: The model. Where each process has one of its own, nothing is done.
        batches: What is run in the block, one pass each.
        run: Runs one pass as those in the block, but is not to look at it.

    Yields:
        Nothing.
    """
    mine = sum(1 for _ in batches) if is_sharded(model) else 0
    most = max(together(lambda: mine)) if is_sharded(model) else 0
    yield
    for _ in range(most - mine):
        run(model, dummy_inputs(model, 1))
