"""Signals that end a program, so that what a call has begun is cleaned up first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (what `signal` passes)
    """Raise an interrupt where the program is."""
    raise Terminated("SIGTERM")
