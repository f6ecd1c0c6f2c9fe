"""Standard output for results alone: what libraries print, also in C, goes to standard error instead."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console

STDOUT, STDERR = 1, 2
"""File descriptors."""

_OUTPUT: ContextVar[TextIO | None] = ContextVar("hf_untangle_output", default=None)
"""Where results go while standard output is kept clean."""


@contextmanager
def clean_stdout() -> Iterator[None]:
    """Keep everything but `write_json` and `results` off standard output inside the `with` block.

    Yields:
        Nothing.
    """
    if _OUTPUT.get() is not None:
        yield
        return
    with _own_stdout() as output, redirect_stdout(sys.stderr):
        token = _OUTPUT.set(output)
        try:
            yield
        finally:
            _OUTPUT.reset(token)


def write_json(value: Any) -> None:
    """Print a value as JSON on standard output, where infinity is a string, as JSON has no number for it.

    Args:
        value: What to print.
    """
    from pydantic_core import to_json

    output = _OUTPUT.get() or sys.stdout
    output.write(to_json(value, indent=2, inf_nan_mode="strings").decode() + "\n")
    output.flush()


def results() -> Console:
    """What prints the result of a command, on standard output.

    Returns:
        A console that takes no markup, since paths and messages may hold square brackets.
    """
    return Console(file=_OUTPUT.get() or sys.stdout, markup=False)


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """The standard output, while its file descriptor leads to standard error."""
    own = sys.stdout
    if not _is_the_descriptor(own):
        yield own
        return
    own.flush()
    with os.fdopen(os.dup(STDOUT), "w", encoding=own.encoding, errors=own.errors) as output:
        os.dup2(STDERR, STDOUT)
        try:
            yield output
        finally:
            _flush_c()
            os.dup2(output.fileno(), STDOUT)


def _is_the_descriptor(stream: TextIO) -> bool:
    """Whether a stream is the process's standard output, and not an object that somebody put there."""
    try:
        return stream.fileno() == STDOUT
    except (OSError, AttributeError):
        return False


def _flush_c() -> None:
    """Write what C libraries hold back for standard output, before that leads elsewhere again."""
    with suppress(OSError, TypeError, AttributeError):  # Not every platform has the C library in the process itself.
        ctypes.CDLL(None).fflush(None)
