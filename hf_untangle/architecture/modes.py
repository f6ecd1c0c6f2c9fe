"""Running a model without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
