"""What `torch.compile` has to do with hooks: code that was compiled before them runs past them in silence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn


@contextmanager
def eagerly() -> Iterator[None]:
    """Run every compiled function as it is written inside the `with` block, so that hooks which came later are called.

    What was compiled stays compiled, and is used again after the block.

    Yields:
        Nothing.
    """
    # Without the compiler in memory nothing can have been compiled, and importing it takes seconds.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def uncompiled(model: nn.Module) -> nn.Module:
    """Find the model that `torch.compile(model)` wraps.

    Args:
        model: A model, compiled or not.

    Returns:
        The model inside, by whose paths neurons are named; the model itself where there is no wrapper.
    """
    return cast(nn.Module, getattr(model, "_orig_mod", model))
