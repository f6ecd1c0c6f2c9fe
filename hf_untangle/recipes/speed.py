"""How fast this machine runs the layers of a model: a few of them are made, without the model's weights, and timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import uncached

LAYERS, BLOCK, MOST_BLOCKS = 2, 256, 8
WORK = 2**34
"""Parameters times tokens of a timed pass, at the most, as long as that is a block."""
ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """How many parameters times tokens this machine gets through in a second."""

    forward: float
    """In passes forward."""
    backward: float
    """In passes forward, and back to the activations."""


def measure_speed(model: PreTrainedModel, dtype: torch.dtype) -> Speed | None:
    """Time the first layers of a model, attention, norms and all, which says more than the peak of a machine.

    Args:
        model: What `bare_model` gave; it is cut down.
        dtype: The dtype of its weights.

    Returns:
        The speed; None where the layers do not run without the others.
    """
    try:
        body = _first_layers_(model, dtype)
        embedding = cast(nn.Embedding, body.get_input_embeddings())
        parameters = sum(weight.numel() for weight in body.parameters()) - embedding.weight.numel()
        blocks = max(1, min(MOST_BLOCKS, WORK // (parameters * BLOCK)))
        work = parameters * blocks * BLOCK
        tokens = torch.zeros(blocks, BLOCK, dtype=torch.long, device=body.device)
        with torch.inference_mode():
            forward = _seconds(lambda: _states(body, tokens))
        return Speed(work / forward, work / _seconds(lambda: _states(body, tokens).float().mean().backward()))
    except Exception:  # Whatever a model needs that two of its layers lack, a plan is no reason to fail.
        return None


def _first_layers_(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Leave the first layers of the base model, and give them weights: all alike, as products take as long with any."""
    body, count = cast(PreTrainedModel, model.base_model), model.config.get_text_config().num_hidden_layers
    layers = next(module for module in body.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    del layers[LAYERS:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in body.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            filled = torch.full(weight.shape, 0.01, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(filled, requires_grad=False))
    # The graph of a backward pass begins where the search lets it begin: at the embedded tokens.
    embedding = body.get_input_embeddings()
    embedding.register_forward_hook(lambda _, __, states: states.requires_grad_(torch.is_grad_enabled()))
    return cast(PreTrainedModel, nn.Module.to(body, device).eval())


def _states(body: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The last hidden states."""
    return body(input_ids=tokens, **uncached(body)).last_hidden_state


def _seconds(run: Callable[[], object]) -> float:
    """The fastest of a few rounds after a first one."""
    run()
    return min(_once(run) for _ in range(ROUNDS))


def _once(run: Callable[[], object]) -> float:
    """The seconds of one round; a GPU is waited for."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
