"""Whatever becomes of a file, its loader says so in a sentence, in little time and memory."""

import json
import logging
import os
import random
import resource
import signal
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from file_loaders import Loader, loaders, mutated

from hf_untangle.errors import UntangleError

MEGABYTES, SECONDS = 300, 1.0
"""More memory, and processor time, than any file may take."""
PATIENCE = 30
"""Seconds after which a loader that waits is interrupted."""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Loader]:
    """A file for every loader."""
    return loaders(tmp_path_factory.mktemp("files"))


def _too_long(*_: object) -> None:
    raise TimeoutError(f"did not come back within {PATIENCE} seconds")


@contextmanager
def bounded() -> Iterator[None]:
    """Let what runs inside have 300 MB more address space than there is in use, and some patience."""
    if not Path("/proc/self/statm").exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, hard))
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fault_of(loader: Loader) -> str | None:
    """What is wrong with the way in which a file was loaded or refused; None when nothing is."""
    start = time.process_time()
    try:
        with bounded():
            loader.load()
    except UntangleError as error:
        message = str(error)
        named = str(loader.file.parent) in message or loader.names_keys
        if "\n" in message or len(message) > 2000 or not named:
            return f"{type(error).__name__}: {message[:300]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    taken = time.process_time() - start
    return None if taken < SECONDS else f"took {taken:.1f} seconds"


def faults(name: str, loader: Loader, count: int) -> Counter[str]:
    """What goes wrong with so many mutations of a file."""
    content, found = loader.file.read_bytes(), Counter[str]()
    draws = random.Random(zlib.crc32(name.encode()))
    try:
        for number in range(count):
            loader.file.write_bytes(mutated(loader, content, draws))
            if fault := fault_of(loader):
                found[f"{name} {number}: {fault}"] += 1
    finally:
        loader.file.write_bytes(content)
    return found


def test_every_file_loads_as_it_is(files):
    assert len(files) >= 14
    for loader in files.values():
        loader.load()


@pytest.mark.filterwarnings("ignore")
def test_a_mutated_file_is_refused_in_a_sentence(files, caplog):
    caplog.set_level(logging.CRITICAL)
    found = sum((faults(name, loader, 2 if loader.slow else 25) for name, loader in files.items()), Counter())
    assert not found, json.dumps(found, indent=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_twenty_thousand_mutated_files_are_refused_in_a_sentence(files, caplog):
    caplog.set_level(logging.CRITICAL)
    quick = sum(not loader.slow for loader in files.values())
    slow = len(files) - quick
    counts = {name: 400 if loader.slow else -(-(20_000 - 400 * slow) // quick) for name, loader in files.items()}
    found = sum((faults(name, loader, counts[name]) for name, loader in files.items()), Counter())
    print(f"{found.total()} unclean of {sum(counts.values())} mutated files over {len(files)} loaders")
    assert not found, json.dumps(found, indent=1)
