"""Advisory locks on folders, which the system releases when their process ends, however it ends.

They hold between processes of one machine. Where the file system or the platform has none, everything works without them.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

POLL = 0.05
"""Seconds between two tries."""
_READ_HERE: Counter[tuple[int, int]] = Counter()
"""How often this process reads each folder now, by device and inode: it does not wait for itself."""


class BusyError(Exception):
    """Another process holds the lock."""


def take(folder: Path, *, shared: bool = False, patience: float = 0.0) -> int | None:
    """Lock a folder.

    Args:
        folder: An existing folder.
        shared: Whether others may hold a shared lock at the same time.
        patience: For how many seconds to try; not at all where this very process keeps the folder `undisturbed`.

    Returns:
        A descriptor; closing it releases the lock. None where folders cannot be locked.

    Raises:
        BusyError: Another process holds it, or this one reads what it wants for itself alone.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    until = time.monotonic() + (patience if shared or not _READ_HERE[_identity(descriptor)] else 0)
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise BusyError(folder) from None
            time.sleep(POLL)
        except OSError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise


def release(descriptor: int | None) -> None:
    """Release what `take` gave.

    Args:
        descriptor: The descriptor; nothing happens when it is None.
    """
    if descriptor is not None:
        os.close(descriptor)


@contextmanager
def undisturbed(folder: Path, *, patience: float = 10.0) -> Iterator[None]:
    """Keep other processes from replacing a folder while it is read inside the `with` block.

    Args:
        folder: A folder; nothing happens where it is none, or cannot be locked.
        patience: For how many seconds to wait for a process that is replacing it, which takes a moment.

    Yields:
        Nothing.
    """
    descriptor = None
    if folder.is_dir():
        with suppress(BusyError):
            descriptor = take(folder, shared=True, patience=patience)
    if descriptor is None:
        yield
        return
    mine = _identity(descriptor)
    try:
        _READ_HERE[mine] += 1
        yield
    finally:
        _READ_HERE[mine] -= 1
        release(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    """What tells a folder from others, whatever it is called."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@contextmanager
def locked(folder: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder inside the `with` block.

    Args:
        folder: An existing folder.
        shared: Whether others may hold a shared lock at the same time.
        patience: For how many seconds to try.

    Yields:
        Nothing.

    Raises:
        BusyError: Another process holds it.
    """
    descriptor = take(folder, shared=shared, patience=patience)
    try:
        yield
    finally:
        release(descriptor)
