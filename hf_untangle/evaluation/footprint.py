"""What a model costs to hold and to run."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks

ROUNDS = 3
"""Times that speed is measured, after one round to warm up."""


@dataclass(frozen=True)
class Footprint:
    """Size and speed of one model."""

    parameters: int
    """Numbers in its tensors, zeros included; tied tensors count once."""
    bytes: int
    """Memory that its parameters and buffers take."""
    tokens_per_second: float
    """Tokens that a forward pass reads in a second (prefill), as the median of three rounds."""


def footprint(model: PreTrainedModel, blocks: TokenBlocks) -> Footprint:
    """Measure what a model costs.

    Speed depends on what else the machine does: only figures that were taken one after another can be compared.

    Args:
        model: The model, which is left as it was.
        blocks: Tokens for one forward pass.

    Returns:
        Its size and speed.
    """
    rounds = [_seconds(model, blocks) for _ in range(1 + ROUNDS)][1:]
    return Footprint(
        parameters=model.num_parameters(),
        bytes=model.get_memory_footprint(),
        tokens_per_second=blocks.tokens / median(rounds),
    )


def _seconds(model: PreTrainedModel, blocks: TokenBlocks) -> float:
    """The time of one forward pass of the base model, without its head."""
    device = input_device(model)
    inputs = blocks.inputs(device)
    _wait_for(device)
    start = time.perf_counter()
    with evaluation_mode(model), without_gradients(model):
        model.base_model(**inputs, use_cache=False)
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
