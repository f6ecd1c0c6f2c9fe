"""Permanent changes of a model, made completely or not at all.

Every change registers what takes it back before it is made. When anything fails, an interrupt included, changes are taken back
in reverse order. Commits nest: what an inner one has changed is taken back too when an outer one fails later.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import FrameType

import torch
from torch import Tensor

_OPEN: ContextVar[ExitStack | None] = ContextVar("hf_untangle_commit", default=None)
"""What takes the changes of the innermost open block back."""
HELD = (signal.SIGINT, signal.SIGTERM)
"""The signals that wait while a model is written to."""


@contextmanager
def undone_on_failure() -> Iterator[ExitStack]:
    """Take the changes of the `with` block back when it fails.

    Yields:
        A stack for callbacks, each of which takes one change back. They are registered before the change is made, and are
        called in reverse order, and only on failure.
    """
    undo = ExitStack()
    # Nothing may follow the `try`: an interrupt there would come after the commit, and leave the changes.
    try:
        with _joined(undo):
            yield undo
    except BaseException:
        with interrupts_held():
            undo.close()
        raise


@contextmanager
def commit() -> Iterator[ExitStack]:
    """Make permanent changes inside the `with` block: all of them, or none when it fails or is interrupted.

    Signals that arrive while the block runs are delivered at its end. If they interrupt the program (Ctrl+C), the changes
    are taken back.

    Yields:
        A stack for callbacks, as in `undone_on_failure`.
    """
    with undone_on_failure() as undo, interrupts_held():
        yield undo


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold signals that would interrupt the program until the end of the `with` block.

    Only the main thread receives signals, so that nothing is done in others.

    Yields:
        Nothing.
    """
    waiting: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        waiting.append(number)

    with ExitStack() as handlers:
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                own = signal.getsignal(number)
                # What is not a function ends the process, and its memory with it, or is ignored.
                if callable(own):
                    handlers.callback(signal.signal, number, own)
                    signal.signal(number, hold)
        yield
    for number in waiting:
        signal.raise_signal(number)


@torch.no_grad()
def write_(tensor: Tensor, values: Tensor) -> None:
    """Overwrite a tensor, whether or not it requires gradients.

    Args:
        tensor: The tensor, changed in place.
        values: What it is to hold, of the same shape, on any device.
    """
    tensor.copy_(values)


def keep_values(undo: ExitStack, tensors: Iterable[Tensor]) -> None:
    """Register that tensors get their present values back.

    The values wait in the host's memory, so that an accelerator holds the model alone.

    Args:
        undo: The stack of `commit` or `undone_on_failure`.
        tensors: What is about to be overwritten.
    """
    for tensor in tensors:
        undo.callback(write_, tensor, tensor.detach().to("cpu", copy=True))


@contextmanager
def _joined(undo: ExitStack) -> Iterator[None]:
    """Make a stack the innermost open one, and hand it to the one around it once the block has succeeded."""
    outer = _OPEN.get()
    with ExitStack() as leaving:
        leaving.callback(_OPEN.set, outer)
        _OPEN.set(undo)
        yield
        if outer is not None:
            outer.push(undo)
