"""What `torch.compile` has to do with hooks: code that was compiled before them runs past them in silence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
