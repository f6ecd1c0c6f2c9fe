"""Signals that end a program, so that what a call has begun is cleaned up first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """The program was asked to end by SIGTERM, as schedulers and container engines do."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl+C inside the `with` block, or in the decorated function.

    By default SIGTERM ends a process at once, with temporary copies of the model left on the disk. A handler that the
    caller has installed stays in charge, and threads other than the main one cannot install any.

    Yields:
        Nothing.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    _handle(_terminate)
    try:
        yield
    finally:
        _handle(signal.SIG_DFL)


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Give SIGTERM the handler back that it had, also where what was to do so inside the `with` block was interrupted.

    Yields:
        Nothing.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        _handle(before)


def _handle(handler: Any) -> None:
    """Install a handler of SIGTERM, where this thread can; None, for one of a C library, leaves things as they are."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (what `signal` passes)
    """Raise an interrupt where the program is."""
    raise Terminated("SIGTERM")
