"""What `torch.compile` has to do with hooks: code that was compiled before them runs past them in silence."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch


@dataclass
class _Eager:
    """The blocks of `eagerly` that are open."""

    blocks: int = 0
    stance: AbstractContextManager[object] | None = None
    """What the first of them set, for the last of them to take back: blocks overlap without being nested in each other."""


_EAGER = _Eager()


@contextmanager
def eagerly() -> Iterator[None]:
    """Run every compiled function as it is written inside the `with` block, so that hooks which came later are called.

    What was compiled stays compiled, and is used again after the block. A block must be entered outside compiled code.

    Yields:
        Nothing.
    """
    # Without the compiler in memory nothing can have been compiled, and importing it takes seconds.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    if not _EAGER.blocks:
        _EAGER.stance = torch.compiler.set_stance("force_eager")
        _EAGER.stance.__enter__()
    _EAGER.blocks += 1
    try:
        yield
    finally:
        _EAGER.blocks -= 1
        if not _EAGER.blocks and _EAGER.stance is not None:
            _EAGER.stance.__exit__(None, None, None)
