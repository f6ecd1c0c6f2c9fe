"""Standard output for results alone: what libraries print, also in C, goes to standard error instead."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

STDOUT, STDERR = 1, 2
"""File descriptors."""

UNLIMITED = 10_000
"""Columns of a terminal that is wide enough for anything."""
NARROW = 20
"""Columns that prose in a table gets at the least."""

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
    return ResultConsole(file=_OUTPUT.get() or sys.stdout, markup=False)


class ResultConsole(Console):
    """A console that never cuts a word: names of modules and paths are to be copied, however narrow the terminal is."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print every column as wide as its widest word, and let the terminal wrap lines with words that are wider than it is.

        Args:
            *objects: Texts, tables and other things that rich prints.
            **options: As for `rich.console.Console.print`.
        """
        texts = [one for one in objects if isinstance(one, str)]
        if max((len(word) for text in texts for word in text.split()), default=0) > self.width or not self.is_terminal:
            options.setdefault("soft_wrap", len(texts) == len(objects))
        for table in (one for one in objects if isinstance(one, Table)):
            self._hold_words(table)
            options.setdefault("crop", False)
        super().print(*objects, **options)

    def _hold_words(self, table: Table) -> None:
        """Give every column the width of its widest word at least, and share what is left of the terminal among them.

        A table that is wider than the terminal then is wrapped by it.
        """
        unlimited = self.options.update(max_width=UNLIMITED)
        cells = [[self.measure(cell, options=unlimited) for cell in (one.header, *one.cells)] for one in table.columns]
        wanted = [max(cell.maximum for cell in column) for column in cells]
        needed = [
            max(min(NARROW, most), *(cell.minimum for cell in column)) for most, column in zip(wanted, cells, strict=True)
        ]
        lines = self.measure(table, options=unlimited).maximum - sum(wanted)
        room = max(0, self.width - lines - sum(needed))
        order = sorted(range(len(cells)), key=lambda at: wanted[at] - needed[at])
        for place, at in enumerate(order):
            more = min(wanted[at] - needed[at], room // (len(order) - place))
            room -= more
            column = table.columns[at]
            column.min_width = column.max_width = needed[at] + more


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
