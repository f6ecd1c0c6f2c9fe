"""The largest memory while something runs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
"""Where Linux tells of this process."""


class Peak:
    """What `peak_memory` yields."""

    bytes: int | None = None
    """The largest memory, once the block is left; None where it is not known."""


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch the memory inside the `with` block: of the accelerator where there is one, else of the process on Linux.

    Yields:
        What holds the largest memory afterwards.
    """
    peak = Peak()
    on_gpu = torch.cuda.is_available()
    known = True
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        known = _forget_peak()
    yield peak
    if on_gpu:
        peak.bytes = torch.cuda.max_memory_allocated()
    elif known:
        peak.bytes = _peak_of_process()


def _forget_peak() -> bool:
    """Let Linux begin anew with the largest resident size of this process, and tell whether it did."""
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")
        return True
    return False


def _peak_of_process() -> int | None:
    """The largest resident size since then."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text())
        return None if found is None else 1024 * int(found[1])
    return None
