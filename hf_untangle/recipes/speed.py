"""How fast this machine runs the layers of a model: a few of them are made, without the model's weights, and timed."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.evaluation.layer_speed import fastest_in_turn, first_layers_, states_of

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
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        body = first_layers_(model, LAYERS, dtype, device)
        embedding = cast(nn.Embedding, body.get_input_embeddings())
        parameters = sum(weight.numel() for weight in body.parameters()) - embedding.weight.numel()
        blocks = max(1, min(MOST_BLOCKS, WORK // (parameters * BLOCK)))
        work = parameters * blocks * BLOCK
        tokens = torch.zeros(blocks, BLOCK, dtype=torch.long, device=body.device)
        # The graph of a backward pass begins where the search lets it begin: at the embedded tokens.
        embedding.register_forward_hook(lambda _, __, states: states.requires_grad_(torch.is_grad_enabled()))
        with torch.inference_mode():
            (forward,) = fastest_in_turn([lambda: states_of(body, tokens)], ROUNDS)
        (backward,) = fastest_in_turn([lambda: states_of(body, tokens).float().mean().backward()], ROUNDS)
        return Speed(work / forward, work / backward)
    except Exception:  # Whatever a model needs that two of its layers lack, a plan is no reason to fail.
        return None
