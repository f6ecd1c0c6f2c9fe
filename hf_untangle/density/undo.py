"""Giving a model its own weights back, bit for bit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def originals_kept(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let parameters be overwritten inside the `with` block, and put their own values back after it, whatever happened.

    The values wait in the host's memory, so that on an accelerator nothing but the model is held.

    Args:
        parameters: What the block may write to.

    Yields:
        Nothing.
    """
    kept = [(parameter, parameter.detach().to("cpu", copy=True)) for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in kept:
                parameter.copy_(original)
