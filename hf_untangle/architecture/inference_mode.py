"""Running a model without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.sharding import comes_and_goes

REPACKS = "support_avx512bf16_for_cpu"
"""By this attribute bitsandbytes knows that it may repack 4-bit weights on this CPU: for good, and with scales rounded."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Switch dropout off inside the `with` block, and give every module its own mode back afterwards.

    Quantized weights stay as they are too: bitsandbytes would repack those of 4 bits in the first pass, see REPACKS.

    Args:
        model: The model to switch.

    Yields:
        The same model.
    """
    training = [module for module in model.modules() if module.training]
    repacking = [module for module in model.modules() if getattr(module, REPACKS, False)]
    model.eval()
    for module in repacking:
        setattr(module, REPACKS, False)
    try:
        yield model
    finally:
        for module in training:
            module.training = True
        for module in repacking:
            setattr(module, REPACKS, True)


def without_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """Run a model without an autograd graph inside the `with` block.

    Args:
        model: Any model.

    Returns:
        Inference mode, or less than that where parameters come and go while the model runs: those that come back would be
        inference tensors for good, which nothing can train.
    """
    return torch.no_grad() if comes_and_goes(model) else torch.inference_mode()


def uncached(model: PreTrainedModel) -> dict[str, bool]:
    """What to call a model with so that it keeps no keys and values, where it knows of any.

    Args:
        model: A model from transformers.

    Returns:
        `use_cache=False` for a model that generates, and nothing for an encoder or a classifier.
    """
    return {"use_cache": False} if model.can_generate() else {}
