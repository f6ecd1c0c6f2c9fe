"""Running a model without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Switch dropout off inside the `with` block, and give every module its own mode back afterwards.

    Args:
        model: The model to switch.

    Yields:
        The same model.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True


def uncached(model: PreTrainedModel) -> dict[str, bool]:
    """What to call a model with so that it keeps no keys and values, where it knows of any.

    Args:
        model: A model from transformers.

    Returns:
        `use_cache=False` for a model that generates, and nothing for an encoder or a classifier.
    """
    return {"use_cache": False} if model.can_generate() else {}
