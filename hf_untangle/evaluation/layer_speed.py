"""Some layers of a model on their own, made from its configuration alone, to time how fast a machine runs them."""

import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import uncached


def first_layers_(model: PreTrainedModel, count: int, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Leave the first layers of the base model, and give them weights: all alike, as products take as long with any.

    Args:
        model: A model without weights, which is cut down.
        count: How many layers stay.
        dtype: Of the weights.
        device: Where they are to be.

    Returns:
        The base model, in evaluation mode.
    """
    body, layers = cast(PreTrainedModel, model.base_model), model.config.get_text_config().num_hidden_layers
    stack = next(module for module in body.modules() if isinstance(module, nn.ModuleList) and len(module) == layers)
    del stack[count:]
    for module in body.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            filled = torch.full(weight.shape, 0.01, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(filled, requires_grad=False))
    return cast(PreTrainedModel, nn.Module.to(body, device).eval())


def states_of(body: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Run some layers.

    Args:
        body: What `first_layers_` gave.
        tokens: Their input, of shape [block, position].

    Returns:
        The last hidden states.
    """
    return body(input_ids=tokens, **uncached(body)).last_hidden_state


def fastest_in_turn(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Time several things in turn, so that whatever else the machine does slows all of them.

    Args:
        runs: What to time.
        rounds: How often, after a first time that does not count.

    Returns:
        The seconds of the fastest round of each; a GPU is waited for.
    """
    for run in runs:
        run()
    times = [[_seconds(run) for run in runs] for _ in range(rounds)]
    return [min(own) for own in zip(*times, strict=True)]


def _seconds(run: Callable[[], object]) -> float:
    """The seconds of one round."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
