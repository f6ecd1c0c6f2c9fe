"""Opening files that may be anything: only a regular file of a bounded size, whose bytes are really there."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hf_untangle.errors import UntangleError

HOLES = 1 << 26
"""Bytes of holes that a file may have: preallocated files have few, a sparse bomb has little else."""
LONGEST = 200
"""Characters of what a file says that a message repeats."""


@dataclass(frozen=True)
class Expected:
    """What a file must hold, and the error that says so."""

    file: Path
    what: str
    """In words, such as `a mask`."""
    error: type[UntangleError]

    def fault(self, found: str) -> UntangleError:
        """Make the error of a file that holds something else.

        Args:
            found: What is wrong, in words that follow `got`.

        Returns:
            The error, to be raised.
        """
        return self.error(f"`{self.file}` must hold {self.what}, got {found}.")


def shown(value: object) -> str:
    """Quote what a file says, short and on one line, so that a message stays one sentence.

    Args:
        value: Anything.

    Returns:
        Printable text.
    """
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return f"`{short}`" if short.isprintable() else ascii(short)


def one_line(error: Exception) -> str:
    """Quote what another library says, short and on one line.

    Args:
        error: What it raised.

    Returns:
        Printable text.
    """
    return shown(" ".join(str(error).split()) or type(error).__name__)


@contextmanager
def open_regular(expected: Expected, limit: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file for reading, without waiting for a pipe and without following a device.

    Args:
        expected: Which file, and what it must hold.
        limit: Bytes that it may have; as many as there are when None.

    Yields:
        The file, and its size in bytes.

    Raises:
        UntangleError: There is no such file, it is no regular file, it is larger, or it is mostly holes.
    """
    try:
        descriptor = os.open(expected.file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise expected.fault(f"a file that cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    with os.fdopen(descriptor, "rb") if _is_regular(descriptor) else _refused(descriptor, expected) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise expected.fault(f"{size:,} bytes, which is more than the {limit:,} that such a file can have")
        if size > HOLES and _data(file.fileno(), size) < size - HOLES:
            raise expected.fault(f"a sparse file, most of whose {size:,} bytes were never written")
        try:
            yield file, size
        except OSError as error:
            raise expected.fault(f"a file that cannot be read ({error})") from error


def read_bytes(expected: Expected, limit: int) -> bytes:
    """Read a small file whole.

    Args:
        expected: Which file, and what it must hold.
        limit: Bytes that it may have.

    Returns:
        Its content.

    Raises:
        UntangleError: It cannot be read, or is no regular file of this size.
    """
    with open_regular(expected, limit) as (file, size):
        return file.read(size)


def read_text(expected: Expected, limit: int) -> str:
    """Read a small text file whole.

    Args:
        expected: Which file, and what it must hold.
        limit: Bytes that it may have.

    Returns:
        Its text, without a byte order mark.

    Raises:
        UntangleError: It cannot be read, is no regular file of this size, or is not in UTF-8.
    """
    try:
        return read_bytes(expected, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise expected.fault(f"bytes that are not UTF-8 (at {error.start:,})") from error


def _is_regular(descriptor: int) -> bool:
    """Whether an open file is neither a folder, nor a pipe, nor a device; it is closed otherwise."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _refused(descriptor: int, expected: Expected) -> BinaryIO:
    """Close what is no regular file."""
    os.close(descriptor)
    raise expected.fault("a folder, a pipe or a device instead of a regular file")


def _data(descriptor: int, size: int) -> int:
    """Bytes of a file that were written; all of them where the file system keeps no account of holes."""
    if not hasattr(os, "SEEK_HOLE"):
        return size
    data = position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # Nothing but a hole is left.
            break
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        data += position - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return data
