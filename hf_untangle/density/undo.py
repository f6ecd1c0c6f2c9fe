"""Giving a model its own weights back, bit for bit."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from hf_untangle.architecture.commit import keep_values


@contextmanager
def originals_kept(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let parameters be overwritten inside the `with` block, and put their own values back after it, whatever happened.

    The values wait in the host's memory, so that on an accelerator nothing but the model is held.

    Args:
        parameters: What the block may write to.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        keep_values(undo, parameters)
        yield
